"""Jobs of high priority pass a backlog of low ones: two worker processes, the keeper in a third."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from streams.client import Submission

pytestmark = pytest.mark.processes

LINE = """
stages:
  - {name: one, type: brief, concurrency: 4}
  - {name: two, type: work}
"""
BACKLOG = 6_000


async def submit(site: Any, priority: str, jobs: list[str]) -> None:
    info = await site.info()
    wanted = [Submission(id=job, priority=priority) for job in jobs]
    async for _ in site.client.submit_many(info, wanted):
        pass


async def test_high_jobs_pass_a_backlog_of_low_ones_through_a_kill_9_and_run_once(
    site: Any,
) -> None:
    """Issue 5.7: of thousands of low jobs hardly any ends before the high ones that came last; what
    was taken before its turn is not run again by the next owner."""
    site.pipeline("p", LINE)
    site.start("keeper", "--keeper")
    await site.info()
    low = [f"l{n}" for n in range(BACKLOG)]
    high = [f"h{n}" for n in range(20)]
    await submit(site, "low", low)
    await submit(site, "high", high)

    async def all_wait() -> bool:
        return len(await site.keys(site.naming().stage("one"))) == BACKLOG + 20

    await site.until(all_wait, timeout=60)
    site.start("agents-1", "--agents")
    site.start("agents-2", "--agents")
    await site.settled(2)

    async def some_have_ended() -> bool:
        return len(set(high) & set(await site.done_events())) >= 10

    await site.until(some_have_ended)
    assert len(await site.done_events()) < BACKLOG // 4
    site.kill("agents-1")
    site.start("agents-1", "--agents")

    async def all_have_ended() -> bool:
        return set(high) <= set(await site.done_events())

    await site.until(all_have_ended)
    ended = Counter(await site.done_events())

    assert set(ended.values()) == {1}
    assert set(high) <= set(site.side_effects("two"))
    assert (await site.job("h0")).priority == "high"
