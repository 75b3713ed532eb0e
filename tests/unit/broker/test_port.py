"""Where a key lives must be the same for every producer of the world."""

import pytest

from streams.broker.port import Record, TopicPartition, murmur2, partition_for


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_kafka(key, signed):
    """Vectors of the Java client's own test; foreign producers place records by it."""
    assert murmur2(key) == signed % 2**32


def test_the_sign_bit_is_dropped_before_the_partition_is_taken():
    """-790332482 & 0x7fffffff = 1357151166, and its remainder by 7 is 0, by 10 is 6."""
    assert (partition_for(b"foobar", 7), partition_for(b"foobar", 10)) == (0, 6)


def test_a_record_knows_its_place():
    """Positions are kept by place, so each record must name its own."""
    assert Record("t", 3, 9, 1, None, None).place == TopicPartition("t", 3)
