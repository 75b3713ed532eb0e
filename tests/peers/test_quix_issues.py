"""What users of Quix Streams complained of, as tests: what holds here instead."""

import asyncio

import pytest

from streams.broker.local import LocalLog
from streams.broker.port import TopicPartition
from streams.clock import ManualClock, SystemClock
from streams.engine.messages import SUBMIT
from streams.errors import OffsetLost
from streams.event import Event
from streams.testing.faults import Fault
from tests.peers.waiting import ended, ok, released_by
from tests.unit.runtime.rig import NAMING, Rig, running

ONE = "stages:\n  - {name: one, type: t}\n"
GATED = "gates: {go: {after: one, until: facts.go}}\n" + ONE + "  - {name: two, type: t}\n"
AGENT = "t.p.pool-default.a"
GROUP = NAMING.pool_group("default")
PLACE = TopicPartition(NAMING.stage("one"), 0)
YEAR = 365 * 24 * 3600


# -- waiting --------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["job", "fact"])
async def test_a_job_waits_for_batch_processed_whichever_comes_first(tmp_path, first):
    """quixio/quix-streams#553: wait for a "batch processed" on another topic, with state. Here that
    is a gate on a fact: it holds the job alone, and may be set before the job is there."""
    text = GATED.replace("facts.go", "facts.batch_processed == true")
    async with running(Rig(tmp_path, text, stages={"t": ok})) as rig:
        await rig.submit("other")
        if first == "fact":
            await rig.signal("fact", facts={"batch_processed": True})
            await rig.until(lambda: early_signals(rig, 1))
        await rig.submit()
        if first == "job":
            await rig.view_when("j", "waiting")
            await rig.signal("fact", facts={"batch_processed": True})

        assert (await rig.view_when()).status == "succeeded"
        assert (await rig.view_when("other", "waiting")).waiting_for is not None
        assert ("two", "other") not in rig.ran


async def early_signals(rig, count):
    return len([part for part in await rig.rows() if part.startswith("@early/")]) == count


async def test_a_join_fires_though_one_input_was_complete_before_the_restart(tmp_path):
    """quixio/quix-streams#1117: after a restart a join stalled when one of its inputs had nothing
    new. Here the arrival of before is a row, and the other one completes it."""
    text = """
    stages:
      - {name: lookup, type: t}
      - {name: source, type: slow}
      - {name: joined, type: t, depends_on: [lookup, source]}
    """
    gate = asyncio.Event()
    async with Rig(tmp_path, text, stages={"t": ok, "slow": released_by(gate)}) as rig:
        first = rig.start(rig.worker("first"))
        await rig.submit()
        await rig.until(lambda: has_row(rig, "joined~lookup"))
        await rig.kill(first, "first")
        assert ("joined", "j") not in rig.ran
        gate.set()
        rig.start(rig.worker("second"))

        assert (await rig.view_when(seconds=60)).status == "succeeded"
        assert rig.ran.count(("lookup", "j")) == rig.ran.count(("joined", "j")) == 1


async def has_row(rig, part):
    return part in await rig.rows()


async def test_an_open_job_is_never_swept_however_old_it_is(tmp_path):
    """quixio/quix-streams#1129: when state got a time to live, filled stores had to be migrated so as
    not to lose what was in them. Here only a job that has ended has one; this one waits two years."""
    text = "retention: {jobs: 1h}\n" + GATED
    async with running(Rig(tmp_path, text, stages={"t": ok})) as rig:
        await rig.submit()
        await rig.view_when("j", "waiting")
        rig.clock.advance(2 * YEAR)
        await rig.pass_time(5)
        await rig.signal("fact", facts={"go": True})

        assert (await rig.view_when()).status == "succeeded"


async def test_an_event_from_1970_is_kept_as_long_as_any_other(tmp_path):
    """quixio/quix-streams#1141: a record without a timestamp got an expiry in 1970 and was swept at
    once. Here retention counts from the job's end by the log's time, whatever an event says."""
    text = "retention: {jobs: 1h}\n" + ONE
    async with running(Rig(tmp_path, text, stages={"t": ok})) as rig:
        event = Event(
            id="j", source="/test", type=SUBMIT, data=b"{}", time="1970-01-01T00:00:00Z",
            datacontenttype="application/json", extensions={"job": "j"},
        )  # fmt: skip
        await rig.publish(NAMING.intake, event)
        await rig.view_when()
        rig.clock.advance(3_590)
        await rig.pass_time(1)
        assert "@job" in await rig.rows()
        rig.clock.advance(10)
        await rig.until(lambda: is_gone(rig))


async def is_gone(rig):
    return not await rig.rows()


# -- recovery -------------------------------------------------------------------------------


