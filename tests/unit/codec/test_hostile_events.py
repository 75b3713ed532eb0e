"""The bad-input corpus of events, E1 to E12, as records of both modes; HTTP has its own table."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec import http, kafka, structured
from streams.codec.strict_json import check_data
from streams.errors import EventError
from streams.event import Event, fingerprint, strip_engine_extensions
from streams.event_rules import canonical

GOOD: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def as_binary(attributes: dict[str, Any]) -> Any:
    headers = [(f"ce_{k}", str(v).encode()) for k, v in attributes.items()]
    return None, headers


def as_structured(attributes: dict[str, Any]) -> Any:
    headers = [("content-type", b"application/cloudevents+json")]
    return json.dumps(attributes).encode(), headers


@pytest.mark.parametrize("mode", [as_binary, as_structured])
@pytest.mark.parametrize(
    ("changes", "without", "code", "field"),
    [
        pytest.param({}, "id", "V002", "id", id="E1 no id"),
        pytest.param({"id": " \u3000"}, "", "V003", "id", id="E1 blank id"),
        pytest.param({"id": "x" * 10_000}, "", "V011", "id", id="E1 10 kB id"),
        pytest.param({"time": "yesterday"}, "", "V008", "time", id="E2 yesterday"),
        pytest.param({"time": "2026-11-21T13:00:00"}, "", "V008", "time", id="E2 no zone"),
        pytest.param({"time": "9999999-01-01T00:00:00Z"}, "", "V008", "time", id="E2 year"),
        pytest.param({}, "specversion", "V002", "specversion", id="E3 missing"),
        pytest.param({"specversion": "0.3"}, "", "V004", "specversion", id="E3 0.3"),
        pytest.param({"specversion": "1.1"}, "", "V004", "specversion", id="E3 1.1"),
        pytest.param({"specversion": " 1.0"}, "", "V004", "specversion", id="E3 space"),
        pytest.param({"e": "x" * 10**7}, "", "V011", "e", id="E4 10 MB"),
        pytest.param({"FooBar": "x"}, "", "V005", "FooBar", id="E4 capitals"),
        pytest.param({f"e{n}": "x" for n in range(200)}, "", "V011", "extensions", id="E4 200"),
        pytest.param({"type": "a\r\nb"}, "", "V006", "type", id="E5 type"),
        pytest.param({"source": "/a\nb"}, "", "V006", "source", id="E5 source"),
    ],
)
def test_a_hostile_attribute_is_refused_with_code_and_field(
    mode: Any, changes: dict[str, Any], without: str, code: str, field: str
) -> None:
    """E1 to E5; nothing is invented, nothing is repaired."""
    attributes = {k: v for k, v in {**GOOD, **changes}.items() if k != without}
    with pytest.raises(EventError) as caught:
        kafka.decode(*mode(attributes))
    assert (caught.value.code, caught.value.field) == (code, field)
    assert len(caught.value.message) < 300


def test_a_message_shows_no_raw_control_characters_of_the_sender() -> None:
    """E5: what is quoted in a log line cannot end it."""
    with pytest.raises(EventError) as caught:
        kafka.decode(*as_structured({**GOOD, "\x1b[2J\r\n": "x"}))
    assert caught.value.message.isprintable()


def test_a_tombstone_without_headers_is_foreign() -> None:
    """E10: never a ledger delete; with the headers it is an event without data."""
    with pytest.raises(EventError) as caught:
        kafka.decode(None, ())
    assert caught.value.code == "V020"
    assert kafka.decode(*as_binary(GOOD)).data is None


def test_forged_extensions_have_no_effect_after_the_edge() -> None:
    """E11: attempt and tenant go; a transaction token in a plain header is never read."""
    value, headers = as_binary({**GOOD, "attempt": 9, "tenant": "other", "mine": "x"})
    decoded = kafka.decode(value, [*headers, ("streams-txn", b"forged")])
    assert strip_engine_extensions(decoded).extensions == {"mine": "x"}


def test_a_known_id_with_another_body_can_be_told_from_a_resend() -> None:
    """E12."""
    first = Event.make(id="1", source="/s", type="t", value={"a": 1})
    assert fingerprint(first) == fingerprint(first.with_(time="2026-01-01T00:00:00Z"))
    assert fingerprint(first) != fingerprint(first.with_(data=b'{"a":2}'))


# Properties ---------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), max_size=12)
WORD = TEXT.filter(lambda text: text.strip() != "")
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
DATA = st.one_of(
    st.tuples(st.just("application/json"), JSON_VALUES.map(lambda v: json.dumps(v).encode())),
    st.tuples(st.just("application/problem+json; charset=utf-8"), st.just(b'{"a": 1.0}')),
    st.tuples(st.just("text/plain"), TEXT.map(str.encode)),
    st.tuples(st.just("text/plain; charset=utf-16"), TEXT.map(lambda t: t.encode("utf-16"))),
    st.tuples(st.sampled_from([None, "image/png", "text/plain", "a/b"]), st.binary(max_size=20)),
    st.tuples(st.sampled_from([None, "application/json"]), st.none()),
)


@st.composite
def valid_events(draw: st.DrawFn) -> Event:
    content_type, data = draw(DATA)
    names = st.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True).filter(
        lambda n: n not in ("data", "id", "source", "type", "subject", "time", "dataref")
    )
    values = TEXT | st.integers(-(2**31), 2**31 - 1) | st.booleans() | st.binary(max_size=9)
    return Event(
        id=draw(WORD),
        source=draw(st.sampled_from(["/pipelines/p/stages/s", "urn:x:y", "https://a/b?c=%20#d"])),
        type=draw(WORD),
        data=data,
        datacontenttype=content_type,
        subject=draw(st.none() | WORD),
        time=draw(
            st.none() | st.sampled_from(["2018-04-05T17:31:00Z", "2018-04-05t17:31:00.5+01:00"])
        ),
        dataschema=draw(st.none() | st.sampled_from(["a:b", "https://example.com/s#v2"])),
        extensions=draw(st.dictionaries(names, values, max_size=5)),
    )


def in_text(event: Event) -> Event:
    """The event with extensions in canonical text, as headers carry them (CE-4)."""
    return event.with_(extensions={k: canonical(v) for k, v in event.extensions.items()})


def in_json(event: Event) -> Event:
    """The event with bytes in base64, the one type that JSON has not."""
    return event.with_(
        extensions={
            k: canonical(v) if isinstance(v, bytes) else v for k, v in event.extensions.items()
        }
    )


@settings(max_examples=150)
@given(valid_events())
def test_an_event_survives_every_mode(event: Event) -> None:
    """KB-1, HT-1: equal after each; without data and empty data are one in HTTP's binary mode."""
    assert kafka.decode(*kafka.encode(event)) == in_text(event)
    assert kafka.decode(*kafka.encode_structured(event)) == in_json(event)
    assert structured.from_json_batch(structured.to_json_batch([event])) == (in_json(event),)
    try:
        check_data(event)
    except EventError:
        return
    assert http.decode(*http.encode_structured(event)) == (in_json(event),)
    assert http.decode(*http.encode_batch([event])) == (in_json(event),)
    assert http.decode(*http.encode(event)) == (in_text(event).with_(data=event.data or None),)


