"""One immutable CloudEvent 1.0: its attributes, their rules, and the ids that are derived.

Codecs make events only through these rules, so an `Event` that was decoded, or built by
`Event.make`, obeys the specification. An `Event(...)` written out by hand is checked when it is
encoded. Rule numbers (CE-3, …) are those of the conventions page, codes (V003, …) those of
`streams explain`.
"""

from __future__ import annotations

import binascii
import hashlib
import math
import re
import uuid
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from streams.errors import EventError

AttributeValue = str | int | bool | bytes

INVALID: Final = "V001"
MISSING: Final = "V002"
BLANK: Final = "V003"
SPECVERSION: Final = "V004"
NAME: Final = "V005"
TEXT: Final = "V006"
VALUE_TYPE: Final = "V007"
TIME: Final = "V008"
URI: Final = "V009"
CONTENT_TYPE: Final = "V010"
TOO_LARGE: Final = "V011"
NOT_UTF8: Final = "V012"
BROKEN_JSON: Final = "V013"
DUPLICATE_KEY: Final = "V014"
TOO_DEEP: Final = "V015"
DATA_FORM: Final = "V016"
CHARSET: Final = "V017"
REPEATED: Final = "V018"
UNENCODABLE: Final = "V019"
FOREIGN: Final = "V020"
UNSUPPORTED_FORMAT: Final = "V021"
"""What each of them means stands in `streams.codec.explanations`."""

REQUIRED: Final = ("id", "source", "specversion", "type")
OPTIONAL: Final = ("datacontenttype", "dataschema", "subject", "time")
CORE_ATTRIBUTES: Final = frozenset(REQUIRED + OPTIONAL)

ENGINE_EXTENSIONS: Final = frozenset(
    {"scope", "part", "root", "epoch", "turn", "attempt", "planversion", "depth", "replyto"}
)
"""Set by the engine alone."""
FORGEABLE: Final = ENGINE_EXTENSIONS | {"via", "cause", "due", "tenant"}
"""What a stranger's event may not bring along (E11)."""

LENGTHS: Final = {
    "id": 1024,
    "source": 2048,
    "type": 1024,
    "subject": 4096,
    "dataschema": 2048,
    "datacontenttype": 256,
    "time": 64,
}
"""Longest value of each core attribute, in bytes of UTF-8."""
EXTENSION_LENGTH: Final = 16 * 1024
EXTENSION_NAME_LENGTH: Final = 64
"""The specification recommends 20; longer ones are still forwarded (CE-3, CE-8)."""
EXTENSION_COUNT: Final = 100
ATTRIBUTES_LENGTH: Final = 64 * 1024
"""All names and values together: an intermediary need not forward more (CE-7)."""

_SHORT: Final = 1024
"""Texts that are shorter together break no length limit, but perhaps those of `datacontenttype`
and `time`."""
_INT32: Final = 2**31
_TIME_KINDS: Final = ("expirytime", "recordedtime")
_RULED_EXTENSIONS: Final = frozenset({"dataref", *_TIME_KINDS})
"""Extensions whose values have rules of their own (CE-10), besides `partitionkey`."""

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
    digest = hashlib.sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).hexdigest()
    return (
        f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-"
        f"{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
    )


_NAMESPACE_BYTES: Final = NAMESPACE.bytes


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


# ── Times ────────────────────────────────────────────────────────────────────────────────────────

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]((?:[01][0-9]|2[0-3]):[0-5][0-9]):([0-5][0-9]|60)"
    r"(\.[0-9]+)?([Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


@lru_cache(maxsize=512)
def _second_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def timestamp(ms: int) -> str:
    """RFC 3339 text of a time in ms since 1970: `2026-11-21T13:00:00.000Z`."""
    seconds, rest = divmod(ms, 1000)
    try:
        return f"{_second_text(seconds)}.{rest:03d}Z"
    except OverflowError as error:
        raise EventError(f"no year for {ms} ms", code=TIME, field="time") from error


