"""Any record of a log as values for people and programs, by what its topic is for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from streams.broker.port import Record
from streams.codec import kafka
from streams.codec.avro import AvroReader, frame_number
from streams.codec.foreign import Reading
from streams.codec.registry import SchemaRegistry
from streams.codec.strict_json import parse
from streams.engine import rows as ledger_rows
from streams.errors import EventError, StreamsError, UserError
from streams.event import Event
from streams.event_rules import FOREIGN
from streams.inspection.deadletters import PREFIX
from streams.inspection.pipelines import PipelineInfo
from streams.runtime.source_topics import readable

Kind = Literal["event", "row", "control", "record", "deleted", "unread"]


class Decoded(msgspec.Struct, frozen=True):
    """What a record says."""

    kind: Kind
    event: Event | None = None
    value: Any = None
    """Of a row, a control record, a record of others: its JSON. Of what cannot be read: its bytes."""
    fault: str = ""
    """Why it is no event, or cannot be read."""
    cause: dict[str, str] = {}
    """Of a dead letter: why it is one, and where it stood."""


class Decoder:
    """Knows the topics of the pipelines it is given, and reads all others as best it can."""

    def __init__(self, pipelines: Iterable[PipelineInfo], registry: str = "") -> None:
        self._ledgers: set[str] = set()
        self._controls: set[str] = set()
        self._dead: set[str] = set()
        self._sources: dict[str, Reading] = {}
        for info in pipelines:
            self._ledgers.add(info.naming.ledger)
            self._controls.add(info.naming.control)
            self._dead.add(info.naming.dead)
            for source in info.plan.sources:
                if source.format == "cloudevents":
                    continue
                # Where this machine lacks what its workers have, records are shown as they are.
                with contextlib.suppress(UserError):
                    self._sources[source.topic] = readable(source, registry)
        self._registry = SchemaRegistry(registry) if registry else None

    async def close(self) -> None:
        """Its connections are closed."""
        for reading in self._sources.values():
            await reading.close()
        if self._registry is not None:
            await self._registry.close()

    async def decoded(self, record: Record) -> Decoded:
        """What it says; nothing is raised for what cannot be read."""
        try:
            return await self._decoded(record)
        except (StreamsError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return Decoded("unread", value=record.value, fault=str(error))

    async def _decoded(self, record: Record) -> Decoded:
        if record.topic in self._ledgers:
            return _row(record)
        if record.topic in self._controls:
            return _control(record)
        if record.topic in self._dead:
            cause = {
                name.removeprefix(PREFIX): (raw or b"").decode(errors="replace")
                for name, raw in record.headers
                if name.startswith(PREFIX)
            }
            return msgspec.structs.replace(await self._letter(record, cause), cause=cause)
        return await self._record(record, self._sources.get(record.topic))

    async def _letter(self, record: Record, cause: dict[str, str]) -> Decoded:
        """What is in it may be just what nobody could read."""
        try:
            return await self._record(record, self._sources.get(cause.get("topic", "")))
        except (StreamsError, msgspec.MsgspecError) as error:
            return Decoded("unread", value=record.value, fault=str(error))

    async def _record(self, record: Record, reading: Reading | None) -> Decoded:
        if reading is not None:
            if record.value is None:
                return Decoded("deleted")
            return Decoded("record", value=_plain(await reading.value(record)))
        try:
            return Decoded("event", kafka.decode(record.value, record.headers))
        except EventError as error:
            if error.code != FOREIGN:
                raise
            fault = error.message
        if record.value is None:
            return Decoded("deleted", fault=fault)
        return await self._guessed(record.value, fault)

    async def _guessed(self, value: bytes, fault: str) -> Decoded:
        """JSON, or Avro that the registry of the settings knows; else bytes."""
        if self._registry is not None and frame_number(value) is not None:
            found = await AvroReader(registry=self._registry).read(value)
            return Decoded("record", value=_plain(found), fault=fault)
        try:
            return Decoded("record", value=parse(value, field="value"), fault=fault)
        except EventError:
            return Decoded("unread", value=value, fault=fault)


def _row(record: Record) -> Decoded:
    """With the names as they stand in the record, and the status in words beside its code."""
    if record.value is None or record.key is None:
        return Decoded("deleted")
    part = ledger_rows.Address.of(record.key).part
    row = ledger_rows.decode(part, record.value)
    value: dict[str, Any] = msgspec.json.decode(memoryview(record.value)[1:])
    if isinstance(row, ledger_rows.Row | ledger_rows.JobRow):
        value = {"status": ledger_rows.PUBLIC[row.status], **value}
    return Decoded("row", value=value)


def _control(record: Record) -> Decoded:
    if record.value is None:
        return Decoded("deleted")
    return Decoded("control", value=msgspec.json.decode(record.value) if record.value else None)


def _plain(value: Any) -> Any:
    """What a schema's own kinds (times, decimals, bytes) are in JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))
