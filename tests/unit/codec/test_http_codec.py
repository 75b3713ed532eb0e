"""Events in HTTP messages: three modes, and the status of each refusal."""

from __future__ import annotations

from typing import Any

import pytest

from streams.codec import http
from streams.codec.http import RefusedRequest
from streams.event import Event

CORE = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
BODY = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'


def event(**changes: Any) -> Event:
    return Event(id="1", source="/s", type="t").with_(**changes)


def refusal(headers: Any, body: bytes, **options: Any) -> tuple[int, str, str]:
    with pytest.raises(RefusedRequest) as caught:
        http.decode(headers, body, **options)
    return caught.value.status, caught.value.code, caught.value.field


def test_binary_mode_percent_encodes_header_values() -> None:
    """HT-1: space, quote, percent and all but printable ASCII; the content type as it is."""
    headers, body = http.encode(
        event(
            data=b"x",
            datacontenttype='text/plain; charset="utf-8"',
            subject='Euro € "😀" 100%',
            extensions={"flag": True},
        )
    )
    assert headers == (
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-subject", "Euro%20%E2%82%AC%20%22%F0%9F%98%80%22%20100%25"),
        ("ce-flag", "true"),
        ("content-type", 'text/plain; charset="utf-8"'),
    )
    assert body == b"x"


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        pytest.param(CORE, b"", (event(),), id="binary, no data"),
        pytest.param(
            {**CORE, "Content-Type": "application/json", "CE-Subject": "a"},
            b"[1]",
            (event(data=b"[1]", datacontenttype="application/json", subject="a"),),
            id="binary, names in any case",
        ),
        pytest.param(
            [(k.encode(), v.encode()) for k, v in CORE.items()],
            b"x",
            (event(data=b"x"),),
            id="binary, raw headers of a server",
        ),
        pytest.param(
            {**CORE, "ce-subject": "%e2%82%AC%20%2525"},
            b"",
            (event(subject="€ %25"),),
            id="one round of percent-decoding",
        ),
        pytest.param(
            {**CORE, "ce-subject": '"a \\"b\\" \\\\"'},
            b"",
            (event(subject='a "b" \\'),),
            id="quotes of older senders",
        ),
        pytest.param({**CORE, "host": "x", "x": "\xff"}, b"", (event(),), id="other headers"),
        pytest.param(STRUCTURED, BODY, (event(),), id="structured"),
        pytest.param({**CORE, **STRUCTURED, "ce-id": "9"}, BODY, (event(),), id="the body wins"),
        pytest.param(
            {"content-type": "Application/CloudEvents+JSON; charset=UTF-8"},
            BODY,
            (event(),),
            id="structured in any case",
        ),
        pytest.param(BATCH, b"[" + BODY + b"," + BODY + b"]", (event(), event()), id="batch"),
        pytest.param(BATCH, b"[]", (), id="empty batch"),
    ],
)
def test_a_request_is_read_in_each_mode(
    headers: Any, body: bytes, expected: tuple[Event, ...]
) -> None:
    """HT-1."""
    assert http.decode(headers, body) == expected