def milliseconds(text: str) -> int:
    """Ms since 1970 of an RFC 3339 text; what is finer than a millisecond is cut off."""
    match = _RFC3339.fullmatch(text) if len(text) <= LENGTHS["time"] else None
    if match is None:
        raise _not_a_time(text)
    date, minute, second, fraction, _, sign, hours, minutes = match.groups()
    try:
        start = datetime.fromisoformat(f"{date}T{minute}:00+00:00") - _EPOCH
    except ValueError as error:  # 30 February, year 0
        raise _not_a_time(text) from error
    total = start.days * 86_400 + start.seconds + int(second)
    if sign is not None:
        offset = int(hours) * 3600 + int(minutes) * 60
        total += offset if sign == "-" else -offset
    if second == "60" and total % 86_400:  # a leap second ends a UTC day and nothing else
        raise _not_a_time(text)
    return total * 1000 + (int(fraction[1:4].ljust(3, "0")) if fraction else 0)


def _not_a_time(text: str) -> EventError:
    return EventError(
        f"time {shown(text)} is not RFC 3339 with a zone",
        code=TIME,
        field="time",
        help="write it like 2026-11-21T13:00:00Z",
    )


@lru_cache(maxsize=512)
def _is_second(text: str) -> bool:
    """True for date and time up to the second, which many events share. A leap second is left to
    the thorough way, for it depends on the zone."""
    try:
        milliseconds(text + "Z")
    except EventError:
        return False
    return not text.endswith("60")


@lru_cache(maxsize=2048)
def _is_fraction_and_zone(text: str) -> bool:
    """True for what may follow the second; clocks that tick in ms have a thousand of them."""
    return (
        len(text) <= LENGTHS["time"] - 19
        and _RFC3339.fullmatch("2000-01-01T00:00:00" + text) is not None
    )


# ── Content types and URIs ───────────────────────────────────────────────────────────────────────

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*+"'
_MEDIA: Final = re.compile(
    rf"({_TOKEN}/{_TOKEN})((?:[ \t]*;[ \t]*+(?:{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))?)*)[ \t]*"
)
_PARAMETER: Final = re.compile(rf";[ \t]*({_TOKEN})=({_TOKEN}|{_QUOTED})")
_CODECS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "iso-8859-15": "iso8859-15",
    "windows-1252": "cp1252",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
"""Character sets that text may be in; anything else is refused, never guessed."""


class MediaType(NamedTuple):
    """A content type taken apart; names are lower case (CE-6)."""

    essence: str
    charset: str = "utf-8"

    @property
    def is_json(self) -> bool:
        """CE-11: the subtype is `json` or ends in `+json`."""
        return self.essence.endswith(("/json", "+json"))

    @property
    def is_text(self) -> bool:
        """What a JSON envelope may hold as a string."""
        return self.essence.startswith("text/") or self.essence.endswith(("/xml", "+xml"))

    @property
    def codec(self) -> str:
        """Name of Python's codec for the charset."""
        codec = _CODECS.get(self.charset)
        if codec is None:
            raise EventError(
                f"charset {shown(self.charset)} is not supported",
                code=CHARSET,
                field="datacontenttype",
                help="send UTF-8",
            )
        return codec


def media_type(text: str) -> MediaType:
    """The parts of a content type; raises `EventError` if it is none."""
    if len(text) > LENGTHS["datacontenttype"]:
        raise _too_long("datacontenttype", LENGTHS["datacontenttype"])
    return _media_type(text)


@lru_cache(maxsize=1024)
def _media_type(text: str) -> MediaType:
    match = _MEDIA.fullmatch(text)
    if match is None:
        raise EventError(
            f"{shown(text)} is not a content type",
            code=CONTENT_TYPE,
            field="datacontenttype",
            help="write it like application/json or text/plain; charset=utf-8",
        )
    charsets = {
        value.strip('"').lower()
        for name, value in _PARAMETER.findall(match[2])
        if name.lower() == "charset"
    }
    if len(charsets) > 1:
        raise EventError(f"{shown(text)} names two charsets", code=CHARSET, field="datacontenttype")
    return MediaType(match[1].lower(), charsets.pop() if charsets else "utf-8")


