"""One immutable CloudEvent 1.0: its attributes, the rules of the whole, and the ids derived.

Codecs make events only through these rules, so an `Event` that was decoded, or built by
`Event.make`, obeys the specification. An `Event(...)` written out by hand is checked when it is
encoded. What a single attribute may be stands in `event_rules`.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from typing import Any, Final

import msgspec

from streams.errors import EventError
from streams.event_rules import (
    ATTRIBUTES_LENGTH,
    BLANK,
    BROKEN_JSON,
    DATA_FORM,
    EXTENSION_COUNT,
    EXTENSION_LENGTH,
    LENGTHS,
    REQUIRED,
    SPECVERSION,
    TIME_KINDS,
    TOO_LARGE,
    UNENCODABLE,
    VALUE_TYPE,
    AttributeValue,
    are_plain_names,
    canonical,
    check_name,
    check_text,
    decode_text,
    is_absolute_uri,
    is_media_type,
    is_time,
    is_uri_reference,
    joined_if_plain,
    kind_of,
    media_type,
    milliseconds,
    not_a_uri,
    require_unicode,
    shown,
)

ENGINE_EXTENSIONS: Final = frozenset(
    {"scope", "part", "root", "epoch", "turn", "attempt", "planversion", "depth", "replyto"}
)
"""Set by the engine alone."""
FORGEABLE: Final = ENGINE_EXTENSIONS | {"via", "cause", "due", "tenant"}
"""What a stranger's event may not bring along (E11)."""
_ABSENT: Final[Any] = object()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event as it was on the wire. `extensions` is not to be changed in place.

    No reference cycle can start here (values are scalars), hence `gc=False`.
    """

    id: str
    source: str
    type: str
    data: bytes | None = None
    """Bytes as they were sent. None = no data; `b"null"` = an explicit JSON null."""
    datacontenttype: str | None = None
    subject: str | None = None
    time: str | None = None
    """RFC 3339 text, kept as it was written."""
    dataschema: str | None = None
    extensions: dict[str, AttributeValue] = {}
    specversion: str = "1.0"

    @classmethod
    def make(
        cls,
        *,
        id: str,
        source: str,
        type: str,
        value: Any = _ABSENT,
        data: bytes | None = None,
        datacontenttype: str | None = None,
        subject: str | None = None,
        time: str | None = None,
        dataschema: str | None = None,
        extensions: dict[str, AttributeValue] | None = None,
    ) -> Event:
        """A checked event. `value` is encoded by its content type (JSON if none is given; bytes
        are sent as they are), or `data` gives the bytes themselves."""
        if value is not _ABSENT:
            if data is not None:
                raise EventError("give `value` or `data`, not both", code=DATA_FORM, field="data")
            if datacontenttype is None:
                binary = isinstance(value, bytes)
                datacontenttype = "application/octet-stream" if binary else "application/json"
            data = encode_value(value, datacontenttype)
        event = cls(
            id,
            source,
            type,
            data,
            datacontenttype,
            subject,
            time,
            dataschema,
            dict(extensions) if extensions else {},
        )
        validate(event)
        return event

    def value(self) -> Any:
        """The data as a Python value: of a JSON type decoded, of `text/*` a string, else the
        bytes; None without data. Raises `EventError` if the data is not what its type says."""
        data = self.data
        if data is None or self.datacontenttype is None:
            return data
        media = media_type(self.datacontenttype)
        if media.is_json:
            require_unicode(media)
            try:
                return _decode(data)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise EventError(
                    f"data is not JSON: {error}", code=BROKEN_JSON, field="data"
                ) from error
        return decode_text(data, media) if media.essence.startswith("text/") else data

    def with_(self, **changes: Any) -> Event:
        """A copy with these fields changed; checked when it is encoded."""
        return msgspec.structs.replace(self, **changes)

    def with_extensions(self, **extensions: AttributeValue | None) -> Event:
        """A copy with these extensions added or replaced; None takes one away."""
        merged = {**self.extensions, **extensions}
        return self.with_(extensions={k: v for k, v in merged.items() if v is not None})


def strip_engine_extensions(event: Event, *, keep: frozenset[str] = frozenset()) -> Event:
    """The event without what only the engine may set; for everything that comes from outside.

    The tenant goes too: whoever has authenticated the sender sets it afterwards.
    """
    forged = FORGEABLE - keep
    if forged.isdisjoint(event.extensions):
        return event
    return event.with_(extensions={k: v for k, v in event.extensions.items() if k not in forged})


# ── Ids ──────────────────────────────────────────────────────────────────────────────────────────

NAMESPACE: Final = uuid.UUID("6f1b0c0e-52b6-5d0f-9a53-3d5c7a1be0c4")
"""Of all derived ids. Changing it, or the way fields are joined, changes every id: never."""

_VARIANT: Final = {f"{i:x}": "89ab"[i & 3] for i in range(16)}


def _uuid5(name: str) -> str:
    """Text of `uuid.uuid5(NAMESPACE, name)`, three times as fast."""
    hashed = _hashed_namespace.copy()
    hashed.update(name.encode())
    digest = hashed.hexdigest()
    return (
        f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-"
        f"{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
    )


_hashed_namespace: Final = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)


def derived_id(
    root: str, digest: str, scope: str, part: str, epoch: int, turn: int, parent: str, ordinal: int
) -> str:
    """Id of an event made by the engine: the same cause gives the same id, in every process.

    Each text is preceded by its length, so no two lists of fields are ever joined alike.
    """
    return _uuid5(
        f"event:{len(root)}:{root}{len(digest)}:{digest}{len(scope)}:{scope}{len(part)}:{part}"
        f"{len(parent)}:{parent}{epoch}:{turn}:{ordinal}"
    )


def idempotency_key(root: str, digest: str, scope: str, part: str, ordinal: int) -> str:
    """Key for sinks: the same for every delivery, retry and redrive of one step."""
    return _uuid5(
        f"sink:{len(root)}:{root}{len(digest)}:{digest}{len(scope)}:{scope}{len(part)}:{part}"
        f"{ordinal}"
    )


def submission_job_id(source: str, id: str) -> str:
    """Job id of a submitted event: a re-send of (source, id) is the same job (CE-2)."""
    return _uuid5(f"job:{len(source)}:{source}{id}")


def fingerprint(event: Event) -> str:
    """Equal for re-sends, different when a known id comes with another body (E12).

    Time and extensions are left out: a sender's retry may renew its clock and trace.
    """
    hashed = hashlib.sha256()
    for text in (event.type, event.subject, event.dataschema, event.datacontenttype):
        hashed.update(b"-" if text is None else b"%d:%s" % (len(text), text.encode()))
    hashed.update(b"-" if event.data is None else b"=" + event.data)
    return hashed.hexdigest()[:32]


# ── Data ────────────────────────────────────────────────────────────────────────────────────────────


def encode_value(value: Any, datacontenttype: str) -> bytes:
    """Bytes of a Python value in its content type; raises `EventError` if it has none."""
    media = media_type(datacontenttype)
    if isinstance(value, bytes):
        return value
    try:
        if media.is_json:
            require_unicode(media)
            encoded = _encode(value)
            # msgspec writes NaN as null: look for one only where a null stands.
            if b"null" in encoded and _holds_nan(value):
                raise _unencodable("NaN and infinity are no JSON numbers")
            return encoded
        if isinstance(value, str):
            return value.encode(media.codec)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise _unencodable(str(error)) from error
    raise _unencodable(f"{kind_of(value)} cannot be written as {media.essence}")


def _holds_nan(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_holds_nan(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_holds_nan(item) for item in value)
    if isinstance(value, msgspec.Struct):
        return any(_holds_nan(getattr(value, name)) for name in value.__struct_fields__)
    return False


def _unencodable(reason: str) -> EventError:
    return EventError(f"data cannot be encoded: {reason}", code=UNENCODABLE, field="data")


# ── The whole event ──────────────────────────────────────────────────────────────────────────────


def validate(event: Event) -> None:
    """Returns if the event obeys every rule; else raises `EventError` with code and field."""
    if not _plainly_valid(event):
        _find_fault(event)


def _plainly_valid(event: Event) -> bool:
    """True only for valid events, and for nearly all of them: see `joined_if_plain`. False says nothing;
    `_find_fault` then looks closely."""
    texts: list[AttributeValue] = [event.id, event.source, event.type]
    texts += (
        text
        for text in (event.subject, event.time, event.datacontenttype, event.dataschema)
        if text is not None
    )
    texts += event.extensions.values()
    return (
        joined_if_plain(texts) is not None
        and are_plain_names(event.extensions.keys())
        and is_well_formed(event)
    )


def is_well_formed(event: Event) -> bool:
    """True only if the event is valid, provided that its texts are plain and so are the names of
    its extensions. Codecs, which have all texts in hand, judge those by themselves."""
    subject, time = event.subject, event.time
    content_type, schema = event.datacontenttype, event.dataschema
    return (
        event.specversion == "1.0"
        and event.id.strip() != ""
        and event.type.strip() != ""
        and (subject is None or subject.strip() != "")
        and is_uri_reference(event.source)
        and (time is None or is_time(time))
        and (content_type is None or is_media_type(content_type))
        and (schema is None or is_absolute_uri(schema))
        and (event.data is None or type(event.data) is bytes)
        and event.extensions.get("partitionkey") != ""
    )


def _find_fault(event: Event) -> None:
    if event.specversion != "1.0":
        raise EventError(
            f"specversion is {shown(event.specversion)}, not 1.0",
            code=SPECVERSION,
            field="specversion",
            help="send CloudEvents 1.0",
        )
    size = 0
    for name in LENGTHS:
        value = getattr(event, name)
        if value is None and name not in REQUIRED:
            continue
        if not isinstance(value, str):
            raise EventError(f"{name} is {kind_of(value)}, not text", code=VALUE_TYPE, field=name)
        size += len(name) + check_text(name, value, LENGTHS[name])
        if not value or value.isspace():
            raise EventError(f"{name} is blank", code=BLANK, field=name)
    if not is_uri_reference(event.source):
        raise not_a_uri("source", event.source)
    if event.dataschema is not None and not is_absolute_uri(event.dataschema):
        raise not_a_uri("dataschema", event.dataschema, "an absolute URI")
    if event.time is not None:
        milliseconds(event.time)
    if event.datacontenttype is not None:
        media_type(event.datacontenttype)
    if event.data is not None and not isinstance(event.data, bytes):
        raise EventError(f"data is {kind_of(event.data)}, not bytes", code=VALUE_TYPE, field="data")
    _check_extensions(event.extensions, size)


def _check_extensions(extensions: dict[str, AttributeValue], size: int) -> None:
    if len(extensions) > EXTENSION_COUNT:
        raise EventError(
            f"{len(extensions)} extensions; {EXTENSION_COUNT} are allowed",
            code=TOO_LARGE,
            field="extensions",
        )
    for name, value in extensions.items():
        check_name(name)
        text = canonical(value, name)
        size += len(name) + check_text(name, text, EXTENSION_LENGTH)
        if name == "partitionkey" and not text:
            raise EventError("partitionkey is blank", code=BLANK, field=name)
        if name == "dataref" and not is_uri_reference(text):
            raise not_a_uri(name, text)
        if name in TIME_KINDS:
            try:
                milliseconds(text)
            except EventError as error:
                error.field = name
                raise
    if size > ATTRIBUTES_LENGTH:
        raise EventError(
            f"attributes take {size} bytes; {ATTRIBUTES_LENGTH} are allowed",
            code=TOO_LARGE,
            field="extensions",
            help="put bulk into data",
        )
