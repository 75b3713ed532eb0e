"""Rules of a single attribute of an event: names, texts, times, content types, URIs.

`event` asks these of each event, codecs of what they read. Rule numbers (CE-3, …) are those of the
conventions page, codes (V003, …) those of `streams explain`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

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

_INT32: Final = 2**31
TIME_KINDS: Final = ("expirytime", "recordedtime")
_RULED_EXTENSIONS: Final = frozenset({"dataref", *TIME_KINDS})
"""Extensions whose values have rules of their own (CE-10), besides `partitionkey`."""

# ── Times ────────────────────────────────────────────────────────────────────────────────────────

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]((?:[01][0-9]|2[0-3]):[0-5][0-9]):([0-5][0-9]|60)"
    r"(\.[0-9]+)?([Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


@lru_cache(maxsize=512)
def _second_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


@lru_cache(maxsize=4096)
def timestamp(ms: int) -> str:
    """RFC 3339 text of a time in ms since 1970: `2026-11-21T13:00:00.000Z`."""
    seconds, rest = divmod(ms, 1000)
    try:
        return f"{_second_text(seconds)}.{rest:03d}Z"
    except OverflowError as error:
        raise EventError(f"no year for {ms} ms", code=TIME, field="time") from error


@lru_cache(maxsize=4096)
def milliseconds(text: str) -> int:
    """Ms since 1970 of an RFC 3339 text; what is finer than a millisecond is cut off.

    An event's time is looked at when it is checked and again when it is read, and clocks that tick
    in ms give many events the same one: hence the cache.
    """
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


def is_time(text: str) -> bool:
    """Whether `milliseconds` can read it."""
    try:
        milliseconds(text)
    except EventError:
        return False
    return True


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
        raise too_long("datacontenttype", LENGTHS["datacontenttype"])
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


@lru_cache(maxsize=1024)
def is_media_type(text: str) -> bool:
    """Whether `media_type` can read it."""
    try:
        media_type(text)
    except EventError:
        return False
    return True


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
def is_uri_reference(text: str) -> bool:
    return bool(text) and _URI_REFERENCE.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def is_absolute_uri(text: str) -> bool:
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
_SHORT: Final = 1024
_NOT_PLAIN: Final = bytes({*range(0x20), *range(0x7F, 0x100)} - set(b"\n"))
_plain_names: set[str] = set()
"""Names that were found good, of extensions without rules of their own."""
_PLAIN_NAMES_LIMIT: Final = 4096
_FEW: Final = 64


def joined_if_plain(texts: Collection[AttributeValue]) -> bytes | None:
    """All of the texts, joined by line feeds, if they are printable ASCII and short together: then
    each obeys CE-4, and no limit but perhaps those of `datacontenttype` and `time` is broken. One
    look at all of them replaces a dozen. None says nothing."""
    try:
        together = "\n".join(texts).encode()  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):
        return None
    plain = (
        len(together) <= _SHORT
        and len(together.translate(None, _NOT_PLAIN)) == len(together)
        and together.count(b"\n") == len(texts) - 1
    )
    return together if plain else None


def are_plain_names(names: Collection[str]) -> bool:
    """True only if these may be extensions, and none has a rule for its values."""
    return len(names) <= _FEW and _plain_names.issuperset(names)


def have_no_rules(names: Collection[str]) -> bool:
    """Whether good names of extensions are so few, and such, that no rule is left to look at."""
    return len(names) <= _FEW and _RULED_EXTENSIONS.isdisjoint(names)


def check_name(name: str) -> None:
    """Raises unless `name` may be an extension's (CE-3)."""
    if name in _plain_names:
        return
    if len(name) > EXTENSION_NAME_LENGTH:
        raise too_long(name[:40] + "…", EXTENSION_NAME_LENGTH, what="name of extension")
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
            raise too_long(field, EXTENSION_LENGTH)
        return base64_text(value)
    raise EventError(
        f"{field or 'value'} is {kind_of(value)}, not text, an integer, a boolean or bytes",
        code=VALUE_TYPE,
        field=field,
        help="put structure into data",
    )


def base64_text(data: bytes) -> str:
    """Base64 without line breaks."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def check_text(field: str, text: str, limit: int) -> int:
    """Length in bytes of a text that obeys CE-4 and the limit."""
    if len(text) > limit:
        raise too_long(field, limit)
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
        raise too_long(field, limit)
    return size


def too_long(field: str, limit: int, what: str = "") -> EventError:
    label = f"{what} {field}" if what else field
    return EventError(f"{label} is longer than {limit} bytes", code=TOO_LARGE, field=field)


def not_a_uri(field: str, text: str, what: str = "a URI reference") -> EventError:
    return EventError(
        f"{field} {shown(text)} is not {what}",
        code=URI,
        field=field,
        help="write other characters as %XX",
    )


def kind_of(value: object) -> str:
    names = {dict: "a map", list: "a list", float: "a fraction", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def shown(text: object) -> str:
    """The text, quoted, escaped and cut so that it may stand in a message."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else quoted[:79] + "…"
