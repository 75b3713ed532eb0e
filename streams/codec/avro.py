"""Avro values as plain ones, behind a schema registry's frame or bare.

The frame is Confluent's: a zero byte, the schema's number in four bytes, the value. Newer senders put
the schema's GUID into a header, and the value stands bare. Other bare values need the schema from
elsewhere. Whatever does not fit its schema to the last byte is refused.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from typing import Any, Final

from streams.codec.foreign_codes import NOT_AVRO
from streams.codec.registry import SchemaRegistry
from streams.errors import EventError, UserError

FRAME: Final = 5
"""Bytes before the value."""
GUID: Final = 17
"""Bytes of a header that names a schema."""


class AvroReader:
    """Reads values by the schemas of a registry, or by one that it was given."""

    def __init__(self, *, schema: Any = None, registry: SchemaRegistry | None = None) -> None:
        """Raises `UserError` for a schema that is none."""
        self._registry = registry
        self._schema = None
        if schema is not None:
            try:
                self._schema = parsed(schema, {})
            except EventError as error:
                raise UserError(error.message, code=error.code) from error

    async def read(self, data: bytes, guid: str | None = None) -> Any:
        """The value. `guid` is the schema's, where a header has it. Raises `EventError`, or
        `RegistryAway`."""
        if self._registry is not None and guid is not None:
            return decoded(await self._registry.schema(guid), data)
        if self._registry is not None:
            number = frame_number(data)
            if number is None:
                raise _unreadable("it does not begin with the frame of a schema registry")
            return decoded(await self._registry.schema(number), data[FRAME:])
        assert self._schema is not None
        return self._by_file(data)

    def _by_file(self, data: bytes) -> Any:
        """Bare, or behind a frame whose number is not looked at: whichever fits to the last byte.
        Where both would, nobody knows what was meant."""
        bare = framed = None
        try:
            bare = (decoded(self._schema, data),)
        except EventError:
            if frame_number(data) is None:
                raise
        if frame_number(data) is not None:
            try:
                framed = (decoded(self._schema, data[FRAME:]),)
            except EventError:
                if bare is None:
                    raise
        if bare and framed:
            raise _unreadable("it can be read with and without a registry's frame")
        found = bare or framed
        assert found is not None
        return found[0]


def schema_guid(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    """The schema's GUID in the header of that name: a byte 1, and sixteen more."""
    raw = next((raw for header, raw in reversed(headers) if header == name), None)
    if raw is None or len(raw) != GUID or raw[0] != 1:
        return None
    return str(uuid.UUID(bytes=raw[1:]))


def frame_number(data: bytes) -> int | None:
    """The number of the schema, if the value has a frame."""
    if len(data) < FRAME or data[0] != 0:
        return None
    return int.from_bytes(data[1:FRAME], "big")


def parsed(schema: Any, named: dict[str, Any]) -> Any:
    """The schema, ready for reading; what it defines is added to `named`. Raises `EventError`."""
    from fastavro.schema import SchemaParseException, parse_schema

    try:
        return parse_schema(schema, named_schemas=named)
    except (SchemaParseException, ValueError, TypeError, KeyError, RecursionError) as error:
        why = str(error) or type(error).__name__
        raise EventError(f"not an Avro schema: {why}", code=NOT_AVRO, field="schema") from error


def decoded(schema: Any, data: bytes) -> Any:
    """The value, by a schema that is ready for reading. Raises `EventError`."""
    from fastavro import schemaless_reader

    source = io.BytesIO(data)
    try:
        value = schemaless_reader(source, schema, None)
    except Exception as error:
        # Hostile bytes bring up whatever the reader happens to do with them.
        raise _unreadable(f"{type(error).__name__}: {error}") from error
    if source.tell() != len(data):
        raise _unreadable(f"{len(data) - source.tell()} bytes are left over")
    return value


def encoded(schema: Any, value: Any) -> bytes:
    """The bytes of a value. Raises `EventError` if it does not fit."""
    from fastavro import schemaless_writer

    target = io.BytesIO()
    try:
        schemaless_writer(target, parsed(schema, {}), value)
    except EventError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise EventError(
            f"the value does not fit the Avro schema: {why[:300]}", code=NOT_AVRO, field="value"
        ) from error
    return target.getvalue()


def framed(number: int, data: bytes) -> bytes:
    """The value behind the frame of a registry."""
    return b"\0" + number.to_bytes(4, "big") + data


def _unreadable(why: str) -> EventError:
    return EventError(
        f"the value does not fit its Avro schema: {why[:300]}",
        code=NOT_AVRO,
        field="value",
        help="see that the schema is the one the record was written with",
    )
