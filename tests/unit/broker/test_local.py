"""What the embedded log does beyond the port's promises, or does in its own way."""

import asyncio

import pytest

from streams.broker.local import LocalLog
from streams.broker.port import Committed, Outgoing, TopicPartition, TopicSpec, Transaction
from streams.clock import ManualClock, SystemClock
from streams.errors import Fenced, LogError, OutcomeUnknown, TopicError, TransactionAborted

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def out(*values, partition=0, topic="t"):
    return [Outgoing(topic, b"k", value, partition=partition) for value in values]


async def joined(log, member, group="g", topics=("t",)):
    consumer = log.consumer(group, member)
    await consumer.subscribe(topics)
    return consumer


async def test_offsets_follow_each_other_and_gaps_come_only_when_asked_for(clock):
    """The test mode leaves one offset after each commit, as Kafka's markers do."""
    seen = []
    for gaps in (False, True):
        log = LocalLog.open(None, clock=clock, offset_gaps=gaps)
        await log.create_topics([TopicSpec("t", 1)])
        await log.publish(out(b"1", b"2"))
        await log.publish(out(b"3"))
        reader = log.reader()
        reader.assign({T0: 0})
        seen.append([record.offset for record in await reader.poll(10, 0)])
        await reader.poll(10, 0)
        seen.append([reader.position(T0), (await log.watermarks([T0]))[T0].high])
        await log.close()
    assert seen == [[0, 1, 2], [3, 3], [0, 1, 3], [5, 5]]


async def test_times_do_not_fall_when_the_clock_does(log, clock):
    """The keeper's now must never go backwards."""
    await log.publish(out(b"1"))
    clock._now -= 5_000
    await log.publish(out(b"2"))
    reader = log.reader()
    reader.assign({T0: 0})
    assert [r.timestamp for r in await reader.poll(10, 0)] == [1_800_000_000_000] * 2


async def test_partitions_are_read_in_turn(log):
    """A partition with a long backlog must not starve the others."""
    await log.publish(out(*[b"0"] * 50, partition=0))
    await log.publish(out(*[b"1"] * 50, partition=1))
    reader = log.reader()
    reader.assign({T0: 0, T1: 0})
    records = await reader.poll(10, 0)
    assert sorted(record.partition for record in records) == [0] * 5 + [1] * 5


async def test_a_poll_is_bounded_in_bytes(file_log):
    """5,000 records of 1 MiB would not fit into memory."""
    other = await file_log.producer("p")
    await other.commit(Transaction(out(*[b"x" * (3 << 20)] * 6)))
    file_log._view.tail.clear()
    reader = file_log.reader()
    reader.assign({T0: 0})
    assert [len(await reader.poll(100, 0)) for _ in range(3)] == [3, 3, 0]


async def test_a_kept_partition_may_be_committed_after_a_rebalance(log):
    """Ownership decides, not the generation: what a member keeps it may finish."""
    a = await joined(log, "a")
    before = (await a.poll(1, 0)).membership
    b = await joined(log, "b")
    revoked = (await a.poll(1, 0)).revoked
    producer = await log.producer("p")
    await producer.commit(Transaction([], {T1: Committed(0)}, before))
    await a.poll(1, 0)
    await producer.commit(Transaction([], {T0: Committed(1)}, before))
    with pytest.raises(Fenced):
        await producer.commit(Transaction([], {T1: Committed(1)}, before))
    assert revoked == {T1}
    assert await log.positions("g") == {T0: Committed(1), T1: Committed(0)}
    assert set((await b.poll(1, 0)).assigned) == {T1}


async def test_the_generation_rises_with_members_and_subscriptions_only(log):
    """A namesake with the same topics disturbs nobody (static membership)."""
    generations = []
    a = await joined(log, "a")
    generations.append((await a.poll(1, 0)).membership.generation)
    a = await joined(log, "a")
    generations.append((await a.poll(1, 0)).membership.generation)
    b = await joined(log, "b")
    generations.append((await b.poll(1, 0)).membership.generation)
    await b.subscribe(["t", "c"])
    generations.append((await b.poll(1, 0)).membership.generation)
    await a.close()
    generations.append((await b.poll(1, 0)).membership.generation)
    assert generations == [1, 1, 2, 3, 4]


