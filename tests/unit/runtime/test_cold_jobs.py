"""Jobs that are out of the keeper's memory behave like all others; here every job is, always."""

import asyncio
import sqlite3

import pytest

from streams.broker.port import TopicPartition
from streams.clock import SystemClock
from streams.runtime import state
from streams.testing.faults import Fault
from tests.unit.runtime.rig import NAMING, Rig, running

ONE = "stages:\n  - {name: one, type: t}\n"
GATED = "gates: {go: {after: one, until: facts.go}}\n" + ONE + "  - {name: two, type: t}\n"
KEEPER = "t.p.keeper.k"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(state, "ENDED_AT_HAND", 1)
    monkeypatch.setattr(state, "MOST_BYTES_AT_HAND", 0)


def ok(ctx):
    return {"of": ctx.stage_name}


async def gone(rig, job):
    return not await rig.rows(job)


def only_state(rig):
    (found,) = rig.keepers[-1].states
    return found


async def all_cold(rig):
    await rig.until(lambda: only_state(rig).table.rows_at_hand == 0)


async def kept_keeper(rig, folder, name="k"):
    """A keeper with a local copy of its ledger in `folder`, and its task."""
    rig.keepers.append(await rig.keeper(name, snapshots=folder))
    return rig.start(rig.keepers[-1])


async def test_a_second_submission_of_an_ended_job_is_refused_or_dropped(tmp_path):
    """CE-3: dedupe lasts as long as the job's rows, wherever they lie."""
    async with running(Rig(tmp_path, ONE, stages={"t": ok})) as rig:
        await rig.submit(data=1)
        await rig.view_when(status="succeeded")
        await all_cold(rig)
        await rig.submit(data=1)
        await rig.submit(data=2)
        await rig.until(rig.dead)
        assert await rig.dead() == ["V040"]
        assert rig.ran == [("one", "j")]
        assert await rig.done() == ["j"]


async def test_a_signal_to_an_ended_job_finds_it(tmp_path):
    """K9: facts, the answer in the job's row, and the retry of what failed."""
    outcomes = [RuntimeError("no"), "yes"]

    def once_failing(_):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    text = "stages:\n  - {name: one, type: t, retry: 0}\n"
    async with running(Rig(tmp_path, text, stages={"t": once_failing})) as rig:
        await rig.submit()
        await rig.view_when(status="failed")
        await all_cold(rig)
        await rig.signal("release", gate="go")
        view = await rig.until(lambda: answered(rig))
        assert view.last_signal.endswith("release: the job has ended")
        await all_cold(rig)
        await rig.signal("retry")
        view = await rig.view_when(status="succeeded")
        assert (view.epoch, view.stages["one"].outputs) == (2, "yes")
        assert await rig.done() == ["j", "j"]


async def answered(rig):
    view = await rig.view()
    return view if view.last_signal else None


async def test_a_job_that_waits_takes_an_index_entry_and_no_row(tmp_path):
    """Exactly the job whose fact is set goes on; then all the others, each once."""
    async with running(Rig(tmp_path, GATED, stages={"t": ok})) as rig:
        await rig.until(lambda: rig.keepers[0].owned)
        jobs = [f"j{n}" for n in range(20)]
        for job in jobs:
            await rig.submit(job)
        await rig.until(lambda: only_state(rig).table.count == 20 * 4)
        await all_cold(rig)
        assert len(only_state(rig).holds) == 20
        await rig.signal("fact", "j7", facts={"go": True})
        await rig.view_when("j7", "succeeded")
        assert [job for stage, job in rig.ran if stage == "two"] == ["j7"]
        await rig.signal("fact", None, facts={"go": True}, **{"global": True})
        await rig.until(lambda: len([1 for stage, _ in rig.ran if stage == "two"]) == 20)
        await rig.pass_time(2)
        assert sorted(job for stage, job in rig.ran if stage == "two") == sorted(jobs)


async def test_a_deadline_finds_its_job_in_the_cold(tmp_path):
    """K6."""
    text = (
        "gates: {go: {after: one, until: facts.go, timeout: 30s, on_timeout: continue}}\n"
        + ONE + "  - {name: two, type: t}\n"
    )  # fmt: skip
    async with running(Rig(tmp_path, text, stages={"t": ok})) as rig:
        await rig.submit()
        await rig.view_when(status="waiting")
        await all_cold(rig)
        await rig.pass_time(28)
        assert ("two", "j") not in rig.ran
        await rig.view_when(status="succeeded")


async def test_a_dead_letter_keeps_its_job_in_the_cold_for_a_month(tmp_path):
    """No purge before the dead topic's retention, and then it comes."""

    def fails(_):
        raise RuntimeError("no")

    text = "retention: {jobs: 1s}\nstages:\n  - {name: one, type: t, retry: 0}\n"
    async with running(Rig(tmp_path, text, stages={"t": fails})) as rig:
        await rig.submit()
        await rig.view_when(status="failed")
        await rig.pass_time(5)
        await all_cold(rig)
        assert len(only_state(rig).holds) == 0
        rig.clock.advance(29 * 24 * 3600)
        await rig.pass_time(5)
        assert await rig.rows()
        rig.clock.advance(24 * 3600)
        await rig.until(lambda: gone(rig, "j"))


