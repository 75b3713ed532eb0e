"""`streams worker` as it is started in earnest: names, seats, pools, several processes."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

pytestmark = pytest.mark.processes

TWO = "stages:\n  - {name: one, type: work}\n  - {name: two, type: brief}\n"

LONG_SEATS = {
    "STREAMS_KAFKA__OPTIONS": '{"session.timeout.ms": 40000, "max.poll.interval.ms": 60000}',
}
"""A process may take its time to start again on a busy machine."""


async def workers_of(site: Any, *jobs: str, stage: str = "one") -> set[str]:
    """Who ran this stage of these jobs, all of which have succeeded."""
    views = await site.until_ended(list(jobs))
    assert {view.status for view in views.values()} == {"succeeded"}
    return {view.stages[stage].worker for view in views.values()}


async def test_a_killed_worker_comes_back_to_its_seat(site: Any) -> None:
    """R3, KIP-345: under its old name it takes its partitions at once, and the other worker does
    not hear of it; under a new one both would wait for the dead one's session to end."""
    site.pipeline("p", TWO)
    site.worker("keeper", "--stage", "two", "--keeper", "yes")
    site.worker("first", "--stage", "one", "--keeper", "no", **LONG_SEATS)
    site.worker("second", "--stage", "one", "--keeper", "no", **LONG_SEATS)
    await site.settled(3)
    jobs = [f"a{n}" for n in range(24)]
    await site.submit(*jobs)
    before = await workers_of(site, *jobs)
    moves = len(site.said("partition.assigned"))

    site.kill("second")
    site.worker("second", "--stage", "one", "--keeper", "no", **LONG_SEATS)
    jobs = [f"b{n}" for n in range(24)]
    await site.submit(*jobs)
    after = await workers_of(site, *jobs)

    assert len(before) == 2
    assert after == before
    assert len(site.said("partition.assigned")) == moves + 1
    assert site.said("partition.lost") == []


async def test_several_processes_share_the_work_and_a_dead_one_is_replaced(site: Any) -> None:
    """`--processes 2`: each has a name of its own, and the next one of a slot has the same."""
    site.pipeline("p", TWO)
    site.worker("keeper", "--stage", "two", "--keeper", "yes")
    site.worker("pair", "--processes", "2", "--stage", "one", "--keeper", "no")
    await site.settled(3)
    first = [f"a{n}" for n in range(24)]
    await site.submit(*first)
    before = await workers_of(site, *first)

    os.kill(site.children("pair")[0], signal.SIGKILL)
    second = [f"b{n}" for n in range(24)]
    await site.submit(*second)
    after = await workers_of(site, *second)
    assert len(before) == 2
    assert after == before
    assert site.stop("pair") == 0


async def test_a_given_name_is_taken_and_each_process_adds_its_number(site: Any) -> None:
    """A StatefulSet's pods have names that stay: they win over the folder's slots."""
    site.pipeline("p", TWO)
    site.worker("keeper", "--stage", "two", STREAMS_WORKER__NAME="front-0")
    site.worker("pair", "--processes", "2", "--stage", "one", "--keeper", "no",
                STREAMS_WORKER__NAME="back-3")  # fmt: skip
    await site.settled(3)
    jobs = [f"a{n}" for n in range(24)]
    await site.submit(*jobs)
    assert await workers_of(site, *jobs) == {"back-3-0", "back-3-1"}
    assert await workers_of(site, *jobs, stage="two") == {"front-0"}


async def test_pools_and_stages_are_served_by_who_was_started_for_them(site: Any) -> None:
    """`--pool`, `--stage a,b`, `--keeper`: three processes, each with a part of the work."""
    site.pipeline(
        "p",
        "stages:\n  - {name: one, type: work}\n  - {name: two, type: work, pool: gpu}\n"
        "  - {name: three, type: brief}\n  - {name: four, type: brief}\n",
    )
    site.worker("a", "--pool", "gpu", STREAMS_WORKER__NAME="gpu")
    site.worker("b", "--stage", "one,four", "--keeper", "no", STREAMS_WORKER__NAME="odd")
    site.worker("c", "--stage", "three", "--keeper", "no", STREAMS_WORKER__NAME="even")
    jobs = [f"a{n}" for n in range(12)]
    await site.submit(*jobs)
    views = await site.until_ended(jobs)
    ran = {(path, stage.worker) for v in views.values() for path, stage in v.stages.items()}
    assert ran == {("one", "odd"), ("two", "gpu"), ("three", "even"), ("four", "odd")}


