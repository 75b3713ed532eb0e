"""Rows of the plan of faults on a real broker, a tenth of their repeats (reliability.md §3c).

Two processes of agents and the keeper in a third work under load while something breaks; then the
rules C1 to C9, C14 and C15 are judged on what really stands in the topics. `streams chaos` runs the
same rows, with all their repeats.
"""

import asyncio
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from streams.broker.kafka import KafkaLog
from streams.broker.port import TopicSpec
from streams.clock import SystemClock
from streams.testing.chaos.context import Context, under_load
from streams.testing.chaos.ground import Ground
from streams.testing.chaos.rows import ROWS, Run
from streams.testing.chaos.rows_state import offsets_deleted, offsets_trimmed
from streams.testing.chaos.run import Order, run
from streams.testing.chaos.verdict import Verdict
from streams.testing.checker.check import check

SLACK = 3.0
"""CI machines have two cores, and other work: limits of time are so many times wider."""

AT_A_TIME = 3
TRIMMED = 26
"""Of this one, the half that can run beside others."""
BESIDE = (31, 19, 27, TRIMMED, 20, 23, 36)
"""The longest first."""

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(can_run_kafka, tmp_path_factory):
    """A broker that may be killed, with a proxy in front of it for the workers."""
    made = Ground(tmp_path_factory.mktemp("faults") / "broker")
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def beside(ground, tmp_path_factory):
    """Row → what it breaks, or how it failed, of those that touch nothing but their own pipeline.
    Most of their time is waiting: some run at the same time, and nothing else does meanwhile."""
    turn = asyncio.Semaphore(AT_A_TIME)

    async def judged(number: int) -> list[str]:
        async with turn:
            run = offsets_trimmed if number == TRIMMED else None
            return await broken(ground, tmp_path_factory.mktemp("row"), number, run)

    found = await asyncio.gather(*(judged(each) for each in BESIDE), return_exceptions=True)
    return dict(zip(BESIDE, found, strict=True))


async def broken(ground: Ground, folder: Path, number: int, run: Run | None = None) -> list[str]:
    """What the row, or a part of it, breaks."""
    verdict = Verdict(number, ROWS[number].fault)
    await (run or ROWS[number].run)(a_context(ground, folder), verdict)
    print(verdict.as_object())
    return verdict.violations


def a_context(ground: Ground, folder: Path) -> Context:
    return Context(folder, ground.bootstrap, ground.direct, 1, ground, slack=SLACK)


async def test_workers_told_to_end_do_so_in_order_and_leave_nothing_on_a_cluster(kafka, tmp_path):
    """Row 2: exit code 0 within ten seconds, nothing lost. `streams chaos --kafka`: a namespace of
    its own, and no topic of it afterwards."""
    order = Order(folder=tmp_path, kafka=kafka, repeats=3, slack=SLACK)
    (verdict,) = [each async for each in run([ROWS[2]], order, print)]

    assert verdict.violations == []
    assert verdict.repeats == 3
    log = KafkaLog.open(kafka, clock=SystemClock())
    try:
        assert [name for name in await log.topics() if name.startswith("chaos-")] == []
    finally:
        await log.close()


async def test_a_run_without_faults_breaks_no_rule_and_is_judged_whole(ground, tmp_path):
    """C1-C9: the judge reads thousands of records in hundreds of transactions, all of them."""
    verdict = Verdict(0, "none")
    judged = await under_load(a_context(ground, tmp_path), verdict, [], most=0)

    assert verdict.violations == []
    assert len(judged.history.records) > 2_000
    assert len(judged.history.transactions) > 50
    assert {each.outcome for each in judged.history.transactions.values()} == {"committed"}
    assert all(each.offsets for each in judged.history.transactions.values() if each.membership)
    assert {name for name, mutant in mutants(judged.history) if not check(mutant)} == set()


