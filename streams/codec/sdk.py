"""Events to and from objects of the `cloudevents` package, for user code that has them.

The package is imported when the first object is made. Where its bindings break the specification,
data is handed over in the form that they pass through unharmed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from streams.errors import EventError
from streams.event import Event, encode_value, validate
from streams.event_rules import (
    CORE_ATTRIBUTES,
    MISSING,
    REQUIRED,
    VALUE_TYPE,
    canonical,
    media_type,
    milliseconds,
)

if TYPE_CHECKING:
    from cloudevents.core.base import BaseCloudEvent
    from cloudevents.core.v1.event import CloudEvent

_JSON: Final = "application/json"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_sdk(event: Event) -> CloudEvent:
    """The same event as an SDK object. JSON objects become a dict and text a string; any other
    data stays bytes, as the SDK writes lists and strings by `str()` and not as JSON. Booleans and
    bytes in extensions become text, for the SDK would write `True` (CE-4)."""
    from cloudevents.core.v1.event import CloudEvent

    validate(event)
    attributes: dict[str, Any] = {
        name: value
        for name in CORE_ATTRIBUTES - {"time"}
        if (value := getattr(event, name)) is not None
    }
    for name, extension in event.extensions.items():
        plain = type(extension) in (str, int)
        attributes[name] = extension if plain else canonical(extension, name)
    if event.time is not None:
        attributes["time"] = _datetime(event.time)
    made = CloudEvent(attributes=attributes, data=_data_for_sdk(event))
    if event.time is None:
        made.get_attributes().pop("time", None)  # the SDK invents one
    return made


def from_sdk(event: BaseCloudEvent) -> Event:
    """The checked event in an SDK object; raises `EventError` where the SDK let something pass.

    A string under a JSON type is a JSON string. Data without a content type is JSON to the SDK,
    so its type is set, except for bytes.
    """
    attributes = {k: v for k, v in event.get_attributes().items() if v is not None}
    for name in REQUIRED:
        if name not in attributes:
            raise EventError(f"{name} is missing", code=MISSING, field=name)
    for name, value in attributes.items():
        if isinstance(value, datetime):
            attributes[name] = _timestamp(name, value)
    value = event.get_data()
    data: bytes | None = None
    if isinstance(value, bytes | bytearray):
        data = bytes(value)
    elif value is not None:
        content_type = attributes.setdefault("datacontenttype", _JSON)
        if not isinstance(content_type, str):
            raise EventError(
                "datacontenttype is not text", code=VALUE_TYPE, field="datacontenttype"
            )
        data = encode_value(value, content_type)
    core = {name: attributes.pop(name) for name in CORE_ATTRIBUTES & attributes.keys()}
    made = Event(**core, data=data, extensions=attributes)
    validate(made)
    return made


def _data_for_sdk(event: Event) -> dict[str, Any] | str | bytes | None:
    if event.data is None or event.datacontenttype is None:
        return event.data
    media = media_type(event.datacontenttype)
    if media.essence == _JSON or media.essence.startswith("text/"):
        try:
            value = event.value()
        except EventError:
            return event.data
        # Strings under a JSON type would lose their quotes, and so turn into something else.
        if isinstance(value, dict if media.is_json else str):
            return value
    return event.data


def _datetime(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:  # a leap second, which datetime cannot hold
        return _EPOCH + timedelta(milliseconds=milliseconds(text))


def _timestamp(field: str, value: datetime) -> str:
    if value.tzinfo is None:
        raise EventError(f"{field} has no zone", code=VALUE_TYPE, field=field)
    return value.isoformat().replace("+00:00", "Z")
