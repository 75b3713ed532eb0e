"""Records of paused partitions are kept, in order, until their turn comes."""

from streams.broker.kafka_backlog import FULL, LOW, Backlog
from streams.broker.port import Record, TopicPartition

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def record(place, offset):
    return Record(place.topic, place.partition, offset, 0, None, None)


def offsets(records):
    return [(r.partition, r.offset) for r in records]


def test_paused_partitions_keep_their_records():
    """A full lane stops its partition, not the others."""
    backlog = Backlog()
    for place in (A, B):
        backlog.add(place, record(place, 0))
    assert offsets(backlog.take(10, {A})) == [(1, 0)]
    assert offsets(backlog.take(10, set())) == [(0, 0)]
    assert len(backlog) == 0


def test_records_come_in_order_and_not_more_than_asked_for():
    """Order within a partition is a promise of the log."""
    backlog = Backlog()
    for offset in range(3):
        backlog.add(A, record(A, offset))
    assert offsets(backlog.take(2, set())) == [(0, 0), (0, 1)]
    assert A in backlog
    assert offsets(backlog.take(2, set())) == [(0, 2)]
    assert A not in backlog


def test_a_partition_that_stays_paused_is_full_at_some_point():
    """Then the library is told, too: memory has a bound."""
    backlog = Backlog()
    for offset in range(FULL):
        assert backlog.full() == set()
        backlog.add(A, record(A, offset))
    assert backlog.full() == {A}
    assert not backlog.low(A)
    backlog.take(FULL - LOW, set())
    assert backlog.low(A)


def test_what_is_dropped_is_not_given():
    """After a seek the records are read again; given up ones belong to somebody else."""
    backlog = Backlog()
    backlog.add(A, record(A, 0))
    backlog.drop(A)
    assert backlog.take(10, set()) == []
