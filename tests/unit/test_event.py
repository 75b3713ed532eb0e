"""The event itself: rules of its attributes, derived ids, times, values."""

from __future__ import annotations

import re
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import event as events
from streams import event_rules
from streams.codec.explanations import EXPLANATIONS
from streams.errors import EventError
from streams.event import (
    ENGINE_EXTENSIONS,
    NAMESPACE,
    Event,
    derived_id,
    fingerprint,
    idempotency_key,
    strip_engine_extensions,
    submission_job_id,
    validate,
)
from streams.event_rules import canonical, media_type, milliseconds, timestamp


def event(**changes: Any) -> Event:
    return Event(id="1", source="/s", type="com.acme.doc.parsed.v1").with_(**changes)


def refusal(**changes: Any) -> tuple[str, str]:
    with pytest.raises(EventError) as caught:
        validate(event(**changes))
    return caught.value.code, caught.value.field


# Rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"source": "https://github.com/cloudevents"},
        {"source": "mailto:cncf-wg-serverless@lists.cncf.io"},
        {"source": "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"},
        {"source": "/sensors/tn-1234567/alerts"},
        {"source": "1-555-123-4567"},
        {"source": "//user@[2001:db8::1]:80/a%20b?q=/?#f"},
        {"type": "naïve type with spaces"},
        {"subject": "doc/1/chunk/2 größer"},
        {"dataschema": "https://example.com/schema/v2"},
        {"time": "2018-04-05T17:31:00Z"},
        {"datacontenttype": 'Text/Plain; Charset="utf-8"'},
        {"extensions": {"text": "", "flag": True, "count": -(2**31), "blob": b"\x00"}},
        {"extensions": {"averylongextensionnameofmorethantwenty": "x"}},
        {"extensions": {"dataref": "blob://ns/p/root/abc", "expirytime": "2026-01-01T00:00:00Z"}},
    ],
)
def test_what_the_specification_allows_is_accepted(changes: dict[str, Any]) -> None:
    """CE-1 … CE-5, with the examples of the specification."""
    validate(event(**changes))


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        pytest.param({"id": ""}, "V003", "id", id="CE-1 empty id"),
        pytest.param({"source": ""}, "V003", "source", id="CE-1 empty source"),
        pytest.param({"type": ""}, "V003", "type", id="CE-1 empty type"),
        pytest.param({"id": None}, "V007", "id", id="CE-1 id null"),
        pytest.param({"id": 7}, "V007", "id", id="CE-4 id a number"),
        pytest.param({"specversion": "0.3"}, "V004", "specversion", id="CE-1 version"),
        pytest.param({"extensions": {"foo_bar": "x"}}, "V005", "foo_bar", id="CE-3 _"),
        pytest.param({"extensions": {"foo-bar": "x"}}, "V005", "foo-bar", id="CE-3 -"),
        pytest.param({"extensions": {"FooBar": "x"}}, "V005", "FooBar", id="CE-3 capitals"),
        pytest.param({"extensions": {"größe": "x"}}, "V005", "größe", id="CE-3 umlaut"),
        pytest.param({"extensions": {"data": "x"}}, "V005", "data", id="CE-3 data"),
        pytest.param({"extensions": {"": "x"}}, "V005", "", id="CE-3 empty"),
        pytest.param({"extensions": {"subject": "x"}}, "V005", "subject", id="CE-3 core name"),
        pytest.param({"extensions": {"e": None}}, "V007", "e", id="CE-4 null"),
        pytest.param({"extensions": {"e": []}}, "V007", "e", id="CE-4 list"),
        pytest.param({"extensions": {"e": {}}}, "V007", "e", id="CE-4 map"),
        pytest.param({"extensions": {"e": 1.5}}, "V007", "e", id="CE-4 fraction"),
        pytest.param({"extensions": {"e": 2**31}}, "V007", "e", id="CE-4 33 bits"),
        pytest.param({"extensions": {"e": "a\x00"}}, "V006", "e", id="CE-4 NUL"),
        pytest.param({"extensions": {"e": "a\x7f"}}, "V006", "e", id="CE-4 DEL"),
        pytest.param({"extensions": {"e": "a\x85"}}, "V006", "e", id="CE-4 C1"),
        pytest.param({"extensions": {"e": "\ud800"}}, "V006", "e", id="CE-4 lone surrogate"),
        pytest.param({"extensions": {"e": "\ufdd0"}}, "V006", "e", id="CE-4 noncharacter"),
        pytest.param({"extensions": {"e": "\U0001ffff"}}, "V006", "e", id="CE-4 plane 1"),
        pytest.param({"subject": ""}, "V003", "subject", id="CE-5 empty subject"),
        pytest.param({"subject": " "}, "V003", "subject", id="CE-5 blank subject"),
        pytest.param({"dataschema": ""}, "V003", "dataschema", id="CE-5 empty dataschema"),
        pytest.param({"dataschema": "/v2"}, "V009", "dataschema", id="CE-5 relative schema"),
        pytest.param({"source": "a b"}, "V009", "source", id="CE-5 space"),
        pytest.param({"source": "/a%2"}, "V009", "source", id="CE-5 half an escape"),
        pytest.param({"source": "/a#b#c"}, "V009", "source", id="CE-5 two fragments"),
        pytest.param({"source": "/größe"}, "V009", "source", id="CE-5 not ASCII"),
        pytest.param({"datacontenttype": "json"}, "V010", "datacontenttype", id="CE-6"),
        pytest.param({"datacontenttype": ""}, "V003", "datacontenttype", id="CE-6 empty"),
        pytest.param({"time": ""}, "V003", "time", id="CE-4 empty time"),
        pytest.param({"data": "text"}, "V007", "data", id="data not bytes"),
        pytest.param({"extensions": {"partitionkey": ""}}, "V003", "partitionkey", id="CE-10"),
        pytest.param({"extensions": {"dataref": "a b"}}, "V009", "dataref", id="CE-10 dataref"),
        pytest.param({"extensions": {"expirytime": "soon"}}, "V008", "expirytime", id="CE-10 t"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_code_and_field(
    changes: dict[str, Any], code: str, field: str
) -> None:
    """CE-1, CE-3 … CE-6, CE-10."""
    assert refusal(**changes) == (code, field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": "x" * 1025}, "id"),
        ({"id": "ü" * 513}, "id"),
        ({"source": "/" * 2049}, "source"),
        ({"type": "x" * 1025}, "type"),
        ({"subject": "x" * 4097}, "subject"),
        ({"time": "2018-04-05T17:31:00." + "0" * 60 + "Z"}, "time"),
        ({"datacontenttype": "text/" + "x" * 252}, "datacontenttype"),
        ({"extensions": {"e": "x" * 16385}}, "e"),
        ({"extensions": {"e": b"x" * 16385}}, "e"),
        ({"extensions": {"x" * 65: "x"}}, "x" * 40 + "…"),
        ({"extensions": {f"e{n}": "x" for n in range(101)}}, "extensions"),
        ({"extensions": {f"e{n}": "x" * 16000 for n in range(5)}}, "extensions"),
    ],
)
def test_attributes_have_limits(changes: dict[str, Any], field: str) -> None:
    """CE-7: whoever is next on the way need not forward more than 64 KiB."""
    assert refusal(**changes) == ("V011", field)