def decode_text(data: bytes, media: MediaType) -> str:
    """Data as text in the charset of its type; raises `EventError` if it is not."""
    try:
        return data.decode(media.codec)
    except UnicodeDecodeError as error:
        raise EventError(
            f"data is not {media.charset} text: {error}", code=CHARSET, field="data"
        ) from error


def require_unicode(media: MediaType) -> None:
    """Raises unless the charset is UTF-8 or a part of it: JSON is never in another."""
    if media.codec not in ("utf-8", "ascii"):
        raise EventError(
            f"JSON in charset {shown(media.charset)}; JSON is UTF-8",
            code=CHARSET,
            field="datacontenttype",
        )


_PCHAR: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_URI_REFERENCE: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*:)?"
    rf"(?://(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{{2}})*@)?"
    rf"(?:\[[0-9A-Za-z.:_~-]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{{2}})*)(?::[0-9]*)?"
    rf"(?=[/?#]|\Z))?"
    rf"(?:{_PCHAR}|/)*(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
)


@lru_cache(maxsize=4096)
def _is_uri_reference(text: str) -> bool:
    return bool(text) and _URI_REFERENCE.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _is_absolute_uri(text: str) -> bool:
    match = _URI_REFERENCE.fullmatch(text)
    return match is not None and match[1] is not None


# ── Values of attributes ─────────────────────────────────────────────────────────────────────────

