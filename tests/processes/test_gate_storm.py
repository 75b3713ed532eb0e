"""A fact for thousands of jobs at once, and the keeper is killed while it lets them go."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

pytestmark = pytest.mark.processes

JOBS = 4_000
"""Three transactions of the storm and more."""
GATED = """
gates: {go: {until: facts.go}}
stages:
  - {name: wait, type: gate, config: {gate: go}}
  - {name: two, type: work, depends_on: [wait]}
"""


async def test_a_storm_of_releases_survives_its_keeper(site: Any) -> None:
    """C2, K2: every job is let go exactly once, whatever the keeper had got to. No agents here:
    each release is one event in the next stage's topic, and stays there."""
    site.pipeline("p", GATED)
    site.start("keeper", "--keeper")
    jobs = [f"j{n}" for n in range(JOBS)]
    await site.submit(*jobs)

    topics = site.naming()
    await site.info()
    async with site.reading(topics.ledger) as rows, site.reading(topics.stage("two")) as released:

        async def all_wait() -> bool:
            return len(await rows()) >= 3 * JOBS

        async def some(least: int) -> bool:
            return len(await released()) >= least

        await site.until(all_wait)
        await site.say("j7", "fact", facts={"go": True})
        await site.until(lambda: some(1))
        assert [record.key for record in await released()] == [b"j7"]
        await site.say(None, "fact", everywhere=True, facts={"go": True})
        while not await some(2):
            await site.clock.sleep(0.001)
        site.kill("keeper")
        half = len(await released())
        site.start("keeper", "--keeper")
        await site.until(lambda: some(JOBS))
        await site.clock.sleep(0.5)

        assert half < JOBS
        counts = Counter((record.key or b"").decode() for record in await released())
        assert counts == dict.fromkeys(jobs, 1)