@given(
    st.builds(
        Event,
        id=st.text(max_size=4),
        source=st.text(alphabet="a/ %2#é", max_size=5),
        type=st.text(max_size=4),
        subject=st.none() | st.text(max_size=3),
        time=st.none() | st.sampled_from(["2018-04-05T17:31:00Z", "x", "", "2018-04-05T17:31:60Z"]),
        datacontenttype=st.none() | st.sampled_from(["a/b", "a", "", "text/plain;charset=x"]),
        dataschema=st.none() | st.sampled_from(["a:b", "b", ""]),
        extensions=st.dictionaries(
            st.sampled_from(["a", "A", "partitionkey", "dataref", "expirytime"]),
            st.text(max_size=2) | st.integers() | st.booleans() | st.binary(max_size=2),
            max_size=3,
        ),
        specversion=st.sampled_from(["1.0", "1.1"]),
    )
)
def test_the_quick_look_never_passes_what_the_thorough_one_refuses(candidate: Event) -> None:
    """`validate` trusts the quick look, so that one has to be right whenever it says yes."""
    if events._plainly_valid(candidate):
        events._find_fault(candidate)


def test_every_code_is_explained() -> None:
    """`streams explain CODE` answers for whatever an error shows."""
    codes = {
        value
        for name, value in vars(event_rules).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"V[0-9]{3}", value)
    }
    assert codes == set(EXPLANATIONS)
    assert len(codes) == 21


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-5, "-5"),
        (2**31 - 1, "2147483647"),
        (b"\xff\x00", "/wA="),
        ("True", "True"),
    ],
)
def test_a_value_has_one_canonical_text(value: Any, text: str) -> None:
    """CE-4."""
    assert canonical(value) == text


