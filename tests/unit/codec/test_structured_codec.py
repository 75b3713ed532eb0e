"""The JSON event format, one event and batches."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streams.codec.structured import (
    BatchError,
    from_json,
    from_json_batch,
    to_json,
    to_json_batch,
)
from streams.errors import EventError
from streams.event import Event


def event(**changes: Any) -> Event:
    return Event(id="1", source="/s", type="t").with_(**changes)


CORE = '"specversion":"1.0","id":"1","source":"/s","type":"t"'


def body(extra: str = "", core: str = CORE) -> bytes:
    return ("{" + core + extra + "}").encode()


def refusal(data: bytes) -> tuple[str, str]:
    with pytest.raises(EventError) as caught:
        from_json(data)
    return caught.value.code, caught.value.field


@pytest.mark.parametrize(
    ("content_type", "data", "member"),
    [
        pytest.param("application/json", b'{"a": 1.10}', '"data":{"a": 1.10}', id="JSON value"),
        pytest.param("application/json", b'"hi"', '"data":"hi"', id="JSON string"),
        pytest.param("application/json", b"null", '"data":null', id="explicit null"),
        pytest.param("image/svg+json", b"[1]", '"data":[1]', id="+json (SDK row 6)"),
        pytest.param("text/json", b"[1]", '"data":[1]', id="*/json"),
        pytest.param("text/plain", b"[1]", '"data":"[1]"', id="text is a string"),
        pytest.param("application/xml", b"<a/>", '"data":"<a/>"', id="XML is a string"),
        pytest.param(
            "text/plain; charset=iso-8859-1", b"\xe9", '"data":"é"', id="text of its charset"
        ),
        pytest.param("a/b", b"\xff", '"data_base64":"/w=="', id="bytes"),
        pytest.param(None, b"{}", '"data_base64":"e30="', id="without a type nothing is assumed"),
        pytest.param("application/json", b"{", '"data_base64":"ew=="', id="broken JSON"),
        pytest.param(
            "text/plain; charset=utf-16",
            b"\xfe\xff\x00a",
            '"data_base64":"/v8AYQ=="',
            id="text that would come back in another byte order",
        ),
        pytest.param("text/plain", b"\xff", '"data_base64":"/w=="', id="broken text"),
    ],
)
def test_data_is_embedded_by_its_type(content_type: str | None, data: bytes, member: str) -> None:
    """CE-11; what reads back is the same event."""
    written = to_json(event(data=data, datacontenttype=content_type))
    assert written.decode().endswith("," + member + "}")
    assert from_json(written) == event(data=data, datacontenttype=content_type)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        pytest.param("", event(), id="CE-11 no data"),
        pytest.param(
            ',"data":null',
            event(data=b"null", datacontenttype="application/json"),
            id="CE-11 explicit null",
        ),
        pytest.param(
            ',"data":"{}"',
            event(data=b'"{}"', datacontenttype="application/json"),
            id="CE-11 a string is not parsed again",
        ),
        pytest.param(
            ',"data": {"n": 1.10, "big": 123456789012345678901234567890} ',
            event(
                data=b'{"n": 1.10, "big": 123456789012345678901234567890}',
                datacontenttype="application/json",
            ),
            id="CE-6 the implied type is said, numbers keep their digits",
        ),
        pytest.param(
            ',"datacontenttype":"text/plain","data":"h\\u00e9"',
            event(data="hé".encode(), datacontenttype="text/plain"),
            id="CE-11 text",
        ),
        pytest.param(
            ',"data_base64":"/w=="', event(data=b"\xff"), id="CE-11 base64 assumes nothing"
        ),
        pytest.param(
            ',"data_base64":"e30=","datacontenttype":"application/json"',
            event(data=b"{}", datacontenttype="application/json"),
            id="CE-11 base64 of JSON",
        ),
        pytest.param(
            ',"time":null,"subject":null,"unset":null,"data_base64":null',
            event(),
            id="CE-11 null attributes are absent (SDK row 8)",
        ),
        pytest.param(
            ',"flag":true,"count":-5,"text":"x"',
            event(extensions={"flag": True, "count": -5, "text": "x"}),
            id="CE-4 typed extensions",
        ),
    ],
)
def test_an_event_is_read_as_the_format_says(extra: str, expected: Event) -> None:
    """CE-4, CE-6, CE-11."""
    read = from_json(body(extra))
    assert read == expected
    assert {k: type(v) for k, v in read.extensions.items()} == {
        k: type(v) for k, v in expected.extensions.items()
    }


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        pytest.param(b"[]", "V013", "event", id="E7 array"),
        pytest.param(b"{", "V013", "event", id="E7 broken"),
        pytest.param(b"", "V013", "event", id="E7 empty"),
        pytest.param(body(',"data":NaN'), "V013", "event", id="E7 NaN"),
        pytest.param(b"\xef\xbb\xbf" + body(), "V013", "event", id="byte order mark"),
        pytest.param(body(',"id":"2"'), "V014", "event", id="E7 repeated attribute"),
        pytest.param(body(',"data":{"a":1,"\\u0061":2}'), "V014", "event", id="E7 repeated key"),
        pytest.param(body(',"a":' + "[" * 100_000), "V015", "event", id="E7 nesting"),
        pytest.param(body().replace(b"/s", b"\xff"), "V012", "event", id="E6 not UTF-8"),
        pytest.param(body(core='"id":"1"'), "V002", "source", id="CE-1 missing"),
        pytest.param(body(',"id2":1').replace(b'"1"', b"null", 1), "V002", "id", id="CE-1 null id"),
        pytest.param(body().replace(b'"1"', b"1"), "V007", "id", id="CE-4 id a number"),
        pytest.param(body().replace(b'"1.0"', b"1.0"), "V004", "specversion", id="E3 number"),
        pytest.param(body(',"e":{}'), "V007", "e", id="CE-4 map"),
        pytest.param(body(',"e":[1]'), "V007", "e", id="CE-4 list"),
        pytest.param(body(',"e":1.5'), "V007", "e", id="CE-4 fraction"),
        pytest.param(body(',"e":2147483648'), "V007", "e", id="CE-4 33 bits"),
        pytest.param(body(',"e_f":1'), "V005", "e_f", id="CE-3"),
        pytest.param(body(',"data":1,"data_base64":"AA=="'), "V016", "data", id="E8 both"),
        pytest.param(body(',"data_base64":"%"'), "V016", "data_base64", id="E8 bad base64"),
        pytest.param(body(',"data_base64":"AA"'), "V016", "data_base64", id="E8 no padding"),
        pytest.param(body(',"data_base64":1'), "V016", "data_base64", id="E8 a number"),
        pytest.param(
            body(',"datacontenttype":"text/plain","data":{}'), "V016", "data", id="CE-11 text"
        ),
        pytest.param(
            body(',"datacontenttype":1,"data":{}'), "V007", "datacontenttype", id="type a number"
        ),
        pytest.param(
            body(',"datacontenttype":"application/json;charset=utf-7","data":1'),
            "V017",
            "datacontenttype",
            id="E9 charset",
        ),
        pytest.param(
            body(',"datacontenttype":"text/plain;charset=us-ascii","data":"\\u00e9"'),
            "V017",
            "data",
            id="text outside of its charset",
        ),
    ],
)
def test_an_event_that_breaks_a_rule_is_refused(data: bytes, code: str, field: str) -> None:
    """Each with code and field."""
    assert refusal(data) == (code, field)


def test_bytes_in_an_extension_become_base64() -> None:
    """CE-4: the canonical form of Binary."""
    assert json.loads(to_json(event(extensions={"e": b"\xff", "t": True})))["e"] == "/w=="


def test_data_as_deep_as_allowed_can_be_embedded_and_read_back() -> None:
    """The envelope adds a level of its own, which is not the data's."""
    deep = event(data=b"[" * 512 + b"]" * 512, datacontenttype="application/json")
    assert from_json(to_json(deep)) == deep


def test_a_batch_is_an_array_of_events() -> None:
    """HT-1; an empty one is legal."""
    events = (event(data=b'{"a":1}', datacontenttype="application/json"), event(id="2"))
    assert from_json_batch(to_json_batch(events)) == events
    assert from_json_batch(b"[]") == ()


def test_a_batch_with_one_bad_event_is_refused_whole() -> None:
    """E9: all or none, and it is said which one."""
    batch = b"[" + body() + b"," + body().replace(b'"1"', b'" "') + b"]"
    with pytest.raises(BatchError) as caught:
        from_json_batch(batch)
    assert (caught.value.index, caught.value.code, caught.value.field) == (1, "V003", "id")


def test_a_batch_that_is_no_array_is_refused() -> None:
    """One event is not a batch of one."""
    with pytest.raises(EventError, match="array"):
        from_json_batch(body())