async def test_a_member_that_does_not_poll_for_ten_seconds_is_out(log, clock):
    """In memory only polling shows life; the clock is virtual."""
    a, b = await joined(log, "a"), await joined(log, "b")
    await a.poll(1, 0)
    await b.poll(1, 0)
    clock.advance(9)
    await a.poll(1, 0)
    assert await log.members("g") == ["a", "b"]
    clock.advance(2)
    assert await log.members("g") == ["a"]
    poll = await a.poll(1, 0)
    assert (set(poll.assigned), poll.revoked) == ({T1}, frozenset())
    assert (await b.poll(1, 0)).lost == {T1}


async def test_a_clock_set_back_does_not_keep_the_dead_alive(log, clock):
    """A beat from the future would count for as long as the clock was wrong."""
    await (await joined(log, "dead")).poll(1, 0)
    clock._now -= 3_600_000
    a = await joined(log, "a")
    await a.poll(1, 0)
    assert await log.members("g") == ["a"]


async def test_waiting_ends_with_virtual_time(log, clock):
    """A test driver owns the time: nothing here waits for the machine's clock."""
    consumer = await joined(log, "a")
    await consumer.poll(1, 0)
    waiting = asyncio.ensure_future(consumer.poll(1, 5))
    for _ in range(5):
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        clock.advance(1)
    poll = await waiting
    assert (poll.records, clock.monotonic()) == ([], 5.0)


async def test_a_commit_wakes_who_waits_for_its_partition(log, clock):
    """No virtual time passes between a commit and its reader."""
    reader = log.reader()
    reader.assign({T1: 0})
    waiting = asyncio.ensure_future(reader.poll(1, 60))
    await asyncio.sleep(0)
    await log.publish(out(b"other", partition=0))
    await log.publish(out(b"mine", partition=1))
    assert [record.value for record in await waiting] == [b"mine"]
    assert clock.monotonic() == 0.0


async def test_memory_mode_starts_no_thread(log):
    """Deterministic runs have one thread and one order."""
    await log.publish(out(b"1"))
    await (await joined(log, "a")).poll(10, 0)
    await log.maintain()
    assert log._store._thread is None
    assert log._pulse is None


async def test_a_busy_member_with_a_living_loop_keeps_its_seat(path):
    """A stage may compute for longer than the session; its process beats meanwhile."""
    log = LocalLog.open(path, clock=SystemClock(), session_ms=150)
    await log.create_topics([TopicSpec("t", 2)])
    a, b = await joined(log, "a"), await joined(log, "b")
    await a.poll(1, 0)
    await b.poll(1, 0)
    await a.poll(1, 0.6)  # b computes for four sessions
    assert await log.members("g") == ["a", "b"]
    assert (await b.poll(1, 0)).lost == frozenset()
    await log.close()


async def test_a_record_without_a_key_is_refused_in_a_compacted_topic(log):
    """It could never be superseded; Kafka refuses it too."""
    with pytest.raises(LogError, match="without a key") as caught:
        await log.publish([Outgoing("c", None, b"v")])
    assert caught.value.code == "K026"


async def test_long_metadata_is_refused(log):
    """Kafka takes 4,095 characters; 4,000 are kept everywhere (protocol, 9)."""
    await log.set_positions("g", {T0: Committed(0, "x" * 4_000)})
    with pytest.raises(LogError, match="4,001") as caught:
        await log.set_positions("g", {T0: Committed(0, "x" * 4_001)})
    assert caught.value.code == "K026"


async def test_offsets_without_a_membership_are_a_fault_of_the_program(log):
    """Nothing would fence them."""
    producer = await log.producer("p")
    with pytest.raises(LogError) as caught:
        await producer.commit(Transaction([], {T0: Committed(1)}))
    assert caught.value.code == "K028"


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "x" * 250])
async def test_names_that_kafka_refuses_are_refused(log, name):
    """KT-1."""
    with pytest.raises(TopicError):
        await log.create_topics([TopicSpec(name, 1)])