@pytest.mark.parametrize(
    ("content_type", "data", "value"),
    [
        ("application/json", b'{"a": [1, 2.5]}', {"a": [1, 2.5]}),
        ("application/json", b'"{}"', "{}"),
        ("application/json", b"null", None),
        ("APPLICATION/JSON ; charset=UTF-8", b"1", 1),
        ("image/svg+json", b"[1]", [1]),
        ("text/json", b"[1]", [1]),
        ("text/plain", "größer".encode(), "größer"),
        ("text/plain; charset=iso-8859-1", b"\xe9", "é"),
        ("application/xml", b"<a/>", b"<a/>"),
        ("application/octet-stream", b"\xff", b"\xff"),
        (None, b"{}", b"{}"),
        ("application/json", None, None),
    ],
)
def test_the_value_follows_the_content_type(
    content_type: str | None, data: bytes | None, value: Any
) -> None:
    """CE-6: names in a content type compare without regard to case; CE-11: a JSON string is not
    parsed again, and nothing is assumed about data without a type."""
    assert event(data=data, datacontenttype=content_type).value() == value


@pytest.mark.parametrize(
    ("content_type", "data", "code"),
    [
        ("application/json", b"{", "V013"),
        ("application/json", b"\xff", "V013"),
        ("application/json", b"[" * 100_000, "V013"),
        ("application/json; charset=utf-7", b"{}", "V017"),
        ("text/plain", b"\xff", "V017"),
        ("text/plain; charset=rot13", b"x", "V017"),
    ],
)
def test_broken_data_is_an_event_error(content_type: str, data: bytes, code: str) -> None:
    """A stage that asks for the value gets one kind of error, also for 100,000 brackets."""
    with pytest.raises(EventError) as caught:
        event(data=data, datacontenttype=content_type).value()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("value", "content_type", "data", "resulting_type"),
    [
        ({"a": 1}, None, b'{"a":1}', "application/json"),
        ("hi", None, b'"hi"', "application/json"),
        (None, None, b"null", "application/json"),
        ([1, {"x": True}], "a/b+json", b'[1,{"x":true}]', "a/b+json"),
        ("hi", "text/plain", b"hi", "text/plain"),
        ("é", "text/plain; charset=latin1", b"\xe9", "text/plain; charset=latin1"),
        (b"\xff", None, b"\xff", "application/octet-stream"),
        (b"{}", "application/json", b"{}", "application/json"),
    ],
)
def test_make_encodes_a_value_by_its_content_type(
    value: Any, content_type: str | None, data: bytes, resulting_type: str
) -> None:
    """CE-11: None is an explicit null; leaving `value` out means no data."""
    made = Event.make(id="1", source="/s", type="t", value=value, datacontenttype=content_type)
    assert (made.data, made.datacontenttype) == (data, resulting_type)


def test_make_without_value_has_no_data() -> None:
    """CE-11: no data differs from null."""
    made = Event.make(id="1", source="/s", type="t")
    assert (made.data, made.datacontenttype) == (None, None)


@pytest.mark.parametrize(
    ("value", "content_type"),
    [
        (float("nan"), None),
        ({"a": [None, float("inf")]}, None),
        (object(), None),
        ("\ud800", None),
        ({"a": 1}, "text/plain"),
        ("é", "text/plain; charset=us-ascii"),
    ],
)
def test_make_refuses_a_value_that_would_change_on_the_way(
    value: Any, content_type: str | None
) -> None:
    """A NaN must not turn into null in silence."""
    with pytest.raises(EventError) as caught:
        Event.make(id="1", source="/s", type="t", value=value, datacontenttype=content_type)
    assert caught.value.code == "V019"


