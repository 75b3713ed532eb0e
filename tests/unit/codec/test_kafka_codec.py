"""Events in Kafka records: the binding's rules and what the SDK gets wrong."""

from __future__ import annotations

from typing import Any

import pytest

from streams.codec import kafka
from streams.errors import EventError
from streams.event import Event

CORE: tuple[tuple[str, bytes], ...] = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/s"),
    ("ce_type", b"t"),
)
STRUCTURED = ("content-type", b"application/cloudevents+json; charset=UTF-8")
JSON = ("content-type", b"application/json")
BODY = b'{"specversion":"1.0","id":"body","source":"/b","type":"t","data":{"a":1}}'


def event(**changes: Any) -> Event:
    return Event(id="1", source="/s", type="t").with_(**changes)


def refusal(value: bytes | None, headers: Any) -> tuple[str, str]:
    with pytest.raises(EventError) as caught:
        kafka.decode(value, headers)
    return caught.value.code, caught.value.field


def test_binary_mode_puts_data_in_the_value_and_attributes_in_headers() -> None:
    """KB-3: the content type has its own header, values are UTF-8 without percent-encoding."""
    value, headers = kafka.encode(
        event(
            data=b"[1]",
            datacontenttype="application/json",
            subject="größer %20",
            time="2018-04-05T17:31:00Z",
            dataschema="a:b",
            extensions={"flag": True, "count": -1, "blob": b"\xff", "text": "x"},
        )
    )
    assert value == b"[1]"
    assert headers == (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"/s"),
        ("ce_type", b"t"),
        ("content-type", b"application/json"),
        ("ce_subject", "größer %20".encode()),
        ("ce_time", b"2018-04-05T17:31:00Z"),
        ("ce_dataschema", b"a:b"),
        ("ce_flag", b"true"),
        ("ce_count", b"-1"),
        ("ce_blob", b"/w=="),
        ("ce_text", b"x"),
    )


@pytest.mark.parametrize(
    ("value", "headers", "expected"),
    [
        pytest.param(
            b"[1]",
            [*CORE, JSON, ("ce_subject", "größer %20".encode()), ("ce_flag", b"true")],
            event(
                data=b"[1]",
                datacontenttype="application/json",
                subject="größer %20",
                extensions={"flag": "true"},
            ),
            id="KB-3 binary",
        ),
        pytest.param(b"x", CORE, event(data=b"x"), id="KB-2 no content type is binary"),
        pytest.param(
            BODY,
            [STRUCTURED],
            Event(
                id="body",
                source="/b",
                type="t",
                data=b'{"a":1}',
                datacontenttype="application/json",
            ),
            id="KB-5 structured",
        ),
        pytest.param(
            BODY,
            [*CORE, ("ce_FooBar", b"\xff"), STRUCTURED],
            Event(
                id="body",
                source="/b",
                type="t",
                data=b'{"a":1}',
                datacontenttype="application/json",
            ),
            id="KB-5 the body wins over ce_ headers (SDK row 1)",
        ),
        pytest.param(
            BODY,
            [("Content-Type", b"APPLICATION/CloudEvents+JSON")],
            Event(
                id="body",
                source="/b",
                type="t",
                data=b'{"a":1}',
                datacontenttype="application/json",
            ),
            id="KB-2 in any case",
        ),
        pytest.param(None, CORE, event(), id="KB-4 a null value is no data"),
        pytest.param(b"", CORE, event(data=b""), id="KB-4 an empty value is empty data"),
        pytest.param(
            b"null",
            [*CORE, JSON],
            event(data=b"null", datacontenttype="application/json"),
            id="CE-11 an explicit null is data",
        ),
        pytest.param(
            b"{broken",
            [*CORE, JSON],
            event(data=b"{broken", datacontenttype="application/json"),
            id="data is not read while decoding",
        ),
        pytest.param(
            None,
            [*CORE, ("ce_id", b"2"), ("ce_id", b"3")],
            event(id="3"),
            id="KB-9 the last of repeated headers wins",
        ),
        pytest.param(
            None,
            [*CORE, ("ce_subject", b"x"), ("ce_subject", None), ("ce_e", None)],
            event(),
            id="KB-9 null is absent (SDK row 9)",
        ),
        pytest.param(
            None,
            [("ce_id", b"\xff"), *CORE],
            event(),
            id="KB-9 what lost is not looked at",
        ),
        pytest.param(
            None,
            [("streams-redrive", b"\xff"), ("traceparent", b"x"), *CORE],
            event(),
            id="KB-9 other headers are not the event's",
        ),
        pytest.param(
            None,
            [*CORE, ("ce_traceparent", b"x"), ("ce_unknown", b"y")],
            event(extensions={"traceparent": "x", "unknown": "y"}),
            id="CE-8 unknown extensions travel on",
        ),
    ],
)
def test_a_record_is_read_in_either_mode(value: Any, headers: Any, expected: Event) -> None:
    """KB-1: both modes on any topic; read twice, as names met before take a shorter way."""
    assert kafka.decode(value, headers) == expected
    assert kafka.decode(value, headers) == expected


