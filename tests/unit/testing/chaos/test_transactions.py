"""Records get the transaction they came in, from batches and from what the coordinator wrote."""

import struct

from streams.broker.kafka_batches import Batch
from streams.broker.port import Committed, Record, TopicPartition
from streams.testing.chaos.transactions import attributed, renewed_after

STATE = TopicPartition("__transaction_state", 0)
POSITIONS = TopicPartition("__consumer_offsets", 0)
HOLD = TopicPartition("n.p.hold", 0)
LEDGER = TopicPartition("n.p.ledger", 0)
COMMITTING, ABORTING = 2, 3


def text(value):
    return struct.pack(">h", len(value)) + value


def state(offset, status, changed, started, *places, epoch=0, name=b"n.p.keeper.w"):
    value = struct.pack(">hqhib", 0, 7, epoch, 10_000, status) + struct.pack(">i", len(places))
    for place in places:
        value += text(place.topic.encode()) + struct.pack(">ii", 1, place.partition)
    value += struct.pack(">qq", changed, started)
    return Record(*STATE, offset, changed, b"\x00\x00" + text(name), value)


def record(place, offset, at):
    return Record(*place, offset, at, b"k", b"v")


def stands(offset, at, to):
    key = b"\x00\x01" + text(b"n.p.keeper") + text(b"n.p.hold") + struct.pack(">i", 0)
    value = struct.pack(">hqi", 3, to, -1) + text(b"") + struct.pack(">q", at)
    return Record(*POSITIONS, offset, at, key, value)


def marked(*batches):
    return [Batch(first, last, at, 7, 0, kind) for first, last, at, kind in batches]


RECORDS = {
    STATE: [
        state(0, COMMITTING, 110, 100, HOLD, LEDGER, POSITIONS),
        state(1, ABORTING, 210, 200, LEDGER, POSITIONS),
    ],
    HOLD: [record(HOLD, 0, 50), record(HOLD, 1, 101)],
    LEDGER: [record(LEDGER, 0, 102), record(LEDGER, 2, 203), record(LEDGER, 4, 300)],
    POSITIONS: [stands(0, 103, 1), stands(2, 204, 2)],
}
BATCHES = {
    HOLD: marked((0, 0, 50, "plain"), (1, 1, 101, "transactional"), (2, 2, 111, "commit")),
    LEDGER: marked(
        (0, 0, 102, "transactional"),
        (1, 1, 112, "commit"),
        (2, 2, 203, "transactional"),
        (3, 3, 211, "abort"),
        (4, 4, 300, "transactional"),
    ),
    POSITIONS: marked(
        (0, 0, 103, "transactional"),
        (1, 1, 113, "commit"),
        (2, 2, 204, "transactional"),
        (3, 3, 212, "abort"),
    ),
}


def test_each_record_has_the_transaction_of_the_next_marker():
    """C7: over all partitions, and in the order of the broker's clock."""
    found = attributed(RECORDS, BATCHES, "n.p.")

    told = [(each.place.topic, each.offset, each.transaction) for each in found.records]
    assert told == [
        ("n.p.hold", 0, 0),
        ("n.p.hold", 1, 1),
        ("n.p.ledger", 0, 1),
        ("n.p.ledger", 2, 2),
        ("n.p.ledger", 4, 3),
    ]
    outcomes = [found.transactions[number].outcome for number in (1, 2, 3)]
    assert outcomes == ["committed", "aborted", "open"]
    assert found.torn == []


def test_positions_come_with_their_transaction_and_what_stood_before():
    """R1: a step is judged by the inputs that its offsets finish."""
    seen = attributed(RECORDS, BATCHES, "n.p.").transactions

    assert seen[1].offsets == {HOLD: Committed(1)}
    assert seen[1].before == {HOLD: None}
    assert seen[2].before == {HOLD: Committed(1)}
    assert seen[1].membership is not None
    assert (seen[1].membership.group, seen[1].membership.member) == ("n.p.keeper", "w")


def test_a_marker_that_contradicts_its_coordinator_is_told():
    """A torn transaction: committed in one partition, aborted in another."""
    torn = {**BATCHES, HOLD: [*BATCHES[HOLD][:2], Batch(2, 2, 111, 7, 0, "abort")]}

    assert attributed(RECORDS, torn, "n.p.").torn == [
        "n.p.hold/0: offset 2 says abort, its coordinator committed"
    ]


def test_a_producer_that_was_thrown_away_has_a_new_epoch():
    """R4: after a commit of unknown outcome the same producer is never used again."""
    name = b"n.p.pool-default.agents-1"
    first = state(0, COMMITTING, 110, 100, HOLD, name=name)
    same = state(1, COMMITTING, 220, 200, HOLD, name=name)
    other = state(1, COMMITTING, 220, 200, HOLD, name=name, epoch=2)

    assert not renewed_after({STATE: [first, same]}, "agents-1", 150)
    assert renewed_after({STATE: [first, other]}, "agents-1", 150)
