"""Dead letters fit into the log, whatever they are made of (G11, KT-5)."""

import hashlib

from streams.runtime.letters import MOST_BYTES, letter

CAUSE = (("streams-dlq-reason", b"V013"),)


def test_an_original_that_fits_is_kept_whole():
    """Key, value and headers unchanged, the cause behind them."""
    headers = (("a", b"1"), ("a", None))

    found = letter("t.dead", 1, b"k", b"x" * 900_000, headers, CAUSE)

    assert (found.key, found.value, found.partition) == (b"k", b"x" * 900_000, 1)
    assert found.headers == (*headers, *CAUSE)


def test_a_value_that_does_not_fit_becomes_a_pointer():
    """Size and checksum; what else there was stays."""
    value = b"x" * MOST_BYTES

    found = letter("t.dead", 0, b"k", value, (("a", b"1"),), CAUSE)

    assert (found.key, found.value) == (b"k", None)
    assert found.headers == (
        ("a", b"1"),
        *CAUSE,
        ("streams-dlq-size", b"1000000"),
        ("streams-dlq-sha256", hashlib.sha256(value).hexdigest().encode()),
        ("streams-dlq-omitted", b"value"),
    )


def test_headers_and_keys_as_large_as_a_record_do_not_come_along_either():
    """Else the letter itself would never fit."""
    found = letter("t.dead", 0, b"k" * 600_000, None, (("a", b"1" * 600_000),), CAUSE)

    assert (found.key, found.value) == (None, None)
    assert dict(found.headers)["streams-dlq-omitted"] == b"value,headers,key"
    assert "a" not in dict(found.headers)