async def test_recovery_ends_where_the_last_records_are_markers(tmp_path):
    """quixio/quix-streams#1017: recovery waited for ever for a control record at the end of the
    changelog that had been cleaned away. Here a position at the end is the end."""
    clock = ManualClock()
    log = LocalLog.open(None, clock=clock, offset_gaps=True)
    async with Rig(tmp_path, GATED, stages={"t": ok}, clock=clock, inner=log) as rig:
        await rig.during(rig.start_both())
        await rig.submit()
        await rig.view_when("j", "waiting")
        place = TopicPartition(NAMING.ledger, 0)
        high = (await rig.log.watermarks([place]))[place].high
        last = (await rig.records(NAMING.ledger))[-1].offset
        await rig.kill(rig.tasks[0], "k")
        keeper = await rig.during(rig.keeper("other"))
        rig.start(keeper)
        await rig.until(lambda: keeper.owned, seconds=20)
        await rig.signal("fact", facts={"go": True})

        assert high == last + 2
        assert (await rig.view_when()).status == "succeeded"


async def test_a_changelog_of_one_record_is_recovered(tmp_path):
    """quixio/quix-streams#769: recovery from exactly one changelog message did not work. Here the
    one row, a signal that came before its job, is there for the next keeper."""
    async with Rig(tmp_path, GATED, stages={"t": ok}) as rig:
        keeping = rig.start(await rig.keeper())
        await rig.signal("fact", facts={"go": True})
        await rig.until(lambda: early_signals(rig, 1))
        await rig.kill(keeping, "k")
        assert len(await rig.records(NAMING.ledger)) == 1
        rig.start(await rig.keeper("other"))
        rig.start(await rig.agent())
        await rig.submit()

        assert (await rig.view_when()).status == "succeeded"


async def test_a_rebalance_in_the_middle_of_a_recovery_holds_nobody_up(tmp_path):
    """quixio/quix-streams#1067: a rebalance during recovery gave an invalid offset, and the worker
    was stuck in recovery. Here whoever owns the partition in the end restores it, and goes on."""
    async with Rig(tmp_path, GATED, partitions=4, stages={"t": ok}) as rig:
        keeping = rig.start(await rig.keeper("first"))
        rig.start(await rig.agent())
        jobs = [f"j{n}" for n in range(8)]
        for job in jobs:
            await rig.submit(job)
            await rig.view_when(job, "waiting")
        await rig.kill(keeping, "first")
        rig.log.muted.add(NAMING.ledger)
        second, third = await rig.keeper("second"), await rig.keeper("third")
        rig.start(second)
        await rig.pass_time(15)
        rig.start(third)
        await rig.pass_time(15)
        assert (second.owned, third.owned) == (frozenset(), frozenset())
        rig.log.muted.clear()
        await rig.until(lambda: len(second.owned) == len(third.owned) == 2, seconds=60)
        await rig.signal("fact", None, facts={"go": True}, **{"global": True})

        assert {(await rig.view_when(job)).status for job in jobs} == {"succeeded"}


async def test_a_committed_offset_that_is_gone_ends_the_worker_with_words(tmp_path):
    """quixio/quix-streams#1114: with its committed offset below the retained ones an app stayed
    alive and did nothing. Here the worker ends, and says which position it lost."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        task = rig.start(rig.worker())
        await rig.submit("before")
        await rig.view_when("before")
        worker = rig.worker("next")
        await rig.kill(task, "w")
        for n in range(3):
            await rig.publish(PLACE.topic, Event(id=f"{n}", source="/x", type="x"), partition=0)
        await rig.log.trim({PLACE: 3})
        task = await ended(rig, rig.start(worker))

        assert isinstance(task.exception(), OffsetLost)
        assert PLACE.topic in str(task.exception())


async def test_a_group_that_never_committed_begins_with_the_oldest_job(tmp_path):
    """quixio/quix-streams#817: with `latest` a new state store waited for new messages only. Here
    nothing is ever skipped to the end: what was submitted before the first worker is done."""
    async with Rig(tmp_path, ONE, partitions=2, stages={"t": ok}) as rig:
        for n in range(4):
            await rig.submit(f"j{n}")
        rig.start(rig.worker())
        views = [await rig.view_when(f"j{n}") for n in range(4)]

        assert {view.status for view in views} == {"succeeded"}


# -- rebalances -----------------------------------------------------------------------------


async def test_a_partition_that_was_paused_is_read_again_when_it_comes_back(tmp_path):
    """quixio/quix-streams#1125: partitions stayed paused after a rebalance. Here one that is full,
    is given away full, and comes back, is worked off to the last job."""
    async with running(Rig(tmp_path, ONE, stages={"t": ok})) as rig:
        agent = rig.agents[0]
        await rig.signal("pause", None, stage="one")
        await rig.until(lambda: agent._control.table.is_paused("one"))
        for n in range(600):
            await rig.submit(f"j{n}")
        await rig.until(lambda: agent.in_hand >= 256)
        other = await rig.agent("0")
        task = rig.start(other)
        await rig.until(lambda: other.owned and not agent.owned)
        await rig.until(lambda: other.in_hand >= 256)
        other.leave(1.0)
        await ended(rig, task)
        await rig.until(lambda: agent.owned)
        await rig.signal("resume", None, stage="one")

        await rig.until(lambda: all_done(rig, 600), seconds=60)
        assert len(rig.ran) == 600


async def all_done(rig, count):
    return len(await rig.done()) == count


async def test_two_workers_with_one_folder_hand_their_state_over(tmp_path):
    """quixio/quix-streams#1131: replicas that shared a state volume fought for its locks in endless
    rebalances. Here a killed owner's folder holds nobody up, nor does a living neighbour."""
    copies = tmp_path / "copies"
    async with Rig(tmp_path, GATED, partitions=4, stages={"t": ok}) as rig:
        killed = rig.start(rig.worker("first", snapshots=copies))
        jobs = [f"j{n}" for n in range(8)]
        for job in jobs:
            await rig.submit(job)
            await rig.view_when(job, "waiting")
        second, third = (rig.worker(name, snapshots=copies) for name in ("second", "third"))
        rig.start(second)
        await rig.until(lambda: second.keeper and len(second.keeper.owned) == 2, seconds=60)
        await rig.kill(killed, "first")
        rig.start(third)
        await rig.until(lambda: third.keeper and len(third.keeper.owned) == 2, seconds=60)
        await rig.signal("fact", None, facts={"go": True}, **{"global": True})

        assert {(await rig.view_when(job)).status for job in jobs} == {"succeeded"}
        assert sorted(job for stage, job in rig.ran if stage == "two") == jobs


