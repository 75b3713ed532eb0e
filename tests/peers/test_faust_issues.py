"""What users of Faust complained of, as tests: commits, recovery, failures."""

import asyncio

import msgspec

from streams.broker.local import LocalLog
from streams.broker.port import Outgoing, TopicPartition
from streams.clock import ManualClock
from streams.engine.frontier import parse
from streams.outcome import Retry
from streams.runtime.setup import apply
from tests.peers.waiting import ended, ok
from tests.unit.runtime.rig import NAMING, Rig, running

ONE = "stages:\n  - {name: one, type: t}\n"
TWO = ONE + "  - {name: two, type: t, depends_on: [one]}\n"
GATED = "gates: {go: {after: one, until: facts.go}}\n" + TWO
GROUP = NAMING.pool_group("default")
PLACE = TopicPartition(NAMING.stage("one"), 0)
LEDGER = TopicPartition(NAMING.ledger, 0)


async def position(rig):
    """The committed offset of the stage's partition, and what stands beside it."""
    offset, metadata = (await rig.log.positions(GROUP))[PLACE]
    return offset, parse(offset, metadata)


# -- commits --------------------------------------------------------------------------------


async def test_no_offset_is_committed_past_a_message_that_still_runs(tmp_path):
    """faust-streaming/faust#606: with concurrency the offset of a later message was committed, and
    after a kill the slow one was lost. Here the successor is given it again."""
    gate = asyncio.Event()

    async def slow_first(ctx):
        if ctx.job_id == "first":
            await gate.wait()
        return ctx.job_id

    async with running(Rig(tmp_path, ONE, stages={"t": slow_first})) as rig:
        await rig.submit("first")
        await rig.until(lambda: rig.ran)
        for job in ("second", "third"):
            await rig.submit(job)
            await rig.view_when(job)
        assert (await position(rig))[0] == 0
        await rig.kill(rig.tasks[1], "a")
        gate.set()
        rig.start(await rig.agent("b"))
        view = await rig.view_when("first")

        assert view.stages["one"].outputs == "first"
        assert rig.ran.count(("one", "first")) == 2
        assert rig.ran.count(("one", "second")) == rig.ran.count(("one", "third")) == 1


async def test_a_gap_in_what_is_done_is_kept_beside_the_offset(tmp_path):
    """faust-streaming/faust#312: acknowledgements out of order committed the wrong offset. Here the
    offset stays at the first unfinished message, and beside it stands which others are."""
    gate = asyncio.Event()
    stages = {"t": lambda ctx: gate.wait() if ctx.job_id in ("j1", "j3") else "ok"}
    async with running(Rig(tmp_path, ONE, stages=stages)) as rig:
        for n in range(5):
            await rig.submit(f"j{n}")
        await rig.until(lambda: len(rig.ran) == 5)
        for job in ("j0", "j2", "j4"):
            await rig.view_when(job)
        offset, frontier = await position(rig)
        assert (offset, frontier[3], list(frontier[5])) == (1, 5, [3])
        gate.set()
        await rig.until(lambda: all_committed(rig, 5))


async def all_committed(rig, offset):
    return (await position(rig))[0] == offset


async def test_offsets_are_committed_over_gaps_in_the_log(tmp_path):
    """robinhood/faust#401: in a topic with gaps (compaction, transactions' markers) committing
    stopped and the lag grew. Here the position reaches the end."""
    clock = ManualClock()
    log = LocalLog.open(None, clock=clock, offset_gaps=True)
    async with Rig(tmp_path, ONE, stages={"t": ok}, clock=clock, inner=log) as rig:
        await rig.during(rig.start_both())
        for n in range(5):
            await rig.submit(f"j{n}")
            await rig.view_when(f"j{n}")
        high = (await rig.log.watermarks([PLACE]))[PLACE].high

        assert high == 10
        await rig.until(lambda: all_committed(rig, high - 1))


