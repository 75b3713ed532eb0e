"""Partitions of the simulated log: compaction, tombstones, retention, trimming, reading."""

import asyncio

import pytest

from streams.broker.port import Outgoing, TopicPartition, TopicSpec
from streams.errors import LogError, OutcomeUnknown, TopicError
from streams.testing.faults import Fault
from tests.unit.testing.simulated import (
    A0,
    A1,
    in_virtual_time,
    log_with,
    new_log,
    of,
    out,
    soon,
    visible,
)

L0 = TopicPartition("l", 0)
HOUR = 3_600


def row(key, value):
    return Outgoing("l", key, value, partition=0)


async def compacted(**options):
    log = new_log(**options)
    await log.create_topics([TopicSpec("l", 1, "compact")])
    return log


async def kept(log):
    reader = log.reader()
    reader.assign({L0: 0})
    return [(record.key, record.value, record.offset) for record in await reader.poll(100, 0)]


@in_virtual_time
async def test_compaction_leaves_holes_and_keeps_offsets():
    """A record, once visible, stays at its offset."""
    log = await compacted()
    await log.publish([row(b"x", b"1"), row(b"y", b"1"), row(b"x", b"2")])
    await log.maintain()
    assert await kept(log) == [(b"y", b"1", 1), (b"x", b"2", 2)]
    await log.publish([row(b"y", b"2")])
    await log.maintain()
    assert await kept(log) == [(b"x", b"2", 2), (b"y", b"2", 4)]
    assert await log.maintain() == 0
    assert (await log.watermarks([L0]))[L0] == (0, 5)


@in_virtual_time
async def test_a_tombstone_stays_for_its_time_and_then_goes():
    """F37: whoever was away for less sees that the key is gone."""
    log = await compacted()
    await log.publish([row(b"x", b"1"), row(b"x", None), row(b"y", b"1")])
    await log.maintain()
    assert await kept(log) == [(b"x", None, 1), (b"y", b"1", 2)]
    await soon(25 * HOUR)
    await log.maintain()
    assert await kept(log) == [(b"y", b"1", 2)]


@in_virtual_time
async def test_compaction_leaves_alone_what_is_not_decided():
    """An open transaction may still be aborted: the older row must be there then."""
    log = await compacted()
    await log.publish([row(b"x", b"old")])
    log.faults.commit = lambda *_: Fault.UNKNOWN
    producer = await log.producer("p")
    with pytest.raises(OutcomeUnknown):
        await producer.commit(of(b"new", topic="l", key=b"x"))
    assert await log.maintain() == 0
    await log.producer("p")
    await log.maintain()

    assert [value for _, value, _ in await kept(log)] == [b"old"]


@in_virtual_time
async def test_a_compacted_topic_takes_no_record_without_a_key():
    """The error of the embedded log."""
    log = await compacted()
    with pytest.raises(LogError) as refused:
        await log.publish([row(None, b"1")])
    assert refused.value.code == "K026"


@in_virtual_time
async def test_retention_deletes_what_is_older():
    """The low watermark moves; `OffsetLost` tells whoever is behind it."""
    log = new_log()
    await log.create_topics([TopicSpec("a", 1, retention_ms=10_000)])
    await log.publish([out(b"old"), out(b"old")])
    await soon(8)
    await log.publish([out(b"young")])
    await log.maintain()
    assert (await log.watermarks([A0]))[A0] == (0, 4)
    await soon(4)
    await log.maintain()

    assert (await log.watermarks([A0]))[A0] == (3, 4)
    assert await visible(log) == [b"young"]


@in_virtual_time
async def test_trimming_stops_at_the_end():
    """An empty partition begins where it ends."""
    log = await log_with()
    await log.publish([out(b"1"), out(b"2")])
    await log.trim({A0: 100})
    await log.trim({A0: 1})

    assert (await log.watermarks([A0]))[A0] == (3, 3)
    assert await visible(log) == []


@in_virtual_time
async def test_times_never_fall_when_the_clock_is_set_back():
    """The keeper takes the highest append time it saw for now."""
    log = await log_with()
    clock = log._broker.clock
    await log.publish([out(b"1")])
    clock.leap(-HOUR)
    await log.publish([out(b"2")])
    first, second = log.history_records()

    assert first.timestamp == second.timestamp


@in_virtual_time
async def test_a_waiting_reader_wakes_when_a_record_is_appended():
    """No spinning, no waiting for the end of the poll."""
    log = await log_with()
    reader = log.reader()
    reader.assign({A0: 0, A1: 0})
    waiting = asyncio.ensure_future(reader.poll(10, 1000))
    await soon(1)
    await log.publish([out(b"1", 1)])
    (record,) = await waiting

    assert (record.place, record.value) == (A1, b"1")
    assert asyncio.get_running_loop().time() < 2


@in_virtual_time
async def test_a_poll_that_only_passed_gaps_returns_at_once():
    """A restore compares positions: it need not wait behind the last marker."""
    log = await log_with()
    producer = await log.producer("p")
    await producer.commit(of(b"1"))
    reader = log.reader()
    reader.assign({A0: 1})
    assert await reader.poll(10, 1000) == []

    assert reader.position(A0) == 2
    assert asyncio.get_running_loop().time() < 1


@in_virtual_time
async def test_partitions_are_read_in_turn_and_none_takes_more_than_its_share():
    """A full partition does not keep the others from being read."""
    log = await log_with(partitions=3)
    await log.publish([out(b"%d" % n, 0) for n in range(100)] + [out(b"b", 1), out(b"c", 2)])
    reader = log.reader()
    reader.assign({TopicPartition("a", n): 0 for n in range(3)})
    given = [record.partition for record in await reader.poll(9, 0)]

    assert (given.count(0), given.count(1), given.count(2)) == (7, 1, 1)


@in_virtual_time
async def test_a_reader_of_a_deleted_topic_gets_nothing_more():
    """Not even what it had not read yet."""
    log = await log_with()
    await log.publish([out(b"1")])
    reader = log.reader()
    reader.assign({A0: 0})
    await log.delete_topics(["a", "never-there"])
    assert await reader.poll(10, 0) == []
    with pytest.raises(TopicError):
        log.reader().assign({A0: 0})


@pytest.mark.parametrize("name", ["", "..", "a/b", "x" * 250])
@in_virtual_time
async def test_a_name_that_is_no_topic_is_refused(name):
    """As Kafka would."""
    with pytest.raises(TopicError):
        await new_log().create_topics([TopicSpec(name, 1)])


@in_virtual_time
async def test_several_records_published_together_are_a_transaction_and_one_is_none():
    """As on Kafka: a marker takes an offset, so that nobody gets used to counting."""
    log = await log_with()
    await log.publish([out(b"1")])
    assert (await log.watermarks([A0]))[A0] == (0, 1)
    await log.publish([out(b"2"), out(b"3")])
    assert (await log.watermarks([A0]))[A0] == (0, 4)
    assert await visible(log) == [b"1", b"2", b"3"]
