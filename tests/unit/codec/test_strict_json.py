"""JSON from strangers: what passes is understood alike by every reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codec.strict_json import check_data, nesting, parse
from streams.errors import EventError
from streams.event import Event


def event(data: bytes | None, content_type: str | None = "application/json") -> Event:
    return Event(id="1", source="/s", type="t", data=data, datacontenttype=content_type)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "V013"),
        (b"{", "V013"),
        (b"[1,]", "V013"),
        (b"{'a':1}", "V013"),
        (b"NaN", "V013"),
        (b"-Infinity", "V013"),
        (b"1e999", "V013"),
        (b"01", "V013"),
        (b"1 2", "V013"),
        (b"1" * 5000, "V013"),
        (b'"\\ud800"', "V013"),
        (b'"\t"', "V013"),
        (b"\xef\xbb\xbf{}", "V013"),
        (b'{"a":1,"a":1}', "V014"),
        (b'[{"b":{"a":1,"\\u0061":2}}]', "V014"),
        (b"[" * 513 + b"]" * 513, "V015"),
        (b"[" * 100_000, "V015"),
        (b'{"a":' * 100_000, "V015"),
        (b'"\xff"', "V012"),
        (b'"\xed\xa0\x80"', "V012"),
    ],
)
def test_doubtful_json_is_refused(data: bytes, code: str) -> None:
    """E6, E7."""
    with pytest.raises(EventError) as caught:
        check_data(event(data))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "data",
    [
        b" null\n",
        b'{"a":{"a":[{"a":1},{"a":2}]}}',
        b"123456789012345678901234567890",
        b"[" * 512 + b"]" * 512,
        b'"' + b"[" * 10_000 + b'"',
        b'["\\"' + b"{" * 600 + b'"]',
        b"[" + b",".join([b"[]"] * 5000) + b"]",
        b'"\\ud83d\\ude00"',
    ],
)
def test_unusual_but_clear_json_passes(data: bytes) -> None:
    """Brackets in strings and many short lists are no nesting; big integers are legal."""
    check_data(event(data))


@pytest.mark.parametrize(
    ("content_type", "data", "code"),
    [
        ("application/json; charset=utf-7", b"{}", "V017"),
        ("application/json; charset=utf-16", "{}".encode("utf-16"), "V017"),
        ("text/plain; charset=utf-7", b"x", "V017"),
        ("text/plain", b"\xff", "V017"),
        ("application/xml", b"\xff", "V017"),
    ],
)
def test_data_in_another_charset_is_refused(content_type: str, data: bytes, code: str) -> None:
    """E9."""
    with pytest.raises(EventError) as caught:
        check_data(event(data, content_type))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "checked",
    [event(None), event(b"\xff", None), event(b"\xff", "image/png"), event(b"x", "text/plain")],
)
def test_what_is_not_json_is_left_alone(checked: Event) -> None:
    """CE-11: bytes are bytes."""
    check_data(checked)


@given(st.binary(max_size=40) | st.text(alphabet='[]{}",:\\u0a1e.-', max_size=30).map(str.encode))
def test_what_passes_can_be_decoded_by_every_stage(data: bytes) -> None:
    """The promise of intake: `value()` does not fail later."""
    try:
        check_data(event(data))
    except EventError:
        return
    event(data).value()


@pytest.mark.parametrize("unit", [b'"\\"', b'\\"', b'"', b"\\", b'"\\'])
def test_measuring_depth_takes_linear_time(unit: bytes) -> None:
    """Unfinished strings full of quotes must not be tried again from each quote."""
    assert nesting(b"[" * 600 + b'"' + unit * 200_000) == 600


def test_a_deep_stack_of_the_caller_gives_an_event_error() -> None:
    """Whatever is left of the stack, there is no RecursionError."""

    def descend(levels: int) -> None:
        if levels:
            descend(levels - 1)
        else:
            parse(b"[" * 512 + b"]" * 512)

    with pytest.raises(EventError, match="nested"):
        descend(700)
