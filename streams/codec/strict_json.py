"""JSON from strangers, read so that every reader sees the same value.

What the grammar leaves open is refused: a repeated key, NaN, a number out of range, a lone
surrogate, nesting that would exhaust a stack. What passes here, every later reader can decode.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

from streams.errors import EventError
from streams.event import Event
from streams.event_rules import (
    BROKEN_JSON,
    DUPLICATE_KEY,
    NOT_UTF8,
    TOO_DEEP,
    decode_text,
    media_type,
    require_unicode,
    shown,
)

DEPTH_LIMIT: Final = 512

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
"""A string, or the rest of the text where its end is missing, so that no start is tried twice."""
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))

_decode = msgspec.json.Decoder().decode


class _RepeatedKey(Exception):
    """Carries the key out of the parser."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _RepeatedKey(key)
        seen.add(key)


_find_repeated = json.JSONDecoder(object_pairs_hook=_unique).decode


def parse(data: bytes, *, field: str = "data", depth: int = DEPTH_LIMIT) -> Any:
    """The value; raises `EventError` for anything that two readers might understand differently."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise EventError(
            f"{field} is not UTF-8: {error.reason} at byte {error.start}",
            code=NOT_UTF8,
            field=field,
        ) from error
    if nesting(data) > depth:
        raise _too_deep(field, depth)
    try:
        value = _decode(data)
        if b"{" in data:
            _find_repeated(text)
    except _RepeatedKey as error:
        raise EventError(
            f"{field} holds the key {shown(error.args[0])} twice",
            code=DUPLICATE_KEY,
            field=field,
            help="send each key once",
        ) from error
    except RecursionError as error:  # the caller's own stack was deep already
        raise _too_deep(field, depth) from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise EventError(f"{field} is not JSON: {error}", code=BROKEN_JSON, field=field) from error
    return value


def nesting(data: bytes) -> int:
    """How deep arrays and objects lie in each other; brackets in strings do not count."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_LIMIT:
        return 0
    level = deepest = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NO_BRACKETS):
        if bracket in b"[{":
            level += 1
            deepest = max(deepest, level)
        else:
            level -= 1
    return deepest


def check_data(event: Event) -> None:
    """Returns if the data is fit to be worked on: strict JSON where the content type says JSON.

    For intake; a codec does not look into the data of a binary-mode event.
    """
    if event.data is None or event.datacontenttype is None:
        return
    media = media_type(event.datacontenttype)
    if media.is_json:
        require_unicode(media)
        parse(event.data)
    elif media.is_text:
        decode_text(event.data, media)


def _too_deep(field: str, depth: int) -> EventError:
    return EventError(f"{field} is nested deeper than {depth}", code=TOO_DEEP, field=field)
