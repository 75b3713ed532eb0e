"""Values written to a topic of others as the source that reads it declares: to try it out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streams.broker.port import Outgoing
from streams.codec.avro import encoded, framed
from streams.codec.registry import SchemaRegistry
from streams.event import encode_value
from streams.topology.expressions import compile_template
from streams.topology.plan import SourceTopic


async def foreign_records(
    source: SourceTopic, values: Iterable[Any], key: str = "", registry: str = ""
) -> list[Outgoing]:
    """A record of each value: JSON, or Avro by the source's own schema or the newest that its
    registry has for the topic. `key` is text with `${{ data.… }}`. Raises `UserError` for a value
    that does not fit, or `RegistryAway`."""
    keys = compile_template(key) if key else None
    number, schema = None, source.schema
    where = source.registry or registry
    if source.is_avro and schema is None:
        asked = SchemaRegistry(where)
        try:
            number, schema = await asked.newest(f"{source.topic}-value")
        finally:
            await asked.close()
    records = []
    for value in values:
        name = None if keys is None else str(keys.evaluate({"data": value})).encode()
        if not source.is_avro:
            raw = encode_value(value, "application/json")
        else:
            raw = encoded(schema, value)
            raw = raw if number is None else framed(number, raw)
        records.append(Outgoing(source.topic, name, raw))
    return records


def values_in(content: bytes) -> list[Any]:
    """The JSON values of a file: an array's items, or one value a line, or one alone."""
    text = content.strip()
    if text.startswith(b"["):
        found: list[Any] = msgspec.json.decode(text)
        return found
    try:
        return [msgspec.json.decode(text)]
    except msgspec.DecodeError:
        return [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]