# -- messages -------------------------------------------------------------------------------


async def test_what_was_not_delivered_is_not_committed(tmp_path):
    """quixio/quix-streams#333: whether what was produced had been delivered was not looked at. Here
    it is one transaction with the offset: while that is refused the position stays."""
    refused = []
    rig = Rig(tmp_path, ONE, stages={"t": ok})

    def refuse(name, number, transaction):
        if name == AGENT and transaction.records and len(refused) < 5:
            refused.append(number)
            return Fault.ABORTED
        return None

    rig.log.choose = refuse
    async with running(rig):
        await rig.submit()
        await rig.until(lambda: len(refused) == 3)
        found = (await rig.log.positions(GROUP)).get(PLACE)
        assert found is None or found.offset == 0
        assert "one" not in await rig.rows()
        await rig.view_when()

        assert (await rig.log.positions(GROUP))[PLACE].offset == 1
        assert rig.ran == [("one", "j")]


async def test_an_aggregate_larger_than_a_message_may_be_reaches_the_next_stage(tmp_path):
    """quixio/quix-streams#486: collected values outgrew the largest message. Here a large output
    goes to the blob store, its address travels, and no record comes near a broker's limit."""
    text = """
    stages:
      - {name: collect, type: collect}
      - {name: count, type: count, depends_on: [collect]}
    """
    stages = {
        "collect": lambda ctx: {"values": ["x" * 1_000] * 3_000},
        "count": lambda ctx: len(ctx.inputs.value["values"]),
    }
    async with running(Rig(tmp_path, text, stages=stages, clock=SystemClock())) as rig:
        await rig.submit()
        view = await rig.view_when()
        topics = (NAMING.ledger, NAMING.hold, NAMING.stage("count"), NAMING.done)
        records = [record for topic in topics for record in await rig.records(topic)]
        largest = max(len(record.value or b"") for record in records)

        assert view.stages["count"].outputs == 3_000
        assert largest < 10_000


async def test_without_a_broker_a_job_survives_the_end_of_its_process(tmp_path):
    """quixio/quix-streams#921: use it without Kafka. Here the log is one file: a job that waits
    when everything is closed goes on when the file is opened again."""
    path, clock = tmp_path / "log.db", SystemClock()
    async with Rig(
        tmp_path, GATED, stages={"t": ok}, clock=clock, inner=LocalLog.open(path, clock=clock)
    ) as rig:
        await rig.start_both()
        await rig.submit()
        await rig.view_when("j", "waiting")
        for who in (*rig.agents, *rig.keepers):
            who.leave()
        await rig.until(lambda: all(task.done() for task in rig.tasks))
    again = LocalLog.open(path, clock=clock)
    async with Rig(tmp_path, GATED, stages={"t": ok}, clock=clock, inner=again) as rig:
        await rig.start_both()
        await rig.signal("fact", facts={"go": True})

        assert (await rig.view_when()).status == "succeeded"
        assert rig.ran == [("two", "j")]
