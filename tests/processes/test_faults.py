"""kill -9 at any point: nothing is lost, nothing counts twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

pytestmark = pytest.mark.processes

BRANCHED = """
stages:
  - {name: one, type: brief}
  - {name: left, type: work, depends_on: [one]}
  - {name: right, type: brief, depends_on: [one]}
  - {name: both, type: work, depends_on: [left, right]}
"""


async def test_killed_workers_and_keepers_lose_and_double_nothing(site: Any) -> None:
    """Row 1: six deaths while 300 jobs flow; each job ends once, whole."""
    site.pipeline("p", BRANCHED)
    site.start_all()
    site.start("keeper-2", "--keeper")
    jobs = [f"j{n}" for n in range(300)]
    await site.submit(*jobs)
    for name, flag in (
        ("agents-1", "--agents"),
        ("keeper", "--keeper"),
        ("agents-2", "--agents"),
        ("keeper-2", "--keeper"),
        ("agents-1", "--agents"),
        ("keeper", "--keeper"),
    ):
        await site.clock.sleep(0.7)
        site.kill(name)
        site.start(name, flag)
    views = await site.until_ended(jobs, timeout=90)

    assert {view.status for view in views.values()} == {"succeeded"}
    assert sorted(await site.done_events()) == sorted(jobs)
    assert all(set(v.stages) == {"one", "left", "right", "both"} for v in views.values())


async def test_everything_at_once_is_killed_and_comes_back(site: Any) -> None:
    """Row 4: the log on disk is all that is needed."""
    site.pipeline(
        "p",
        "gates: {go: {after: one, until: facts.go}}\n"
        "stages:\n  - {name: one, type: brief}\n  - {name: two, type: work}\n",
    )
    site.start_all()
    jobs = [f"j{n}" for n in range(60)]
    await site.submit(*jobs)

    async def some_wait() -> bool:
        return len(await site.client.waiting("p")) > 10

    await site.until(some_wait)
    for name in ("agents-1", "agents-2", "keeper"):
        site.kill(name)
    site.start_all()

    async def all_wait() -> bool:
        return len(await site.client.waiting("p")) == 60

    await site.until(all_wait)
    await site.say(None, "fact", everywhere=True, facts={"go": True})
    await site.until_ended(jobs)
    assert sorted(site.side_effects("two")) == sorted(jobs)


async def test_an_event_that_kills_workers_is_set_aside(site: Any) -> None:
    """Row 19: at most a few deaths, then a dead letter; its neighbours go on."""
    site.pipeline("p", "stages:\n  - {name: one, type: deadly}\n")
    site.start("agents-1", "--agents")
    site.start("keeper", "--keeper")
    await site.submit("poison", "good1", "good2")

    async def restarted() -> bool:
        process = site.processes["agents-1"]
        if process.poll() is not None:
            site.start("agents-1", "--agents")
        views = {view.id: view for view in await site.client.jobs()}
        return len(views) == 3 and all(v.status in ("succeeded", "failed") for v in views.values())

    await site.until(restarted, timeout=90)
    poison = await site.job("poison")
    assert poison.status == "failed"
    assert poison.stages["one"].error.code == "S041"
    assert max(Counter(site.side_effects("one")).values()) <= 3
    letters = await site.client.dead_letters("p")
    assert [letter.job for letter in letters] == ["poison"]


async def test_broken_and_foreign_records_end_as_dead_letters(site: Any) -> None:
    """E1-E12 at the intake: the original bytes are kept, the next event is not delayed."""
    from streams.broker.port import Outgoing

    site.pipeline("p", "stages:\n  - {name: one, type: work}\n")
    site.start_all()
    await site.info()
    ours = site.naming()
    junk = [
        Outgoing(ours.intake, b"k", b"\xff\xfe junk", (("x", b"1"),)),
        Outgoing(ours.intake, None, None),
        Outgoing(ours.stage("one"), b"k", b"{}", (("content-type", b"application/json"),)),
        Outgoing(ours.hold, b"k", b"[]"),
    ]
    await site.log.publish(junk)
    await site.submit("a")
    await site.until_job("a", "succeeded")

    async def four() -> Any:
        letters = await site.client.dead_letters("p")
        return letters if len(letters) == 4 else None

    letters = await site.until(four)
    assert {letter.value for letter in letters} == {b"\xff\xfe junk", None, b"{}", b"[]"}


async def test_strangers_records_in_the_ledger_stop_nothing(site: Any) -> None:
    """Whoever may write there by mistake: coordinator, client and history pass them over."""
    from streams.broker.port import Outgoing
    from streams.client import Filter

    site.pipeline("p", "stages:\n  - {name: one, type: work}\n")
    site.start_all()
    await site.info()
    ledger = site.naming().ledger
    junk = [b"hello", b"", b"\x00", b'{"s": "SUCCESS"}', None]
    keys = [b"a|@job", b"a|one", b"\xff\xfe", b"nothing"]
    await site.log.publish(
        [Outgoing(ledger, k, v, partition=p) for k in keys for v in junk for p in range(4)]
    )
    await site.submit("a")
    view = await site.until_job("a", "succeeded")
    assert view.stages["one"].status == "succeeded"
    assert [job.id for job in await site.client.jobs(Filter("p"))] == ["a"]
    assert [each.status for each in await site.client.history("a", "p")][-1] == "succeeded"


async def test_one_submission_is_one_job_whatever_is_sent_twice(site: Any) -> None:
    """Row 23: equal sends are one; another body under the same id is `id-conflict`."""
    site.pipeline("p", "stages:\n  - {name: one, type: work}\n")
    site.start_all()
    for _ in range(3):
        await site.submit("a", data=1)
    await site.submit("a", data=2)
    await site.until_job("a", "succeeded")

    async def conflict() -> Any:
        return await site.client.dead_letters("p")

    letters = await site.until(conflict)
    assert [letter.reason for letter in letters] == ["V040"]
    assert site.side_effects("one") == ["a"]


async def test_large_values_go_round_the_log_and_leave_nothing_behind(site: Any) -> None:
    """Claim check: no orphan after the purge, no dangling reference before it."""
    site.pipeline(
        "p",
        "retention: {jobs: 1s}\nstages:\n  - {name: one, type: big}\n  - {name: two, type: measure}\n",
    )
    site.start_all()
    jobs = [f"j{n}" for n in range(10)]
    await site.submit(*jobs)

    async def started() -> bool:
        return len(site.side_effects("one")) >= 3

    await site.until(started)
    site.kill("agents-1")
    site.kill("keeper")
    site.start("agents-1", "--agents")
    site.start("keeper", "--keeper")

    async def all_done() -> bool:
        return sorted(await site.done_events()) == sorted(jobs)

    await site.until(all_done)

    async def purged() -> bool:
        return (
            await site.blobs.list_prefix(f"{site.settings.namespace}/p") == []
            and not await site.client.jobs()
        )

    await site.until(purged)


async def test_a_secret_is_in_no_row_log_or_dead_letter(site: Any) -> None:
    """K1: the value reaches the stage and nothing else."""
    site.configure("secrets_dir: keys\n")
    (site.folder / "keys").mkdir()
    (site.folder / "keys" / "api").write_text("sesame-42-sesame")
    site.pipeline(
        "p",
        "stages:\n  - {name: one, type: secretive, config: {token: '${{ secrets.api }}'}}\n",
    )
    site.start_all()
    await site.submit("a")
    view = await site.until_job("a", "failed")
    assert view.stages["one"].error.message == "RuntimeError: refused: ***"
    everything = b"".join(
        path.read_bytes()
        for path in site.folder.rglob("*")
        if path.is_file() and path.parent.name != "keys"
    )
    assert b"sesame-42-sesame" not in everything