@pytest.mark.parametrize("copied", [True, False], ids=["with the copy", "without it"])
async def test_an_ended_job_is_purged_on_time_after_a_restart(tmp_path, copied):
    """K8: its time lies in the cold, and in the rows for whoever has no copy."""
    folder = tmp_path / "copies"
    text = "retention: {jobs: 1h}\n" + ONE
    async with Rig(tmp_path, text, stages={"t": ok}) as rig:
        rig.start(await rig.agent())
        task = await kept_keeper(rig, folder)
        await rig.submit()
        await rig.view_when(status="succeeded")
        await all_cold(rig)
        await rig.kill(task, "k")
        if not copied:
            for path in folder.iterdir():
                path.unlink()
        await rig.pass_time(12)
        await kept_keeper(rig, folder, "k2")
        await rig.until(lambda: rig.keepers[-1].owned)
        rig.clock.advance(3_500)
        await rig.pass_time(20)
        assert await rig.rows()
        rig.clock.advance(80)
        await rig.until(lambda: gone(rig, "j"))
        await rig.until(lambda: only_state(rig).table.count == 0)


async def test_a_keeper_that_left_in_order_leaves_all_it_knew(tmp_path):
    """Its successor reads nothing again; what it did not know to have ended goes on."""
    folder = tmp_path / "copies"
    async with Rig(tmp_path, GATED, stages={"t": ok}) as rig:
        rig.start(await rig.agent())
        task = await kept_keeper(rig, folder)
        for job in ("waits", "ended"):
            await rig.submit(job)
        await rig.signal("fact", "ended", facts={"go": True})
        await rig.view_when("ended", "succeeded")
        await rig.view_when("waits", "waiting")
        rig.keepers[-1].leave()
        await rig.during(asyncio.wait([task]))
        rig.tasks.remove(task)
        place = TopicPartition(NAMING.ledger, 0)
        end = (await rig.log.watermarks([place]))[place].high

        rig.log.muted.add(NAMING.ledger)
        await kept_keeper(rig, folder, "k2")
        await rig.until(lambda: rig.keepers[-1].owned)
        assert only_state(rig).table.position == end
        assert only_state(rig).holds.has_gates("waits")
        rig.log.muted.clear()
        await rig.signal("fact", "waits", facts={"go": True})
        await rig.view_when("waits", "succeeded")
        await rig.pass_time(2)
        assert sorted(await rig.done()) == ["ended", "waits"]


@pytest.mark.parametrize("fault", [Fault.UNKNOWN, Fault.ABORTED, Fault.UNKNOWN_COMMITTED], ids=str)
async def test_what_left_the_memory_before_a_commit_failed_counts_once(tmp_path, fault):
    """The cold store has what stands in the log and nothing that was only decided."""
    folder = tmp_path / "copies"
    async with Rig(tmp_path, GATED, stages={"t": ok}) as rig:
        rig.start(await rig.agent())
        await kept_keeper(rig, folder)
        await rig.submit()
        await rig.view_when(status="waiting")
        await all_cold(rig)
        failed = []

        def fails(name, number, transaction):
            released = any(r.topic == NAMING.stage("two") for r in transaction.records)
            if name == KEEPER and released and not failed:
                failed.append(number)
                return fault
            return None

        rig.log.choose = fails
        await rig.signal("fact", facts={"go": True})
        await rig.view_when(status="succeeded")
        await rig.pass_time(2)
        assert failed
        assert rig.ran == [("one", "j"), ("two", "j")]
        assert await rig.done() == ["j"]


async def test_a_copy_that_goes_bad_under_the_keeper_costs_a_restore(tmp_path):
    """F35: it begins anew from the log; nothing is decided on what it cannot read."""
    folder = tmp_path / "copies"
    async with Rig(tmp_path, GATED, stages={"t": ok}) as rig:
        rig.start(await rig.agent())
        await kept_keeper(rig, folder)
        await rig.submit()
        await rig.view_when(status="waiting")
        await all_cold(rig)
        file: sqlite3.Connection = only_state(rig).table._cold._connection
        file.execute("UPDATE scopes SET data = zeroblob(length(data))")
        await rig.signal("fact", facts={"go": True})
        await rig.view_when(status="succeeded")
        assert rig.ran == [("one", "j"), ("two", "j")]
        assert rig.log.opened[KEEPER] == 2


async def test_a_disk_that_is_full_costs_memory_and_no_job(tmp_path, monkeypatch):
    """Row 16: jobs stay at hand; when there is room again they leave."""
    monkeypatch.setattr(state, "AFTER_A_FAULT", 5.0)
    folder = tmp_path / "copies"
    async with Rig(tmp_path, GATED, stages={"t": ok}) as rig:
        rig.start(await rig.agent())
        await kept_keeper(rig, folder)
        await rig.until(lambda: rig.keepers[-1].owned)
        file: sqlite3.Connection = only_state(rig).table._cold._connection
        assert file is not None
        file.execute("PRAGMA query_only = 1")
        for job in ("a", "b"):
            await rig.submit(job)
            await rig.view_when(job, "waiting")
        assert only_state(rig).table.rows_at_hand == 8
        await rig.signal("fact", "a", facts={"go": True})
        await rig.view_when("a", "succeeded")
        file.execute("PRAGMA query_only = 0")
        await all_cold(rig)
        await rig.signal("fact", "b", facts={"go": True})
        await rig.view_when("b", "succeeded")


async def test_a_copy_on_a_real_disk_serves_threads_and_blobs_too(tmp_path):
    """With the machine's clock, as in production."""
    rig = Rig(
        tmp_path, GATED, stages={"t": lambda _: "x" * 60_000}, clock=SystemClock(), partitions=2
    )
    async with rig:
        rig.start(await rig.agent())
        await kept_keeper(rig, tmp_path / "copies")
        for n in range(6):
            await rig.submit(f"j{n}")
        await rig.signal("fact", None, facts={"go": True}, **{"global": True})
        for n in range(6):
            await rig.view_when(f"j{n}", "succeeded")
        await rig.until(lambda: sum(s.table.rows_at_hand for s in rig.keepers[-1].states) == 0)
