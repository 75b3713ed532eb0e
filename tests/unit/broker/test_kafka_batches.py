"""What a broker sends as batches, told apart by their heads."""

import struct

from streams.broker.kafka_batches import Batch, read_batches

HEAD = ">qiibihiqqqhii"
COMMIT = bytes([0x16, 0, 0, 0, 8, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0])
ABORT = bytes([0x16, 0, 0, 0, 8, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0])


def batch(first, last, attributes, producer=7, body=b"records", magic=2):
    length = struct.calcsize(HEAD) - 12 + len(body)
    return (
        struct.pack(
            HEAD, first, length, 0, magic, 0, attributes, last - first, 1, 1_000, producer, 3, 0, 1
        )
        + body
    )


def test_heads_tell_the_producer_and_the_end_of_its_transaction():
    """C7: a record's transaction is that of the next marker of its producer."""
    data = batch(0, 4, 0x18) + batch(5, 5, 0x38, body=COMMIT) + batch(6, 6, 0x30, body=ABORT)

    assert list(read_batches(data)) == [
        Batch(0, 4, 1_000, 7, 3, "transactional"),
        Batch(5, 5, 1_000, 7, 3, "commit"),
        Batch(6, 6, 1_000, 7, 3, "abort"),
    ]


def test_a_batch_without_a_transaction_is_plain():
    """An idempotent producer has an id, too."""
    assert [each.kind for each in read_batches(batch(0, 2, 0x08))] == ["plain"]


def test_the_last_batch_of_an_answer_may_be_cut_off():
    """A broker fills the bytes it was given, whatever ends there."""
    data = batch(0, 1, 0) + batch(2, 3, 0)

    assert [each.first for each in read_batches(data[:-3])] == [0]
