"""Records of Kafka's own topics, as brokers of two generations write them."""

import struct

from streams.broker.kafka_internals import (
    Position,
    TransactionState,
    position,
    transaction_state,
)
from streams.broker.port import Committed, Record, TopicPartition

KEY = b"\x00\x01\x00\x03g.k\x00\x04hold\x00\x00\x00\x02"


def record(key, value):
    return Record("__t", 0, 0, 0, key, value)


def test_a_position_is_read_in_the_form_of_kafka_4():
    """Lengths of texts are one more than they are, and metadata may end in a C string's zero."""
    value = b"\x00\x04" + struct.pack(">qi", 11, -1) + b"\x081;0;;;\x00" + struct.pack(">q", 9)

    assert position(record(KEY, value + b"\x00")) == Position(
        "g.k", TopicPartition("hold", 2), Committed(11, "1;0;;;")
    )


def test_a_position_is_read_in_the_form_of_kafka_3():
    """Texts with two bytes of length."""
    value = b"\x00\x03" + struct.pack(">qi", 11, -1) + b"\x00\x021;" + struct.pack(">q", 9)

    found = position(record(KEY, value))

    assert found is not None
    assert found.position == Committed(11, "1;")


def test_a_deleted_position_is_none():
    """Retention of offsets, or a topic that was deleted."""
    found = position(record(KEY, None))

    assert found is not None
    assert found.position is None


def test_the_state_of_a_group_is_no_position():
    """The same topic holds both; keys of version 2 are groups."""
    assert position(record(b"\x00\x02\x00\x03g.k", b"x")) is None


def test_a_transaction_is_read_with_the_partitions_it_wrote_to():
    """C7: the coordinator's word is what markers are compared with."""
    value = (
        struct.pack(">hqhib", 0, 52, 4, 10_000, 2)
        + struct.pack(">ih5sii", 1, 5, b"a.b.c", 2, 0)
        + struct.pack(">iqq", 3, 2_000, 1_000)
    )

    assert transaction_state(record(b"\x00\x00\x00\x02id", value)) == TransactionState(
        "id",
        52,
        4,
        "committing",
        frozenset({TopicPartition("a.b.c", 0), TopicPartition("a.b.c", 3)}),
        2_000,
        1_000,
    )


def test_a_transaction_is_read_in_its_flexible_form():
    """Clusters formatted by Kafka 4 write this one (KIP-890)."""
    value = (
        struct.pack(">hqhib", 1, 52, 4, 10_000, 3)
        + b"\x02\x06a.b.c\x02\x00\x00\x00\x03\x00"
        + struct.pack(">qq", 2_000, 1_000)
        + b"\x00"
    )

    found = transaction_state(record(b"\x00\x00\x00\x02id", value))

    assert found is not None
    assert (found.status, found.places) == ("aborting", {TopicPartition("a.b.c", 3)})
