"""Rows on the wire: whole, ordered, and readable by their head alone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.messages import cause_of, cause_text
from streams.engine.rows import (
    NULL,
    OWNED,
    SHARED,
    Address,
    Attempt,
    FactRow,
    Failure,
    InputRow,
    JobRow,
    Order,
    Parked,
    Row,
    Wait,
    decode,
    encode,
    head,
    is_closing,
)

NUMBERS = st.integers(0, 2**40)
STATUSES = st.sampled_from(
    ("WAITING", "RUNNING", "SUCCESS", "SKIPPED", "RETRYING", "FAILED", "CANCELLED")
)
STAGE_ROWS = st.builds(
    Row, status=STATUSES, epoch=NUMBERS, turn=NUMBERS, phase=st.integers(0, 2), n=NUMBERS
)
JOB_ROWS = st.builds(
    JobRow, status=STATUSES, epoch=NUMBERS, phase=st.integers(0, 2), n=NUMBERS, reason=st.text()
)
FACTS = st.builds(FactRow, value=st.none() | st.integers() | st.text(), n=NUMBERS)
INPUTS = st.builds(InputRow, type=st.text(), source=st.text())
ROWS = st.one_of(
    st.tuples(st.sampled_from(("a", "a~", "a~b", "a~dead", "@early/1")), STAGE_ROWS),
    st.tuples(st.just("@job"), JOB_ROWS),
    st.tuples(st.just("@fact/x"), FACTS),
    st.tuples(st.just("@input"), INPUTS),
)


@given(row=ROWS, closing=st.booleans())
def test_the_head_of_every_kind_of_row_has_its_full_order(row, closing):
    """The table compares rows by their heads, whatever they are."""
    part, value = row
    data = encode(value, closing=closing)

    assert head(data).order == value.order
    assert decode(part, data).order == value.order
    assert is_closing(data) is closing


def test_a_row_is_read_back_as_it_was_written():
    """Every field."""
    row = Row(
        "RETRYING", epoch=2, turn=3, attempt=4, phase=0, n=5, plan="p", root="r", taken=("x",),
        out=msgspec.Raw(b'{"a":1}'), err=Failure("S1", "no", "log"),
        times=(Attempt(1, 2, 3, 4, "FAILED", "S1"),), meta={"k": [1]}, worker="w", at=9,
        reason="why", wait=Wait("gate", 1, 2, Parked("p", NULL, 2, 3, "t", 4), {"f": 1}, 5, "r"),
    )  # fmt: skip
    again = decode("a", encode(row))

    assert bytes(memoryview(again.out)) == b'{"a":1}'
    assert bytes(memoryview(again.wait.event.payload)) == b"null"
    blank = {"out": NULL, "wait": None}
    assert msgspec.structs.replace(again, **blank) == msgspec.structs.replace(row, **blank)


def test_a_plain_row_is_short_and_begins_with_its_flags():
    """It is in every record: 1,000,000 of them."""
    assert encode(Row("SUCCESS", plan="d", root="j", at=7)) == (
        b'\x00{"s":"SUCCESS","plan":"d","root":"j","at":7}'
    )
    assert encode(Row("FAILED"), closing=True) == b'\x01{"s":"FAILED"}'


def test_fields_of_a_newer_version_are_passed_over():
    """Rolling upgrades: an older reader meets newer rows."""
    assert decode("a", b'\x00{"s":"SUCCESS","new":{"x":1}}').status == "SUCCESS"


def test_order_is_epoch_then_turn_then_phase_then_n():
    """Age of a row's version."""
    ordered = [Order(1, 1, 0, 9), Order(1, 1, 1), Order(1, 1, 2), Order(1, 2, 0), Order(2, 1, 0)]
    assert sorted(ordered, reverse=True) == ordered[::-1]


@pytest.mark.parametrize("part", ["a", "a~b", "@fact/x", "until#2/inner", "a~[3]"])
def test_an_address_is_its_key(part):
    """`scope|part`."""
    address = Address("job:1@x", part)
    assert address.key == f"job:1@x|{part}".encode()
    assert Address.of(address.key) == address


@given(order=st.builds(Order, NUMBERS, NUMBERS, st.integers(0, 2), NUMBERS))
def test_a_cause_names_a_part_and_the_order_of_its_row(order):
    """K4: written in the same transaction."""
    assert cause_of(cause_text("until#2/inner", order)) == ("until#2/inner", order)
    assert cause_of("") is None


def test_shared_decoders_give_one_value_for_the_same_bytes_and_no_other():
    """A keeper reads a row several times in one decision; what is handed out is never shared."""
    data, equal = encode(Row("SUCCESS", meta={"a": 1})), encode(Row("SUCCESS", meta={"a": 1}))
    first = SHARED.row(data)
    assert SHARED.row(data) is first
    assert SHARED.row(equal) == first
    assert OWNED.row(data) is not OWNED.row(data)
    assert SHARED.row(encode(Row("FAILED"))).status == "FAILED"


def test_shared_decoders_do_not_keep_large_rows():
    """4,096 bytes are small; memory stays bounded."""
    data = encode(Row("SUCCESS", meta={"a": "x" * 5_000}))
    assert SHARED.row(data) == SHARED.row(data)
    assert SHARED.row(data) is not SHARED.row(data)


def test_shared_decoders_forget_and_go_on():
    """Past the bound all is forgotten; a value is still that of its bytes."""
    rows = [encode(Row("SUCCESS", n=n)) for n in range(1_500)]
    assert [SHARED.row(data).n for data in rows] == list(range(1_500))
    assert [SHARED.row(data).n for data in rows] == list(range(1_500))