# -- recovery -------------------------------------------------------------------------------


async def test_an_empty_changelog_is_recovered_at_once(tmp_path):
    """faust-streaming/faust#597: a changelog partition that retention had emptied (low = high, not
    0) could not be recovered. Here the keeper takes it and the next job ends."""
    async with running(Rig(tmp_path, ONE, stages={"t": ok})) as rig:
        await rig.submit("before")
        await rig.view_when("before")
        await rig.kill(rig.tasks[0], "k")
        high = (await rig.log.watermarks([LEDGER]))[LEDGER].high
        await rig.log.trim({LEDGER: high})
        keeper = await rig.keeper("other")
        rig.start(keeper)
        await rig.until(lambda: keeper.owned, seconds=15)
        await rig.submit("after")

        assert high > 0
        assert (await rig.view_when("after")).status == "succeeded"


async def test_a_compacted_changelog_is_recovered_whole(tmp_path):
    """faust-streaming/faust#176: after compaction recovery waited for records that were gone. Here
    it goes by position, and the job that waited is still known."""
    async with running(Rig(tmp_path, GATED, stages={"t": ok})) as rig:
        await rig.submit()
        for n in range(50):
            await rig.signal("fact", facts={"n": n})
        await rig.view_when("j", "waiting")
        await rig.until(lambda: fifty_facts(rig))
        await rig.kill(rig.tasks[0], "k")
        while await rig.log.inner.maintain():
            pass
        records = await rig.records(NAMING.ledger)
        keeper = await rig.keeper("other")
        rig.start(keeper)
        await rig.signal("fact", facts={"go": True})

        assert len(records) < 10 < records[-1].offset
        assert (await rig.view_when()).status == "succeeded"


async def fifty_facts(rig):
    return len([part for part, _ in await rig.history() if part == "@fact/n"]) == 50


async def test_the_last_record_of_the_changelog_counts(tmp_path):
    """faust-streaming/faust#155: recovery was off by one at the changelog's end. Here the row that
    was written last of all is the one that lets the job go on."""
    async with running(Rig(tmp_path, GATED, stages={"t": ok})) as rig:
        await rig.submit()
        await rig.view_when("j", "waiting")
        last = (await rig.records(NAMING.ledger))[-1]
        await rig.kill(rig.tasks[0], "k")
        rig.start(await rig.keeper("other"))
        await rig.signal("fact", facts={"go": True})

        assert last.key == b"j|go"
        assert (await rig.view_when()).status == "succeeded"


async def test_a_local_copy_ahead_of_the_log_is_not_believed(tmp_path):
    """faust-streaming/faust#158: a persisted offset above the changelog's end crashed recovery for
    good. Here such a copy is dropped: jobs that only it knows are new, and run."""
    copies = tmp_path / "copies"
    async with Rig(tmp_path, ONE, stages={"t": ok}) as longer:
        leaving = longer.start(worker := longer.worker(snapshots=copies))
        for n in range(30):
            await longer.submit(f"j{n}")
        for n in range(30):
            await longer.view_when(f"j{n}")
        worker.leave()
        await ended(longer, leaving)
        layout = (await longer.control()).table.layout
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        same = msgspec.json.encode(layout)
        await rig.log.publish([Outgoing(NAMING.control, b"layout", same, (), 0)])
        rig.start(rig.worker(snapshots=copies))
        await rig.submit("j7")

        assert (await rig.view_when("j7")).status == "succeeded"
        assert rig.ran == [("one", "j7")]


