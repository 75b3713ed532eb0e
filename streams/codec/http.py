"""Events in HTTP messages: binary, structured and batch mode (HT-1).

Intake is the strictest reader: data is checked as well, a repeated header is refused, and a batch
is taken whole or not at all. Every refusal is a `RefusedRequest` with the status to answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

from streams.codec.strict_json import check_data
from streams.codec.structured import (
    BATCH_CONTENT_TYPE,
    CONTENT_TYPE,
    BatchError,
    from_json,
    from_json_batch,
    to_json,
    to_json_batch,
)
from streams.errors import EventError
from streams.event import Event, validate
from streams.event_rules import (
    CHARSET,
    FOREIGN,
    MISSING,
    NAME,
    NOT_UTF8,
    REPEATED,
    REQUIRED,
    TEXT,
    TOO_LARGE,
    UNSUPPORTED_FORMAT,
    canonical,
    check_name,
    media_type,
    require_unicode,
    shown,
)
from streams.event_rules import CONTENT_TYPE as BAD_CONTENT_TYPE

Mode = Literal["binary", "structured", "batch"]
Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
Message = tuple[tuple[tuple[str, str], ...], bytes]

_STATUS: Final = {
    TOO_LARGE: 413,
    UNSUPPORTED_FORMAT: 415,
    FOREIGN: 415,
    CHARSET: 415,
    BAD_CONTENT_TYPE: 415,
}
_CORE: Final = frozenset({*REQUIRED, "subject", "time", "dataschema"})
_UNESCAPED: Final = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')
"""What stands in a header value as it is; the binding has the rest percent-encoded."""
_PRINTABLE: Final = re.compile(r"[\t -~]*")
_BROKEN_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED: Final = re.compile(r"\\(.)")


class RefusedRequest(EventError):
    """A request that is not taken: `status` is the answer's, `index` the event of a batch."""

    def __init__(self, cause: EventError) -> None:
        super().__init__(cause.message, code=cause.code, field=cause.field, help=cause.help)
        self.status = _STATUS.get(cause.code, 400)
        self.index = cause.index if isinstance(cause, BatchError) else None


def decode(headers: Headers, body: bytes, *, limit: int | None = None) -> tuple[Event, ...]:
    """The events of a request, checked and with checked data: one, or those of a batch.

    `limit` is the longest body that is taken. Raises `RefusedRequest`.
    """
    try:
        if limit is not None and len(body) > limit:
            raise EventError(
                f"the body has {len(body)} bytes; {limit} are allowed",
                code=TOO_LARGE,
                field="body",
            )
        return _decode(_event_headers(headers), body)
    except EventError as error:
        raise RefusedRequest(error) from error


def mode_of(content_type: str | None) -> Mode:
    """Which mode a message's content type announces."""
    lowered = (content_type or "").lower()
    if lowered.startswith("application/cloudevents-batch"):
        return "batch"
    return "structured" if lowered.startswith("application/cloudevents") else "binary"


def encode(event: Event) -> Message:
    """Headers and body in binary mode. No data and empty data look the same in HTTP."""
    validate(event)
    headers = [
        (f"ce-{name}", _percent_encoded(value))
        for name, value in (
            ("specversion", event.specversion),
            ("id", event.id),
            ("source", event.source),
            ("type", event.type),
            ("subject", event.subject),
            ("time", event.time),
            ("dataschema", event.dataschema),
            *((name, canonical(value)) for name, value in event.extensions.items()),
        )
        if value is not None
    ]
    if event.datacontenttype is not None:
        headers.append(("content-type", event.datacontenttype))
    return tuple(headers), event.data or b""


def encode_structured(event: Event) -> Message:
    """Headers and body in structured mode."""
    return (("content-type", f"{CONTENT_TYPE}; charset=UTF-8"),), to_json(event)


def encode_batch(events: Sequence[Event]) -> Message:
    """Headers and body of a batch."""
    content_type = f"{BATCH_CONTENT_TYPE}; charset=UTF-8"
    return (("content-type", content_type),), to_json_batch(events)


def _decode(headers: dict[str, str], body: bytes) -> tuple[Event, ...]:
    content_type = headers.pop("content-type", None)
    mode = mode_of(content_type)
    if mode == "binary":
        event = _binary(headers, content_type, body)
        check_data(event)
        return (event,)
    media = media_type(content_type or "")
    require_unicode(media)
    if media.essence == CONTENT_TYPE:
        event = from_json(body)
        check_data(event)
        return (event,)
    if media.essence != BATCH_CONTENT_TYPE:
        raise EventError(
            f"format {media.essence} is not supported",
            code=UNSUPPORTED_FORMAT,
            field="content-type",
            help=f"send {CONTENT_TYPE}, {BATCH_CONTENT_TYPE}, or binary mode",
        )
    events = from_json_batch(body)
    for index, event in enumerate(events):
        try:
            check_data(event)
        except EventError as error:
            raise BatchError(index, error) from error
    return events


def _event_headers(headers: Headers) -> dict[str, str]:
    """The `ce-` headers and the content type, names in lower case, each once."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = (raw_name if isinstance(raw_name, str) else raw_name.decode("latin-1")).lower()
        if not name.startswith("ce-") and name != "content-type":
            continue
        if name in found:
            raise EventError(f"header {shown(name)} comes twice", code=REPEATED, field=name)
        value = raw_value if isinstance(raw_value, str) else raw_value.decode("latin-1")
        found[name] = value.strip(" \t")
    return found


def _binary(headers: dict[str, str], content_type: str | None, body: bytes) -> Event:
    missing = [name for name in REQUIRED if f"ce-{name}" not in headers]
    if len(missing) == len(REQUIRED):
        raise EventError(
            "the request is not a CloudEvent",
            code=FOREIGN,
            field="content-type",
            help=f"send {CONTENT_TYPE} or ce- headers",
        )
    if missing:
        raise EventError(
            f"{missing[0]} is missing",
            code=MISSING,
            field=missing[0],
            help=f"the sender has to set header ce-{missing[0]}",
        )
    core: dict[str, str] = {}
    extensions: dict[str, str | int | bool | bytes] = {}
    for header, value in headers.items():
        name = header[3:]
        if name in _CORE:
            core[name] = _percent_decoded(name, value)
            continue
        if name == "datacontenttype":
            raise EventError(
                "ce-datacontenttype is no header of the binding",
                code=NAME,
                field=name,
                help="the header is called Content-Type",
            )
        check_name(name)
        extensions[name] = _percent_decoded(name, value)
    event = Event(**core, data=body or None, datacontenttype=content_type, extensions=extensions)
    validate(event)
    return event


def _percent_encoded(value: str) -> str:
    return quote(value, safe=_UNESCAPED)


def _percent_decoded(field: str, value: str) -> str:
    """Text of a header value: quotes of older senders taken off, then one round of decoding."""
    if not _PRINTABLE.fullmatch(value):
        raise EventError(
            f"header of {field} holds more than printable ASCII",
            code=TEXT,
            field=field,
            help="percent-encode other characters as UTF-8",
        )
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    if "%" not in value:
        return value
    if _BROKEN_PERCENT.search(value):
        raise EventError(
            f"{field} holds a % that begins no %XX", code=NOT_UTF8, field=field, help="write %25"
        )
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError as error:
        raise EventError(f"{field} is not UTF-8", code=NOT_UTF8, field=field) from error