async def test_a_worker_of_one_pool_needs_the_stages_of_that_pool_only(site: Any) -> None:
    """Machines of a GPU pool have libraries that the others have not: there the file's plugins
    cannot be loaded. Such a worker takes the plan as the others made it."""
    elsewhere = site.folder / "cpu"
    elsewhere.mkdir()
    site.pipeline(
        "p",
        "stages:\n  - {name: one, type: work, pool: gpu}\n  - {name: two, uses: here/say}\n",
        brings=["site_stages:stages", "here_only:say"],
    )
    (site.folder / "here_only.py").write_text(HERE_ONLY)
    text = (site.folder / "p.pipeline.yaml").read_text()
    (elsewhere / "p.pipeline.yaml").write_text(text)
    (elsewhere / "here_only.py").write_text(HERE_ONLY)
    site.worker("whole", "--pool", "gpu", STREAMS_WORKER__NAME="whole")
    await site.info()
    site.worker("part", "--pool", "default", "--keeper", "no", inside="cpu",
                STREAMS_WORKER__NAME="part")  # fmt: skip
    await site.submit("a")
    view = await site.until_job("a", "succeeded")
    assert {path: stage.worker for path, stage in view.stages.items()} == {
        "one": "whole", "two": "part",
    }  # fmt: skip
    assert len((await site.info()).plans) == 1


HERE_ONLY = """
from streams import tag

@tag("here", alias="say")
def say() -> str:
    return "said"
"""


async def test_work_that_a_worker_knows_nothing_of_waits_for_one_that_does(site: Any) -> None:
    """Stage agent 2: in a rolling upgrade the new version's events reach old workers, too. They
    are offered again, spend no attempt, and are no dead letters."""
    site.pipeline("p", "stages:\n  - {name: one, type: work}\n")
    site.worker("keeper", "--stage", "one", STREAMS_WORKER__NAME="keeper")
    make_old_project(site)
    site.worker("old", "--keeper", "no", inside="old", STREAMS_WORKER__NAME="old")
    await site.settled(2)
    site.pipeline("p", "version: 2\nstages:\n  - {name: one, type: brief}\n")
    site.kill("keeper")
    site.worker("keeper", "--stage", "one", STREAMS_WORKER__NAME="keeper")

    async def upgraded() -> bool:
        return (await site.info()).plan.version == "2"

    await site.until(upgraded)
    jobs = [f"a{n}" for n in range(8)]
    await site.submit(*jobs)

    async def some_wait() -> Any:
        views = await site.client.jobs()
        return [view for view in views if view.status == "retrying"]

    waiting = await site.until(some_wait)
    assert waiting[0].stages["one"].reason.startswith("no-capable-worker")
    site.stop("old")
    views = await site.until_ended(jobs)
    assert {view.status for view in views.values()} == {"succeeded"}
    assert {view.stages["one"].attempts for view in views.values()} == {1}
    assert await site.client.dead_letters("p") == []


def make_old_project(site: Any) -> None:
    """The project before the upgrade: it has the stage type `work` and no other."""
    old = site.folder / "old"
    old.mkdir()
    text = (site.folder / "p.pipeline.yaml").read_text()
    (old / "p.pipeline.yaml").write_text(text.replace("site_stages:stages", "old_stages:work"))
    (old / "old_stages.py").write_text(OLD_STAGES)
    (old / "site_stages.py").write_text((site.folder / "site_stages.py").read_text())


OLD_STAGES = """
from streams import stage

@stage(type="work")
async def work(ctx, given):
    return "by the old one"
"""