@pytest.mark.parametrize(
    ("value", "headers", "code", "field"),
    [
        pytest.param(b"x", [], "V020", "headers", id="KB-7 foreign"),
        pytest.param(None, [("k", b"v")], "V020", "headers", id="E10 foreign tombstone"),
        pytest.param(None, [JSON], "V020", "headers", id="KB-7 only a content type"),
        pytest.param(None, [("ce_id", None)], "V020", "headers", id="KB-9 null id, nothing else"),
        pytest.param(b"x", CORE[:1] + CORE[2:], "V002", "id", id="CE-1 no id"),
        pytest.param(b"x", (*CORE, ("ce_id", None)), "V002", "id", id="CE-1 null id"),
        pytest.param(b"x", CORE[1:], "V002", "specversion", id="CE-1 no specversion"),
        pytest.param(
            b"[]",
            [("content-type", b"application/cloudevents-batch+json")],
            "V021",
            "content-type",
            id="KB-1 no batches",
        ),
        pytest.param(
            b"x",
            [*CORE, ("content-type", b"application/cloudevents+avro")],
            "V021",
            "content-type",
            id="KB-8, CE-12 Avro is not read as binary mode",
        ),
        pytest.param(
            b"x",
            [("content-type", b"application/cloudevents")],
            "V021",
            "content-type",
            id="KB-8 no format",
        ),
        pytest.param(
            BODY,
            [("content-type", b"application/cloudevents+json; charset=utf-7")],
            "V017",
            "content-type",
            id="E9 charset",
        ),
        pytest.param(None, [STRUCTURED], "V016", "value", id="KB-5 structured without value"),
        pytest.param(
            None,
            [*CORE, ("ce_datacontenttype", b"a/b")],
            "V005",
            "datacontenttype",
            id="KB-3 no ce_datacontenttype",
        ),
        pytest.param(None, [*CORE, ("ce_data", b"x")], "V005", "data", id="CE-3 data"),
        pytest.param(None, [*CORE, ("ce_Id", b"x")], "V005", "Id", id="CE-3 capitals"),
        pytest.param(None, [*CORE, ("ce_", b"x")], "V005", "", id="CE-3 empty name"),
        pytest.param(None, [*CORE, ("ce_e", b"\xff")], "V012", "e", id="E6 not UTF-8"),
        pytest.param(
            None, [*CORE, ("content-type", b"\xff")], "V012", "content-type", id="E6 type"
        ),
        pytest.param(
            None, [*CORE, ("content-type", b"x")], "V010", "datacontenttype", id="CE-6 no type"
        ),
        pytest.param(None, [*CORE, ("ce_subject", b"")], "V003", "subject", id="CE-5 empty"),
        pytest.param(None, [*CORE, ("ce_time", b"now")], "V008", "time", id="CE-4 time"),
    ],
)
def test_a_record_that_breaks_a_rule_is_refused(
    value: Any, headers: Any, code: str, field: str
) -> None:
    """Each with code and field, the second time as the first."""
    assert refusal(value, headers) == (code, field)
    assert refusal(value, headers) == (code, field)


def test_no_data_is_a_tombstone_in_binary_mode_only() -> None:
    """KB-4: a ledger delete is exactly that; KB-5: a structured event always has a value."""
    assert kafka.encode(event())[0] is None
    assert kafka.encode_structured(event())[0] == (
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'
    )


