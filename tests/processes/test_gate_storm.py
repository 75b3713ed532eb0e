"""A fact for thousands of jobs at once, and the keeper is killed while it lets them go."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from streams.broker.port import TopicPartition

pytestmark = pytest.mark.processes

JOBS = 4_000
"""Three transactions of the storm and more."""
GATED = """
gates: {go: {until: facts.go}}
stages:
  - {name: wait, type: gate, config: {gate: go}}
  - {name: two, type: work, depends_on: [wait]}
"""


async def high(site: Any, topic: str) -> int:
    """Records ever written to a topic."""
    spec = (await site.log.topics())[topic]
    places = [TopicPartition(topic, n) for n in range(spec.partitions)]
    return sum(mark.high for mark in (await site.log.watermarks(places)).values())


async def test_a_storm_of_releases_survives_its_keeper(site: Any) -> None:
    """C2, K2: every job is let go exactly once, whatever the keeper had got to. No agents here:
    each release is one event in the next stage's topic, and stays there."""
    site.pipeline("p", GATED)
    site.start("keeper", "--keeper")
    jobs = [f"j{n}" for n in range(JOBS)]
    await site.submit(*jobs)

    async def all_wait() -> bool:
        return await high(site, "default.p.ledger") >= 3 * JOBS

    await site.until(all_wait)
    await site.say("j7", "fact", facts={"go": True})

    async def released(least: int) -> bool:
        return await high(site, "default.p.two") >= least

    await site.until(lambda: released(1))
    assert await high(site, "default.p.two") == 1
    await site.say(None, "fact", everywhere=True, facts={"go": True})
    while not await released(2):
        await site.clock.sleep(0.001)
    site.kill("keeper")
    half = await high(site, "default.p.two")
    site.start("keeper", "--keeper")
    await site.until(lambda: released(JOBS))
    await site.clock.sleep(0.5)

    assert half < JOBS
    keys = await site._keys("default.p.two")
    assert Counter(keys) == dict.fromkeys(jobs, 1)