def test_make_refuses_value_and_data_together() -> None:
    """One of them would be lost."""
    with pytest.raises(EventError, match="not both"):
        Event.make(id="1", source="/s", type="t", value=1, data=b"1")


def test_make_checks_the_attributes() -> None:
    """CE-1: an id is never invented."""
    with pytest.raises(EventError, match="id is blank"):
        Event.make(id=" ", source="/s", type="t")


def test_content_types_are_taken_apart_without_regard_to_case() -> None:
    """CE-6."""
    assert media_type('Application/Geo+JSON ; x="a;b" ; Charset="UTF-8"') == (
        "application/geo+json",
        "utf-8",
    )


@pytest.mark.parametrize("text", ["text/plain; charset=a; charset=b", "text/plain;" + " ;" * 100])
def test_odd_content_types_are_decided_quickly(text: str) -> None:
    """Two charsets are refused; empty parameters are legal and must not take exponential time."""
    if "charset" in text:
        with pytest.raises(EventError, match="two charsets"):
            media_type(text)
    else:
        assert media_type(text).essence == "text/plain"


# Copies -------------------------------------------------------------------------------------------


def test_an_event_is_immutable() -> None:
    """Values are frozen; a change makes a copy."""
    first = event()
    with pytest.raises(AttributeError):
        first.id = "2"  # type: ignore[misc]
    assert (first.with_(id="2").id, first.id) == ("2", "1")


def test_extensions_are_added_replaced_and_taken_away() -> None:
    """The former event keeps its own."""
    first = event(extensions={"a": "1", "b": "2"})
    second = first.with_extensions(a="3", b=None, c=True)
    assert second.extensions == {"a": "3", "c": True}
    assert first.extensions == {"a": "1", "b": "2"}


def test_what_only_the_engine_may_set_is_stripped_from_strangers() -> None:
    """E11: a forged attempt or tenant has no effect; CE-8: what is unknown travels on."""
    forged = dict.fromkeys(
        [
            "attempt",
            "cause",
            "depth",
            "due",
            "epoch",
            "part",
            "planversion",
            "replyto",
            "root",
            "scope",
            "tenant",
            "turn",
            "via",
        ],
        "1",
    )
    stripped = strip_engine_extensions(event(extensions={**forged, "unknown": "x"}))
    assert stripped.extensions == {"unknown": "x"}
    assert forged.keys() > ENGINE_EXTENSIONS


def test_whoever_authenticated_the_sender_may_keep_the_tenant() -> None:
    """The gateway sets it itself, the keeper then trusts the gateway."""
    given_event = event(extensions={"tenant": "acme", "epoch": "9"})
    kept = strip_engine_extensions(given_event, keep=frozenset({"tenant"}))
    assert kept.extensions == {"tenant": "acme"}


def test_an_event_without_forged_extensions_is_passed_as_it_is() -> None:
    """No copy on the usual way."""
    plain = event(extensions={"a": "1"})
    assert strip_engine_extensions(plain) is plain


# Ids ----------------------------------------------------------------------------------------------


def test_derived_ids_never_change() -> None:
    """Crash and retry give the same id only while the formula stays as it is (CE-2)."""
    derived = derived_id("job-1", "abc", "job-1/each[3]", "par/left/a", 1, 2, "parent", 0)
    assert derived == DERIVED
    assert idempotency_key("job-1", "abc", "job-1/each[3]", "par/left/a", 0) == IDEMPOTENT
    assert submission_job_id("/feed", "42") == SUBMITTED


def test_derived_ids_are_version_5_uuids() -> None:
    """They are what the standard library makes of the namespace and the joined fields."""
    name = "event:1:r2:dd1:s1:p1:x3:4:5"
    assert derived_id("r", "dd", "s", "p", 3, 4, "x", 5) == str(uuid.uuid5(NAMESPACE, name))