def test_structured_mode_names_format_and_charset() -> None:
    """KB-5: a whole event in the value."""
    value, headers = kafka.encode_structured(event(data=b"x"))
    assert headers == (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
    assert kafka.decode(value, headers) == event(data=b"x")


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        (CORE, True),
        ((*CORE, ("k", None)), True),
        ((STRUCTURED,), True),
        ((("CONTENT-TYPE", b"Application/CloudEvents+xml"),), True),
        (CORE[1:], False),
        ((*CORE, ("ce_type", None)), False),
        ((*CORE[:-1], ("CE_type", b"t")), False),
        ((JSON,), False),
        ((), False),
    ],
)
def test_a_record_is_foreign_unless_it_claims_to_be_an_event(headers: Any, answer: bool) -> None:
    """KB-7: all four required headers, or a structured content type."""
    assert kafka.is_cloudevent(headers) is answer


def test_other_headers_are_kept_in_order() -> None:
    """KB-9: for forwarding, repeated ones and nulls too."""
    headers = (("b", b"1"), *CORE, ("a", None), ("b", b"2"), JSON)
    assert kafka.other_headers(headers) == (("b", b"1"), ("a", None), ("b", b"2"))


@pytest.mark.parametrize(
    ("extensions", "key"),
    [({"partitionkey": "größe"}, "größe".encode()), ({"partitionkey": 5}, b"5"), ({}, None)],
)
def test_the_key_mapper_reads_the_partitionkey_and_leaves_the_event_alone(
    extensions: Any, key: bytes | None
) -> None:
    """KB-6: opt-in; the codec itself neither takes nor gives a record key."""
    keyed = event(extensions=extensions)
    assert kafka.partition_key(keyed) == key
    assert keyed.extensions == extensions


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"id": ""}, "V003"),
        ({"type": "a\r\nb"}, "V006"),
        ({"extensions": {"FooBar": "x"}}, "V005"),
        ({"extensions": {"e": 2**40}}, "V007"),
        ({"subject": "\ud800"}, "V006"),
    ],
)
def test_an_event_that_breaks_a_rule_is_not_sent(changes: Any, code: str) -> None:
    """An event written out by hand is checked here."""
    with pytest.raises(EventError) as caught:
        kafka.encode(event(**changes))
    assert caught.value.code == code


def test_a_flood_of_names_is_forgotten_and_does_not_mislead() -> None:
    """Names are remembered up to a bound; past it reading goes on as before."""
    for n in range(5000):
        kafka.decode(None, [*CORE, (f"ce_flood{n}", b"x"), (f"other{n}", b"x")])
        kafka.encode(event(extensions={f"flood{n}": "x"}))
    assert len(kafka._attributes) <= 4096
    assert max(map(len, kafka._layouts)) <= 4096
    assert kafka.decode(b"[1]", [*CORE, JSON]).datacontenttype == "application/json"


@pytest.mark.parametrize(
    ("header", "good", "bad", "code"),
    [
        ("ce_dataref", b"/blobs/1", b"/blobs/1 2", "V009"),
        ("ce_expirytime", b"2018-04-05T17:31:00Z", b"tomorrow", "V008"),
        ("ce_partitionkey", b"k", b"", "V003"),
        ("ce_plain", b"x", b"x\n", "V006"),
        ("ce_subject", b"s", b" ", "V003"),
        ("ce_time", b"2018-04-05T17:31:00Z", b"2018-02-30T17:31:00Z", "V008"),
        ("content-type", b"text/plain", b"text", "V010"),
    ],
)
def test_names_that_are_known_do_not_open_the_door_for_their_values(
    header: str, good: bytes, bad: bytes, code: str
) -> None:
    """The quick way of reading and writing knows names that came before; values it must judge."""
    for _ in range(3):
        written = kafka.encode(kafka.decode(None, [*CORE, (header, good)]))
        assert dict(written[1])[header] == good
    with pytest.raises(EventError) as caught:
        kafka.decode(None, [*CORE, (header, bad)])
    assert caught.value.code == code
    extension = header.removeprefix("ce_")
    changes = (
        {{"content-type": "datacontenttype"}.get(header, extension): bad.decode()}
        if header in {"ce_subject", "ce_time", "content-type"}
        else {"extensions": {extension: bad.decode()}}
    )
    with pytest.raises(EventError) as caught:
        kafka.encode(event(**changes))
    assert caught.value.code == code


def test_headers_that_many_events_share_are_one_object() -> None:
    """A log in this process keeps thousands of records; the collector looks at each tuple."""
    one = kafka.encode(event(extensions={"part": "a", "scope": "j1"}))[1]
    two = kafka.encode(event(extensions={"part": "a", "scope": "j2"}))[1]
    same = [name for (name, _), a, b in zip(one, one, two, strict=True) if a is b]
    assert same == ["ce_specversion", "ce_source", "ce_type", "ce_part"]
