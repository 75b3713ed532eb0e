"""The JSON event format: a whole event as one JSON object (CE-11).

An event read here is strict JSON throughout; its `data` stays the bytes it was written with, so
that numbers keep their digits.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from streams.codec.strict_json import DEPTH_LIMIT, parse
from streams.errors import EventError
from streams.event import Event, validate
from streams.event_rules import (
    BROKEN_JSON,
    CHARSET,
    CORE_ATTRIBUTES,
    DATA_FORM,
    MISSING,
    REQUIRED,
    VALUE_TYPE,
    base64_text,
    media_type,
    require_unicode,
)

CONTENT_TYPE: Final = "application/cloudevents+json"
BATCH_CONTENT_TYPE: Final = "application/cloudevents-batch+json"

_JSON: Final = "application/json"


class _DataMember(msgspec.Struct):
    """The bytes of the `data` member, apart from the rest."""

    data: msgspec.Raw = msgspec.Raw()


_encode = msgspec.json.Encoder().encode
_data_member = msgspec.json.Decoder(_DataMember).decode
_members = msgspec.json.Decoder(list[msgspec.Raw]).decode


def to_json(event: Event) -> bytes:
    """The event as one JSON object. Data is embedded where its type allows (JSON as a value, text
    as a string); anything else, and JSON that is broken, becomes `data_base64`."""
    validate(event)
    envelope: dict[str, Any] = {
        "specversion": event.specversion,
        "id": event.id,
        "source": event.source,
        "type": event.type,
    }
    for name in ("datacontenttype", "subject", "time", "dataschema"):
        value = getattr(event, name)
        if value is not None:
            envelope[name] = value
    for name, value in event.extensions.items():
        envelope[name] = base64_text(value) if isinstance(value, bytes) else value
    if event.data is not None:
        member, content = _embedded(event.data, event.datacontenttype)
        envelope[member] = content
    return _encode(envelope)


def _embedded(data: bytes, datacontenttype: str | None) -> tuple[str, msgspec.Raw | str]:
    if datacontenttype is not None:
        media = media_type(datacontenttype)
        try:
            if media.is_json:
                require_unicode(media)
                parse(data)
                return "data", msgspec.Raw(data)
            if media.is_text:
                text = data.decode(media.codec)
                if text.encode(media.codec) == data:  # a byte order mark may get lost
                    return "data", text
        except (EventError, UnicodeError):
            pass
    return "data_base64", base64_text(data)


def from_json(data: bytes) -> Event:
    """The event in one JSON object; raises `EventError` if it breaks any rule."""
    return _event(parse(data, field="event", depth=DEPTH_LIMIT + 1), data)


def to_json_batch(events: Sequence[Event]) -> bytes:
    """The events as one JSON array."""
    return b"[" + b",".join(to_json(event) for event in events) + b"]"


class BatchError(EventError):
    """One event of a batch is at fault; `index` says which. The batch is refused as a whole."""

    def __init__(self, index: int, cause: EventError) -> None:
        super().__init__(
            f"event {index} of the batch: {cause.message}",
            code=cause.code,
            field=cause.field,
            help=cause.help,
        )
        self.index = index


def from_json_batch(data: bytes) -> tuple[Event, ...]:
    """The events in a JSON array: all of them, or `BatchError` for the first at fault."""
    values = parse(data, field="batch", depth=DEPTH_LIMIT + 2)
    if not isinstance(values, list):
        raise EventError("a batch is a JSON array of events", code=BROKEN_JSON, field="batch")
    events = []
    for index, (value, raw) in enumerate(zip(values, _members(data), strict=True)):
        try:
            events.append(_event(value, bytes(raw)))
        except EventError as error:
            raise BatchError(index, error) from error
    return tuple(events)


def _event(envelope: Any, source: bytes) -> Event:
    if not isinstance(envelope, dict):
        raise EventError("an event is a JSON object", code=BROKEN_JSON, field="event")
    has_data = "data" in envelope
    envelope.pop("data", None)
    encoded = envelope.pop("data_base64", None)
    attributes = {name: value for name, value in envelope.items() if value is not None}
    for name in REQUIRED:
        if name not in attributes:
            raise EventError(
                f"{name} is missing", code=MISSING, field=name, help="the sender has to set it"
            )
    content_type = attributes.get("datacontenttype")
    if has_data and encoded is not None:
        raise EventError("data and data_base64 exclude each other", code=DATA_FORM, field="data")
    content: bytes | None = None
    if has_data:
        # CE-6: what the format implies is said aloud, for other formats imply something else.
        content_type = attributes.setdefault("datacontenttype", _JSON)
        content = _content(bytes(_data_member(source).data), content_type)
    elif encoded is not None:
        content = _from_base64(encoded)
    core = {name: attributes.pop(name) for name in CORE_ATTRIBUTES & attributes.keys()}
    event = Event(**core, data=content, extensions=attributes)
    validate(event)
    return event


def _content(raw: bytes, content_type: Any) -> bytes:
    """Bytes of the `data` member: a JSON type keeps the value's text, others the string's."""
    if not isinstance(content_type, str):
        raise EventError("datacontenttype is not text", code=VALUE_TYPE, field="datacontenttype")
    media = media_type(content_type)
    if media.is_json:
        require_unicode(media)
        return raw
    text = msgspec.json.decode(raw)
    if not isinstance(text, str):
        raise EventError(
            f"data of type {media.essence} is a string or data_base64",
            code=DATA_FORM,
            field="data",
        )
    try:
        return text.encode(media.codec)
    except UnicodeEncodeError as error:
        raise EventError(
            f"data cannot be written in {media.charset}", code=CHARSET, field="data"
        ) from error


def _from_base64(encoded: Any) -> bytes:
    if not isinstance(encoded, str):
        raise EventError("data_base64 is not text", code=DATA_FORM, field="data_base64")
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise EventError(
            f"data_base64 is not base64: {error}", code=DATA_FORM, field="data_base64"
        ) from error