_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(chr(plane << 16 | low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
"""Control characters, lone surrogates and the code points Unicode will never use (CE-4)."""
_EXTENSION_NAME: Final = re.compile(r"[a-z0-9]+")
_ASCII_CONTROLS: Final = bytes([*range(0x20), 0x7F])
_plain_names: set[str] = set()
"""Names that were found good, of extensions without rules of their own."""
_PLAIN_NAMES_LIMIT: Final = 4096


def check_name(name: str) -> None:
    """Raises unless `name` may be an extension's (CE-3)."""
    if name in _plain_names:
        return
    if len(name) > EXTENSION_NAME_LENGTH:
        raise _too_long(name[:40] + "…", EXTENSION_NAME_LENGTH, what="name of extension")
    if not _EXTENSION_NAME.fullmatch(name) or name == "data" or name in CORE_ATTRIBUTES:
        raise EventError(
            f"{shown(name)} may not be the name of an extension",
            code=NAME,
            field=name,
            help="use a-z and 0-9 only, at best 20 characters; `data` is taken",
        )
    if name in _RULED_EXTENSIONS:
        return
    if len(_plain_names) >= _PLAIN_NAMES_LIMIT:
        _plain_names.clear()
    _plain_names.add(name)


def canonical(value: AttributeValue, field: str = "") -> str:
    """The one text form of an attribute's value (CE-4): `true`, `-5`, base64 of bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -_INT32 <= value < _INT32:
            raise EventError(
                f"{field or 'value'} is outside of 32 bits",
                code=VALUE_TYPE,
                field=field,
                help="send large numbers as text",
            )
        return str(value)
    if isinstance(value, bytes):
        if len(value) > EXTENSION_LENGTH:
            raise _too_long(field, EXTENSION_LENGTH)
        return base64_text(value)
    raise EventError(
        f"{field or 'value'} is {_kind(value)}, not text, an integer, a boolean or bytes",
        code=VALUE_TYPE,
        field=field,
        help="put structure into data",
    )


def base64_text(data: bytes) -> str:
    """Base64 without line breaks."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


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
    raise _unencodable(f"{_kind(value)} cannot be written as {media.essence}")


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
    """True only for valid events, and for nearly all of them: one look at all the text together
    replaces a dozen at its pieces. False says nothing; `_find_fault` then looks closely."""
    extensions = event.extensions
    subject, time = event.subject, event.time
    content_type, schema = event.datacontenttype, event.dataschema
    try:
        texts = "".join(
            (
                event.id,
                event.source,
                event.type,
                subject or "",
                time or "",
                content_type or "",
                schema or "",
                *extensions.values(),  # type: ignore[arg-type]
            )
        )
    except TypeError:
        return False
    return (
        len(texts) <= _SHORT
        and texts.isascii()
        # Twice as fast as `isprintable`, and the costliest step all the same.
        and len(texts.encode().translate(None, _ASCII_CONTROLS)) == len(texts)
        and event.specversion == "1.0"
        and event.id != ""
        and event.type != ""
        and subject != ""
        and not event.id.isspace()
        and not event.type.isspace()
        and (subject is None or not subject.isspace())
        and _is_uri_reference(event.source)
        and (time is None or (_is_second(time[:19]) and _is_fraction_and_zone(time[19:])))
        and (content_type is None or _is_media_type(content_type))
        and (schema is None or _is_absolute_uri(schema))
        and (event.data is None or type(event.data) is bytes)
        and len(extensions) <= _FEW
        and extensions.keys() <= _plain_names
        and extensions.get("partitionkey") != ""
    )


_FEW: Final = 64
"""So few extensions with such short values break no limit either."""


@lru_cache(maxsize=1024)
def _is_media_type(text: str) -> bool:
    try:
        media_type(text)
    except EventError:
        return False
    return True


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
            raise EventError(f"{name} is {_kind(value)}, not text", code=VALUE_TYPE, field=name)
        size += len(name) + _check_text(name, value, LENGTHS[name])
        if not value or value.isspace():
            raise EventError(f"{name} is blank", code=BLANK, field=name)
    if not _is_uri_reference(event.source):
        raise _not_a_uri("source", event.source)
    if event.dataschema is not None and not _is_absolute_uri(event.dataschema):
        raise _not_a_uri("dataschema", event.dataschema, "an absolute URI")
    if event.time is not None:
        milliseconds(event.time)
    if event.datacontenttype is not None:
        media_type(event.datacontenttype)
    if event.data is not None and not isinstance(event.data, bytes):
        raise EventError(f"data is {_kind(event.data)}, not bytes", code=VALUE_TYPE, field="data")
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
        size += len(name) + _check_text(name, text, EXTENSION_LENGTH)
        if name == "partitionkey" and not text:
            raise EventError("partitionkey is blank", code=BLANK, field=name)
        if name == "dataref" and not _is_uri_reference(text):
            raise _not_a_uri(name, text)
        if name in _TIME_KINDS:
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


def _check_text(field: str, text: str, limit: int) -> int:
    """Length in bytes of a text that obeys CE-4 and the limit."""
    if len(text) > limit:
        raise _too_long(field, limit)
    found = _FORBIDDEN.search(text)
    if found is not None:
        raise EventError(
            f"{field} holds U+{ord(found[0]):04X}, which no attribute may hold",
            code=TEXT,
            field=field,
            help="take line ends and control characters out",
        )
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise _too_long(field, limit)
    return size


def _too_long(field: str, limit: int, what: str = "") -> EventError:
    label = f"{what} {field}" if what else field
    return EventError(f"{label} is longer than {limit} bytes", code=TOO_LARGE, field=field)


def _not_a_uri(field: str, text: str, what: str = "a URI reference") -> EventError:
    return EventError(
        f"{field} {shown(text)} is not {what}",
        code=URI,
        field=field,
        help="write other characters as %XX",
    )


def _kind(value: object) -> str:
    names = {dict: "a map", list: "a list", float: "a fraction", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def shown(text: object) -> str:
    """The text, quoted, escaped and cut so that it may stand in a message."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else quoted[:79] + "…"