async def test_a_shared_fact_is_the_same_for_all_workers(tmp_path):
    """faust-streaming/faust#283 and robinhood/faust#716: with several workers a global table was
    whole in one of them only. Here one fact releases every job that waits for it, whoever owns it, once each."""
    async with Rig(tmp_path, GATED, partitions=6, stages={"t": ok}) as rig:
        workers = [rig.worker(name) for name in ("u", "v", "w")]
        for worker in workers:
            rig.start(worker)
        await rig.until(lambda: all(w.keeper and len(w.keeper.owned) == 2 for w in workers))
        jobs = [f"j{n}" for n in range(12)]
        for job in jobs:
            await rig.submit(job)
            await rig.view_when(job, "waiting")
        await rig.signal("fact", None, facts={"go": True}, **{"global": True})
        views = [await rig.view_when(job) for job in jobs]

        assert {view.status for view in views} == {"succeeded"}
        assert sorted(job for stage, job in rig.ran if stage == "two") == sorted(jobs)


# -- failures, retries, time to live ----------------------------------------------------------


async def test_what_fails_for_good_is_kept_and_can_be_done_again(tmp_path):
    """robinhood/faust#376: no topic for failed events. Here the dead letter names its cause, and a
    retry of the job runs the failed stage alone, with the input it had."""
    broken = [True]

    def two(ctx):
        if ctx.stage_name == "two" and broken:
            raise ValueError("no table in this document")
        return ctx.stage_name

    async with running(Rig(tmp_path, TWO, stages={"t": two})) as rig:
        await rig.submit()
        assert (await rig.view_when()).status == "failed"
        (letter,) = await rig.records(NAMING.dead)
        broken.clear()
        await rig.signal("retry")

        assert b"no table in this document" in dict(letter.headers)["streams-dlq-error"]
        assert (await rig.view_when("j", "succeeded")).epoch == 2
        assert [stage for stage, _ in rig.ran] == ["one", "two", "two"]


async def test_an_event_that_is_handed_back_comes_again_whoever_works_then(tmp_path):
    """robinhood/faust#604: noack did not bring an event back after an exception or a rebalance.
    Here `Retry` parks it as a row; it comes to the next worker, and has spent no attempt."""
    seen = []

    def not_yet(ctx):
        seen.append(ctx.attempt)
        return Retry(30) if len(seen) == 1 else "now"

    async with Rig(tmp_path, ONE, stages={"t": not_yet}) as rig:
        worker = rig.worker("v")
        task = rig.start(worker)
        await rig.submit()
        await rig.view_when("j", "retrying")
        await rig.kill(task, "v")
        rig.start(rig.worker("w"))
        view = await rig.view_when(seconds=60)

        assert (view.stages["one"].outputs, view.stages["one"].worker) == ("now", "w")
        assert seen == [1, 1]


async def test_rows_of_a_finished_job_go_when_their_time_is_over(tmp_path):
    """faust-streaming/faust#515 and robinhood/faust#230: entries of tables without windows could not
    expire. Here every row of a job goes after the pipeline's retention, and out of the ledger."""
    text = "retention: {jobs: 1h}\n" + TWO
    async with running(Rig(tmp_path, text, stages={"t": ok})) as rig:
        await rig.submit()
        await rig.view_when()
        rig.clock.advance(3_590)
        await rig.pass_time(1)
        assert sorted(await rig.rows()) == ["@input", "@job", "one", "two"]
        rig.clock.advance(10)
        await rig.until(lambda: no_rows(rig))
        while await rig.log.inner.maintain(tombstones_ms=0):
            pass
        assert await rig.records(NAMING.ledger) == []


async def no_rows(rig):
    return not await rig.rows()


async def test_the_number_of_partitions_is_the_pipelines_own(tmp_path):
    """robinhood/faust#325: a table's changelog had other partitions than its source, and the app
    ended with a mismatch. Here the first apply fixes the number, and whatever comes later is given the same."""
    async with Rig(tmp_path, ONE, partitions=3, stages={"t": ok}) as rig:
        newer = rig.compiled("version: 2\n" + TWO)
        counted = await apply(rig.log, NAMING, newer, rig.clock, 8)
        topics = await rig.log.topics()

        assert counted == 3
        assert {topic.partitions for name, topic in topics.items() if name != NAMING.control} == {3}