@pytest.mark.parametrize(
    ("headers", "body", "answer"),
    [
        pytest.param({}, b"x", (415, "V020", "content-type"), id="E9 no type at all"),
        pytest.param(
            {"content-type": "text/plain"}, b"x", (415, "V020", "content-type"), id="E9 text"
        ),
        pytest.param(
            {"content-type": "application/cloudevents+avro"},
            b"x",
            (415, "V021", "content-type"),
            id="E9 unreadable format",
        ),
        pytest.param(
            {"content-type": "application/cloudevents+json; charset=utf-7"},
            BODY,
            (415, "V017", "datacontenttype"),
            id="E9 charset of the envelope",
        ),
        pytest.param(
            {**CORE, "content-type": "application/json; charset=utf-7"},
            b"{}",
            (415, "V017", "datacontenttype"),
            id="E9 charset of the data",
        ),
        pytest.param(
            {**CORE, "content-type": "json"}, b"{}", (415, "V010", "datacontenttype"), id="no type"
        ),
        pytest.param(
            {k: v for k, v in CORE.items() if k != "ce-id"}, b"", (400, "V002", "id"), id="E1"
        ),
        pytest.param({**CORE, "ce-id": ""}, b"", (400, "V003", "id"), id="E1 empty"),
        pytest.param({**CORE, "ce-id": "%20"}, b"", (400, "V003", "id"), id="E1 blank"),
        pytest.param({**CORE, "ce-id": "x" * 10_000}, b"", (413, "V011", "id"), id="E1 10 kB"),
        pytest.param({**CORE, "ce-type": "a%0D%0Ab"}, b"", (400, "V006", "type"), id="E5"),
        pytest.param({**CORE, "ce-type": "a\r\nb"}, b"", (400, "V006", "type"), id="E5 raw"),
        pytest.param({**CORE, "ce-subject": "é"}, b"", (400, "V006", "subject"), id="raw é"),
        pytest.param({**CORE, "ce-subject": "%zz"}, b"", (400, "V012", "subject"), id="bad %"),
        pytest.param({**CORE, "ce-subject": "%ff"}, b"", (400, "V012", "subject"), id="not UTF-8"),
        pytest.param({**CORE, "ce-foo_bar": "x"}, b"", (400, "V005", "foo_bar"), id="E4 name"),
        pytest.param({**CORE, "ce-e": "x" * 10**7}, b"", (413, "V011", "e"), id="E4 10 MB"),
        pytest.param(
            {**CORE, **{f"ce-e{n}": "x" for n in range(200)}},
            b"",
            (413, "V011", "extensions"),
            id="E4 200 of them",
        ),
        pytest.param(
            {**CORE, "ce-datacontenttype": "a/b"},
            b"",
            (400, "V005", "datacontenttype"),
            id="HT-1 no ce-datacontenttype",
        ),
        pytest.param(
            [*CORE.items(), ("CE-ID", "2")], b"", (400, "V018", "ce-id"), id="repeated header"
        ),
        pytest.param(
            {**CORE, "content-type": "application/json"},
            b'{"a":1,"a":2}',
            (400, "V014", "data"),
            id="E7 data is checked",
        ),
        pytest.param(
            STRUCTURED,
            BODY[:-1] + b',"datacontenttype":"application/json","data_base64":"ew=="}',
            (400, "V013", "data"),
            id="E7 data in base64 is checked",
        ),
        pytest.param(STRUCTURED, b"", (400, "V013", "event"), id="E7 empty body"),
        pytest.param(STRUCTURED, b"[" * 10**5, (400, "V015", "event"), id="E7 nesting"),
        pytest.param(BATCH, BODY, (400, "V013", "batch"), id="a batch is an array"),
    ],
)
def test_a_refused_request_says_which_status_to_answer(
    headers: Any, body: bytes, answer: tuple[int, str, str]
) -> None:
    """HT-2: 415 for an unreadable format, 413 for too much, else 400."""
    assert refusal(headers, body) == answer


@pytest.mark.parametrize(
    "bad",
    [
        BODY.replace(b'"1"', b'""'),
        BODY[:-1] + b',"datacontenttype":"application/json","data_base64":"ew=="}',
        b"[]",
    ],
)
def test_a_batch_is_taken_whole_or_not_at_all(bad: bytes) -> None:
    """E9: the answer names the first event at fault."""
    with pytest.raises(RefusedRequest) as caught:
        http.decode(BATCH, b"[" + BODY + b"," + bad + b"," + BODY + b"]")
    assert (caught.value.status, caught.value.index) == (400, 1)


def test_a_body_over_the_limit_is_refused_unread() -> None:
    """HT-2, E4."""
    assert refusal(STRUCTURED, BODY, limit=10) == (413, "V011", "body")
    assert http.decode(STRUCTURED, BODY, limit=len(BODY)) == (event(),)


def test_structured_and_batch_messages_name_their_format() -> None:
    """CE-11: media types."""
    assert http.encode_structured(event()) == (
        (("content-type", "application/cloudevents+json; charset=UTF-8"),),
        BODY,
    )
    assert http.encode_batch([event()]) == (
        (("content-type", "application/cloudevents-batch+json; charset=UTF-8"),),
        b"[" + BODY + b"]",
    )