def mutants(history):
    """The honest history of a real broker, each time with one thing in it that must not be."""
    writes = [
        r for r in history.records if r.place.topic == history.naming.ledger and r.transaction
    ]
    inputs = [r for r in history.records if r.place.topic == history.naming.stage("fetch")]
    done = [r for r in history.records if r.place.topic == history.naming.done]
    some = history.transactions[writes[len(writes) // 2].transaction]

    def with_records(records):
        return msgspec.structs.replace(history, records=records)

    def with_transaction(**changed):
        mutant = msgspec.structs.replace(some, **changed)
        return msgspec.structs.replace(
            history, transactions={**history.transactions, some.id: mutant}
        )

    yield "an event is lost", with_records([r for r in history.records if r is not inputs[9]])
    yield "a row is lost", with_records([r for r in history.records if r is not writes[99]])
    yield "an end is told twice", with_records([*history.records, done[3]])
    yield "one transaction was aborted", with_transaction(outcome="aborted")
    yield "one finished nothing", with_transaction(offsets={})


async def test_workers_killed_at_any_point_lose_and_double_nothing(ground, tmp_path):
    """Row 1: at random, and at each named point of a transaction and of a rebalance."""
    assert await broken(ground, tmp_path, 1) == []


async def test_a_zombie_commits_nothing(ground, tmp_path):
    """Row 3: stopped in a transaction for three sessions, then let go on (G2)."""
    assert await broken(ground, tmp_path, 3) == []


async def test_a_restarted_or_killed_broker_loses_nothing(ground, tmp_path):
    """Row 5: both, under load."""
    assert await broken(ground, tmp_path, 5) == []


async def test_the_end_of_a_transaction_may_arrive_late(ground, tmp_path):
    """Row 10: the producer in doubt is thrown away, so nothing is torn (R4)."""
    assert await broken(ground, tmp_path, 10) == []


async def test_events_that_harm_workers_become_dead_letters(beside):
    """Row 19: raise, exit, crash, allocate, never return; neighbours go on."""
    assert beside[19] == []


async def test_broken_records_become_dead_letters_byte_by_byte(beside):
    """Row 20 and C10: one in ten of the intake, and some in a stage's own topic."""
    assert beside[20] == []


async def test_what_is_sent_twice_is_done_once(beside):
    """Row 23: the same id with another body is a dead letter."""
    assert beside[23] == []


async def test_events_deleted_before_they_were_read_stop_their_partition(beside):
    """Row 26 and G8: the error names both offsets, and nothing is skipped in silence."""
    assert beside[TRIMMED] == []


async def test_a_group_whose_offsets_were_deleted_does_nothing_twice(ground, tmp_path):
    """Row 26, its other half, and R5: it stops and says so, for what is done again is told again;
    after `streams recover --apply` everything ends, once."""
    verdict = Verdict(26, ROWS[26].fault)
    await offsets_deleted(a_context(ground, tmp_path), verdict)

    assert verdict.violations == []


async def test_deadlines_outlive_keepers_and_moves(beside):
    """Row 31 and G10: at the time that was first promised, by the log's clock."""
    assert beside[31] == []


async def test_added_partitions_change_nothing_for_the_jobs(beside):
    """Row 27: told by every process, unused, and what comes in there is handed on."""
    assert beside[27] == []


async def test_members_are_told_while_their_coordinator_reads_who_they_are(ground):
    """It says COORDINATOR_LOAD_IN_PROGRESS for a while after it came back; who asks is not told."""
    log = KafkaLog.open(ground.direct, clock=SystemClock())
    group = "members-of-one"
    try:
        await log.create_topics([TopicSpec(group, 1)])
        member = log.consumer(group, "one")
        await member.subscribe([group])
        while not (await member.poll(1, 1.0)).assigned:
            pass
        ground.kill()
        await ground.back()
        assert await log.members(group) == ["one"]
    finally:
        await log.close()


async def test_odd_ledger_partitions_are_restored(beside):
    """Row 36 and G8: empty, of markers only, compacted away, one record: by position, not count."""
    assert beside[36] == []
