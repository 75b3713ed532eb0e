"""Events in Kafka records, binary and structured mode (KB-1 … KB-10).

Reading accepts both modes on any topic; writing is binary on stage topics, structured where a
record has to explain itself (gateway, dead letters, exports). The record's key is no business of
the codec (KB-6), and `other_headers` gives what it does not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from streams.codec.structured import CONTENT_TYPE as STRUCTURED
from streams.codec.structured import from_json, to_json
from streams.errors import EventError
from streams.event import Event, is_well_formed, validate
from streams.event_rules import (
    CHARSET,
    DATA_FORM,
    FOREIGN,
    MISSING,
    NAME,
    NOT_UTF8,
    REQUIRED,
    UNSUPPORTED_FORMAT,
    AttributeValue,
    are_plain_names,
    canonical,
    check_name,
    have_no_rules,
    joined_if_plain,
    media_type,
    require_unicode,
    shown,
)

Headers = Sequence[tuple[str, bytes | None]]
EncodedHeaders = tuple[tuple[str, bytes], ...]

CLOUDEVENTS: Final = "application/cloudevents"
"""What the content type of every structured format begins with (KB-2)."""

_CORE: Final = ("id", "source", "specversion", "type", "subject", "time", "dataschema")
_NOT_OURS: Final = ""
"""Stands for the attribute of a header that is not the event's."""
_CONTENT_TYPE: Final = "datacontenttype"
_SPECVERSION_HEADER: Final = ("ce_specversion", b"1.0")
STRUCTURED_HEADERS: Final = (("content-type", f"{STRUCTURED}; charset=UTF-8".encode()),)

_attributes: dict[str, str] = {f"ce_{name}": name for name in _CORE}
"""Header name → attribute, for the names seen so far."""
_OPTIONAL_HEADERS: Final = ("content-type", "ce_subject", "ce_time", "ce_dataschema")


class _Layout(NamedTuple):
    """How events with the same attributes are written."""

    names: tuple[str, ...]
    often: tuple[int, ...]
    """Places, in all headers, of those that many events have alike."""


_layouts: Final[list[dict[tuple[str, ...], _Layout]]] = [{} for _ in range(16)]
"""Which optional attributes are there → names of extensions → layout. None of these has a rule."""


_USUAL_TYPES: Final = frozenset({"application/json", "text/plain"})
"""Content types whose mode is known without a look at them."""
_OFTEN_ALIKE: Final = frozenset(
    "content-type ce_source ce_type ce_part ce_epoch ce_turn ce_attempt ce_planversion"
    " ce_pipeline ce_depth ce_tenant".split()
)
_shared: dict[tuple[str, bytes], tuple[str, bytes]] = {}
_CACHE_LIMIT: Final = 4096
_CACHED_LENGTH: Final = 80


def decode(value: bytes | None, headers: Headers) -> Event:
    """The event in a record of either mode; raises `EventError` (`FOREIGN` if the record does not
    claim to be one). Data is taken over unread, see `strict_json.check_data`."""
    texts: dict[str, str] = {}
    try:
        for header, raw in headers:
            texts[_attributes[header]] = raw.decode()  # type: ignore[union-attr]
    except (KeyError, AttributeError, UnicodeDecodeError):
        # A name met for the first time, a null, or text that is none.
        texts = _read_closely(headers)
    texts.pop(_NOT_OURS, None)
    plain = joined_if_plain(texts.values()) is not None
    content_type = texts.pop(_CONTENT_TYPE, None)
    if (
        content_type is not None
        and content_type not in _USUAL_TYPES
        and content_type.lower().startswith(CLOUDEVENTS)
    ):
        return _structured(value, content_type)
    try:
        event = Event(
            texts.pop("id"),
            texts.pop("source"),
            texts.pop("type"),
            value,
            content_type,
            texts.pop("subject", None),
            texts.pop("time", None),
            texts.pop("dataschema", None),
            specversion=texts.pop("specversion"),
            extensions=texts,  # type: ignore[arg-type]
        )
    except KeyError:
        raise _incomplete(headers) from None
    # Names that were found among the known ones, or read closely, are good.
    if not (plain and have_no_rules(texts) and is_well_formed(event)):
        validate(event)
    return event


def encode(event: Event) -> tuple[bytes | None, EncodedHeaders]:
    """Value and headers in binary mode; without data the value is null (KB-4)."""
    texts: list[AttributeValue] = [event.id, event.source, event.type]
    optional = 0
    if event.datacontenttype is not None:
        optional = 1
        texts.append(event.datacontenttype)
    if event.subject is not None:
        optional |= 2
        texts.append(event.subject)
    if event.time is not None:
        optional |= 4
        texts.append(event.time)
    if event.dataschema is not None:
        optional |= 8
        texts.append(event.dataschema)
    extensions = event.extensions
    texts += extensions.values()
    layout = _layouts[optional].get(tuple(extensions))
    together = joined_if_plain(texts) if layout is not None else None
    if layout is not None and together is not None and is_well_formed(event):
        raws = together.split(b"\n")
    else:
        validate(event)
        layout = _learned(optional, extensions)
        raws = [canonical(text).encode() for text in texts]
    names, often = layout
    headers = [_SPECVERSION_HEADER, *zip(names, raws, strict=True)]
    # The same object for equal ones: a log in this process keeps thousands of them, and the garbage
    # collector has to look at each.
    if len(_shared) >= _CACHE_LIMIT:
        _shared.clear()
    share = _shared.setdefault
    for place in often:
        header = headers[place]
        headers[place] = share(header, header)
    return event.data, tuple(headers)