HEADER_NAMES = st.sampled_from(
    [
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_specversion",
        "ce_time",
        "ce_subject",
        "ce_dataschema",
        "content-type",
        "Content-Type",
        "ce_",
        "ce_e",
        "ce_partitionkey",
        "x",
    ]
) | st.text(max_size=6)
HEADER_VALUES = (
    st.none()
    | st.binary(max_size=8)
    | st.sampled_from(
        [
            b"1.0",
            b"/s",
            b"t",
            b"application/json",
            b"application/cloudevents+json",
            b"application/cloudevents-batch+json",
            b"2018-04-05T17:31:00Z",
        ]
    )
)
ENVELOPES = st.dictionaries(
    st.sampled_from([*GOOD, "data", "data_base64", "datacontenttype", "time", "e", "E"]),
    JSON_VALUES | st.sampled_from(["1.0", "/s", "t", "application/json", "AA=="]),
).map(lambda envelope: json.dumps(envelope).encode())
BODIES = (
    st.none()
    | st.binary(max_size=60)
    | ENVELOPES
    | st.lists(ENVELOPES, max_size=2).map(lambda items: b"[" + b",".join(items) + b"]")
)


@settings(max_examples=300)
@given(BODIES, st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=9), st.booleans())
def test_arbitrary_records_give_an_event_or_an_event_error(
    value: bytes | None, headers: Any, complete: bool
) -> None:
    """E6: nothing else ever comes out, and what comes out is valid enough to be sent on."""
    if complete:
        headers = [*as_binary(GOOD)[1], *headers]
    kafka.is_cloudevent(headers)
    kafka.other_headers(headers)
    try:
        event = kafka.decode(value, headers)
    except EventError as error:
        outcome = error.code[0]
    else:
        outcome = "decoded"
        assert kafka.decode(*kafka.encode(event)) == in_text(event)
        assert kafka.decode(*kafka.encode_structured(event)) == in_json(event)
    assert outcome in ("decoded", "V")


@settings(max_examples=300)
@given(BODIES, st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=9), st.booleans())
def test_arbitrary_requests_give_events_or_a_refusal(
    body: bytes | None, pairs: Any, complete: bool
) -> None:
    """Every refusal has a status."""
    headers = [(name.replace("_", "-").encode(), value or b"") for name, value in pairs]
    if complete:
        headers = [*((f"ce-{k}".encode(), v.encode()) for k, v in GOOD.items()), *headers]
    try:
        http.decode(headers, body or b"")
        status = 202
    except http.RefusedRequest as refused:
        status = refused.status
    assert status in (202, 400, 413, 415)