FIELDS = st.tuples(
    st.text(alphabet="a1:|", max_size=3),
    st.text(alphabet="a1:|", max_size=3),
    st.text(alphabet="a1:|", max_size=3),
    st.text(alphabet="a1:|", max_size=3),
    st.integers(0, 12),
    st.integers(0, 12),
    st.text(alphabet="a1:|", max_size=3),
    st.integers(0, 12),
)


@given(FIELDS, FIELDS)
def test_different_fields_give_different_ids(one: Any, other: Any) -> None:
    """No two lists of fields are joined to the same text."""
    assert (derived_id(*one) == derived_id(*other)) == (one == other)


@given(FIELDS)
def test_the_sinks_key_ignores_how_often_the_step_ran(fields: Any) -> None:
    """A redrive keeps the key: epoch, turn and parent are not in it."""
    root, digest, scope, part, _, _, _, ordinal = fields
    key = idempotency_key(root, digest, scope, part, ordinal)
    assert key != derived_id(*fields)
    assert key == idempotency_key(root, digest, scope, part, ordinal)


def test_source_and_id_of_a_submission_are_kept_apart() -> None:
    """CE-2: ("ab", "c") and ("a", "bc") are two events."""
    assert submission_job_id("ab", "c") != submission_job_id("a", "bc")
    assert submission_job_id("1:a", "b") != submission_job_id("1", ":ab")


@pytest.mark.parametrize(
    "changes",
    [
        {"data": b"{}"},
        {"data": b""},
        {"type": "t2"},
        {"subject": "x"},
        {"dataschema": "a:b"},
        {"datacontenttype": "a/b"},
    ],
)
def test_a_known_id_with_another_body_is_noticed(changes: dict[str, Any]) -> None:
    """E12: the fingerprint differs."""
    assert fingerprint(event(**changes)) != fingerprint(event())


def test_a_resend_with_a_new_clock_is_the_same() -> None:
    """CE-2: a re-send may repeat the pair; its trace and time are the sender's retry's."""
    again = event(time="2026-01-01T00:00:00Z", extensions={"traceparent": "x"})
    assert fingerprint(again) == fingerprint(event())


# Times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_266_000_000, "2026-11-21T13:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_timestamp_is_read_back_as_it_was(ms: int, text: str) -> None:
    """CE-4: RFC 3339 with zone."""
    assert timestamp(ms) == text
    assert milliseconds(text) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01t00:00:01z", 1000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:30:00-00:30", 0),
        ("1970-01-01T00:00:00.1234567Z", 123),
        ("1970-01-01T00:00:00.5Z", 500),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2017-01-01T00:59:60+01:00", 1_483_228_800_000),
    ],
)
def test_every_form_of_rfc_3339_is_read(text: str, ms: int) -> None:
    """CE-4."""
    assert milliseconds(text) == ms
    validate(event(time=text))


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-11-21T13:00:00",
        "2026-11-21 13:00:00Z",
        "9999999-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T13:00:60Z",
        "2016-12-31T23:59:60+01:00",
        "2026-11-21T13:00:00+24:00",
        "2026-11-21T13:00:00.Z",
        "2026-11-21T13:00Z",
        "2026-W47-6T13:00:00Z",
        "\uff12026-11-21T13:00:00Z",
    ],
)
def test_what_is_no_rfc_3339_time_is_refused(text: str) -> None:
    """E2, and the forms that Python's own reader would take."""
    assert refusal(time=text) == ("V008", "time")


def test_a_time_without_a_year_is_an_event_error() -> None:
    """The end of the calendar is the caller's fault, not a crash."""
    with pytest.raises(EventError):
        timestamp(10**18)


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_every_millisecond_survives(ms: int) -> None:
    """From year 1 to 9999."""
    assert milliseconds(timestamp(ms)) == ms


def test_events_can_stand_in_other_structs() -> None:
    """An event is a plain msgspec value."""
    assert msgspec.structs.asdict(event())["specversion"] == "1.0"


DERIVED = "e2a4517d-642d-53ac-9248-a592e34fe581"
IDEMPOTENT = "100374ac-fca3-50f6-803c-d695feb17347"
SUBMITTED = "f67eefe0-3595-5969-b881-e842f9a7daf2"