def _learned(optional: int, extensions: Mapping[str, AttributeValue]) -> _Layout:
    """Header names of such an event, remembered if they are good and have no rules."""
    names = ["ce_id", "ce_source", "ce_type"]
    names += (name for bit, name in enumerate(_OPTIONAL_HEADERS) if optional >> bit & 1)
    names += (f"ce_{name}" for name in extensions)
    often = tuple(place for place, name in enumerate(names, 1) if name in _OFTEN_ALIKE)
    layout = _Layout(tuple(names), often)
    if are_plain_names(extensions.keys()):
        if len(_layouts[optional]) >= _CACHE_LIMIT:
            _layouts[optional].clear()
        _layouts[optional][tuple(extensions)] = layout
    return layout


def encode_structured(event: Event) -> tuple[bytes, EncodedHeaders]:
    """Value and headers in structured mode: the value is the whole event (KB-5)."""
    return to_json(event), STRUCTURED_HEADERS


def is_cloudevent(headers: Headers) -> bool:
    """True if a record claims to be an event: structured, or with all required headers (KB-7)."""
    present = _last_values(headers)
    content_type = present.get("content-type", b"")
    return content_type.lower().startswith(CLOUDEVENTS.encode()) or all(
        f"ce_{name}" in present for name in REQUIRED
    )


def other_headers(headers: Headers) -> tuple[tuple[str, bytes | None], ...]:
    """The headers that are not the event's, in order, for forwarding (KB-9)."""
    return tuple(
        (header, raw)
        for header, raw in headers
        if not header.startswith("ce_") and header.lower() != "content-type"
    )


def partition_key(event: Event) -> bytes | None:
    """Record key from `partitionkey`, for producers that opt in to this mapping (KB-6)."""
    key = event.extensions.get("partitionkey")
    return None if key is None else canonical(key, "partitionkey").encode()


def _last_values(headers: Headers) -> dict[str, bytes]:
    """The event's headers by name: of repeated ones the last, and null means absent (KB-9)."""
    last = {
        header if header.startswith("ce_") else header.lower(): raw
        for header, raw in headers
        if header.startswith("ce_") or header.lower() == "content-type"
    }
    return {header: raw for header, raw in last.items() if raw is not None}


def _read_closely(headers: Headers) -> dict[str, str]:
    """Attributes as text, with a reason where that fails. Names are remembered for next time."""
    for header, _ in headers:
        if header not in _attributes and not header.startswith("ce_"):
            _remember(header, _CONTENT_TYPE if header.lower() == "content-type" else _NOT_OURS)
    last = _last_values(headers)
    content_type = last.pop("content-type", None)
    texts: dict[str, str] = {}
    if content_type is not None:
        texts[_CONTENT_TYPE] = _text("content-type", content_type)
        if texts[_CONTENT_TYPE].lower().startswith(CLOUDEVENTS):
            return texts  # the body wins, whatever else stands in the headers (KB-5)
    for header, raw in last.items():
        attribute = header[3:]
        if attribute not in _CORE:
            _check_extension(attribute)
        texts[attribute] = _text(attribute, raw)
        _remember(header, attribute)
    return texts


def _check_extension(name: str) -> None:
    if name == _CONTENT_TYPE:
        raise EventError(
            "ce_datacontenttype is no header of the binding",
            code=NAME,
            field=name,
            help="the header is called content-type",
        )
    check_name(name)


def _remember(header: str, attribute: str) -> None:
    if len(header) > _CACHED_LENGTH:
        return
    if len(_attributes) >= _CACHE_LIMIT:
        _attributes.clear()
        _attributes.update((f"ce_{name}", name) for name in _CORE)
    _attributes[header] = attribute


def _text(field: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise EventError(
            f"{field} is not UTF-8: {error.reason} at byte {error.start}",
            code=NOT_UTF8,
            field=field,
        ) from error


def _structured(value: bytes | None, content_type: str) -> Event:
    try:
        media = media_type(content_type)
        require_unicode(media)
    except EventError as error:
        raise EventError(
            f"content type {shown(content_type)} cannot be read: {error.message}",
            code=CHARSET if error.code == CHARSET else UNSUPPORTED_FORMAT,
            field="content-type",
        ) from error
    if media.essence != STRUCTURED:
        raise EventError(
            f"format {media.essence} is not supported in a record",
            code=UNSUPPORTED_FORMAT,
            field="content-type",
            help=f"send {STRUCTURED}, one event per record, or binary mode",
        )
    if value is None:
        raise EventError("a structured record without value", code=DATA_FORM, field="value")
    return from_json(value)


def _incomplete(headers: Headers) -> EventError:
    present = _last_values(headers)
    missing = [name for name in REQUIRED if f"ce_{name}" not in present]
    if len(missing) == len(REQUIRED):
        return EventError(
            "the record is not a CloudEvent",
            code=FOREIGN,
            field="headers",
            help="declare a policy for foreign records: wrap, dlq or skip",
        )
    return EventError(
        f"{missing[0]} is missing",
        code=MISSING,
        field=missing[0],
        help="the sender has to set it",
    )