async def test_a_topic_made_anew_begins_empty(log):
    """Old records must not come back under the old name."""
    await log.publish(out(b"old"))
    consumer = await joined(log, "a")
    await consumer.poll(1, 0)
    await log.delete_topics(["t"])
    assert (await consumer.poll(1, 0)).lost == {T0, T1}
    await log.create_topics([TopicSpec("t", 2)])
    await log.publish(out(b"new"))
    assert set((await consumer.poll(1, 0)).assigned) == {T0, T1}
    assert [record.value for record in (await consumer.poll(9, 0)).records] == [b"new"]


async def test_a_foreign_write_between_own_ones_is_not_missed(path):
    """Own records are read from memory, but only where nothing of others lies between."""
    for gaps in (False, True):
        target = path.with_name(f"{gaps}.db")
        one = LocalLog.open(target, clock=SystemClock(), offset_gaps=gaps)
        two = LocalLog.open(target, clock=SystemClock(), offset_gaps=gaps)
        await one.create_topics([TopicSpec("t", 2)])
        reader = one.reader()
        reader.assign({T0: 0})
        values = []
        for log, value in ((one, b"1"), (two, b"2"), (one, b"3"), (two, b"4"), (two, b"5")):
            await log.publish(out(value))
            values += [record.value for record in await reader.poll(9, 0)]
        assert values == [b"1", b"2", b"3", b"4", b"5"]
        await one.close()
        await two.close()


async def test_a_full_disk_aborts_the_transaction_and_the_log_goes_on(file_log):
    """Known abort: the same values are committed again when there is room."""
    writer = file_log._store._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    producer = await file_log.producer("p")
    with pytest.raises(TransactionAborted) as caught:
        await producer.commit(Transaction(out(*[b"x" * 4000] * 50)))
    writer.execute("PRAGMA max_page_count = 1000000")
    await producer.commit(Transaction(out(b"again")))
    reader = file_log.reader()
    reader.assign({T0: 0})
    assert caught.value.code == "K025"
    assert [record.value for record in await reader.poll(99, 0)] == [b"again"]


async def test_a_commit_refused_by_the_database_is_a_known_abort(file_log):
    """Still in the transaction after the failure: it was rolled back, nobody saw it."""
    import sqlite3

    def refuse(action, first, *_):
        denied = action == sqlite3.SQLITE_TRANSACTION and first == "COMMIT"
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK

    producer = await file_log.producer("p")
    file_log._store._writer.set_authorizer(refuse)
    with pytest.raises(TransactionAborted):
        await producer.commit(Transaction(out(b"1")))
    file_log._store._writer.set_authorizer(None)
    assert (await file_log.watermarks([T0]))[T0].high == 0


def test_a_commit_that_failed_half_way_is_unknown():
    """Whole frames may lie in the write-ahead log and be found by the next recovery."""
    import sqlite3

    from streams.broker.local_errors import failed_commit

    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    assert isinstance(failed_commit(error, None, False), OutcomeUnknown)


async def test_everything_on_a_closed_log_is_a_clear_error(clock):
    """A task that outlives its log must not see an error of the database."""
    log = LocalLog.open(None, clock=clock)
    await log.close()
    await log.close()
    with pytest.raises(LogError) as caught:
        await log.topics()
    assert caught.value.code == "K028"


async def test_the_same_calls_give_the_same_log(clock):
    """A simulation is repeated by its seed."""

    async def run():
        clock = ManualClock()
        log = LocalLog.open(None, clock=clock)
        await log.create_topics([TopicSpec("t", 3)])
        seen = []
        members = [await joined(log, name) for name in "abc"]
        for step in range(40):
            await log.publish([Outgoing("t", b"%d" % (step * 7), b"%d" % step)])
            poll = await members[step % 3].poll(2, 0)
            seen.append((poll.records, sorted(poll.assigned), sorted(poll.revoked)))
            clock.advance(0.1)
        await log.close()
        return seen

    assert await run() == await run()
