"""Which brokers are this machine's own."""

import pytest

from streams.broker.cluster import on_this_machine


@pytest.mark.parametrize(
    ("bootstrap", "own"),
    [
        ("127.0.0.1:9092", True),
        ("localhost:9092", True),
        ("[::1]:9092", True),
        ("127.0.0.1:9092, localhost:9093", True),
        ("127.0.0.1:9092,kafka:9092", False),
        ("kafka.example:9092", False),
        ("127.0.0.1.example:9092", False),
        ("10.0.0.1:9092", False),
    ],
)
def test_only_loopback_names_are_this_machine(bootstrap, own):
    """Everything else may be somebody else's, whatever it is called."""
    assert on_this_machine(bootstrap) is own
