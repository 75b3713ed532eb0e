"""Records of topics that somebody else writes, read as what is submitted to a pipeline.

One `Reading` for each declared source. A record becomes a CloudEvent: its own, or one made of its
place in the log, so that reading it twice gives the same event and the same job.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final, Protocol

from streams.codec import kafka
from streams.codec.avro import AvroReader, frame_number, schema_guid
from streams.codec.debezium import DELETED, change_of, unwrapped
from streams.codec.foreign_codes import NO_ID, NOT_HERE
from streams.codec.registry import SchemaRegistry
from streams.codec.strict_json import check_data, parse
from streams.engine.messages import SIGNAL
from streams.errors import EventError, ExpressionError
from streams.event import Event, encode_value, strip_engine_extensions, submission_job_id
from streams.event_rules import timestamp
from streams.topology.expressions import compile_template
from streams.topology.plan import SourceTopic

RECORD: Final = "interlock.source.record.v1"
"""Type of the event made of a record that is none."""
JSON: Final = "application/json"
_TRACE: Final = ("traceparent", "tracestate")


class SourceRecord(Protocol):
    """A record as it stands in a log."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Reading:
    """How the records of one source are read."""

    def __init__(self, source: SourceTopic, registry: SchemaRegistry | None = None) -> None:
        """Raises `UserError` for a schema that is none. `registry` serves a source that is Avro
        and brings no schema."""
        self.source = source
        self._id = None if source.id is None else compile_template(source.id)
        self._avro: AvroReader | None = None
        if source.schema is not None:
            self._avro = AvroReader(schema=source.schema)
        elif source.is_avro:
            self._avro = AvroReader(registry=registry)
        self._registry = registry

    async def event(self, record: SourceRecord) -> Event | None:
        """What is submitted; None for a deletion that is to be skipped. Raises `EventError` for a
        record that cannot be read, `RegistryAway` where that cannot be said now."""
        if self.source.format == "cloudevents":
            return self._own_event(record)
        value = await self.value(record)
        if self.source.deletes == "skip" and self._is_deletion(record, value):
            return None
        event = Event.make(
            id=f"{record.partition}-{record.offset}",
            source=f"/topics/{record.topic}",
            type=RECORD,
            time=timestamp(record.timestamp) if record.timestamp > 0 else None,
            data=self._data(record, value),
            datacontenttype=JSON,
            extensions=_trace(record),
        )
        if self._id is None:
            return event
        names = {"key": await self._key(record), "headers": _headers(record), "data": value}
        return self._named(event, names)

    async def close(self) -> None:
        """Its connections are closed."""
        if self._registry is not None:
            await self._registry.close()

    def _own_event(self, record: SourceRecord) -> Event | None:
        is_tombstone = record.value is None and not kafka.is_cloudevent(record.headers)
        if is_tombstone and self.source.deletes == "skip":
            return None
        event = strip_engine_extensions(kafka.decode(record.value, record.headers))
        check_data(event)
        if event.type == SIGNAL:
            raise EventError(
                "a signal stands in a source",
                code=NOT_HERE,
                field="type",
                help="signals are sent to the pipeline's own intake",
            )
        if self._id is None:
            return event
        attributes = {
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "subject": event.subject,
            "time": event.time,
            **event.extensions,
        }
        names = {
            "key": _text(record.key),
            "headers": _headers(record),
            "data": event.value(),
            "event": {name: each for name, each in attributes.items() if each is not None},
        }
        return self._named(event, names)

    async def value(self, record: SourceRecord) -> Any:
        """What the record's value holds; of a change its envelope. Not for CloudEvents."""
        changes = self.source.format == "debezium"
        if record.value is None:
            return {"op": DELETED, "before": None, "after": None} if changes else None
        if self._avro is not None:
            guid = schema_guid(record.headers, "__value_schema_id")
            found = await self._avro.read(record.value, guid)
        else:
            found = parse(record.value, field="value")
        return change_of(found) if changes else found

    def _data(self, record: SourceRecord, value: Any) -> bytes:
        """JSON stays as it was written; anything else becomes JSON."""
        as_it_is = self.source.format == "json" and record.value is not None
        return record.value or b"null" if as_it_is else encode_value(value, JSON)

    def _is_deletion(self, record: SourceRecord, value: Any) -> bool:
        return record.value is None or (self.source.format == "debezium" and value["op"] == DELETED)

    async def _key(self, record: SourceRecord) -> Any:
        """The key: text, or for Avro and Debezium the value in it, if it holds one."""
        key = record.key
        if key is None or self.source.format == "json":
            return _text(key)
        guid = schema_guid(record.headers, "__key_schema_id")
        if self._registry is not None and (guid or frame_number(key) is not None):
            return await AvroReader(registry=self._registry).read(key, guid)
        if self.source.format == "debezium":
            try:
                return unwrapped(parse(key, field="key"))
            except EventError:
                return _text(key)
        return _text(key)

    def _named(self, event: Event, names: dict[str, Any]) -> Event:
        """The event as the job that its record names."""
        assert self._id is not None
        try:
            found = self._id.evaluate(names)
        except ExpressionError as error:
            raise EventError(
                f"`id` cannot be read from the record: {error.message}",
                code=NO_ID,
                field="id",
                help=error.help,
            ) from error
        if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
            raise EventError(
                f"`id` gives {str(found)[:40] or 'nothing'!r}, which names no job",
                code=NO_ID,
                field="id",
                help="read a text or a whole number that every record has",
            )
        return event.with_extensions(job=str(found))


def job_of(event: Event) -> str:
    """The job of a submission: as given, else derived from (source, id)."""
    given = event.extensions.get("job")
    return str(given) if given else submission_job_id(event.source, event.id)


def _text(raw: bytes | None) -> str | None:
    """As text; in base 64 where it is none."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()


def _headers(record: SourceRecord) -> dict[str, str]:
    """Of repeated ones the last; null means absent."""
    found = {name: _text(raw) for name, raw in record.headers}
    return {name: text for name, text in found.items() if text is not None}


def _trace(record: SourceRecord) -> dict[str, str | int | bool | bytes]:
    """The trace that the record belongs to, if it is well-formed text."""
    found: dict[str, str | int | bool | bytes] = {}
    for name, raw in record.headers:
        if name in _TRACE and raw is not None and len(raw) <= 512:
            text = _text(raw) or ""
            if text.isascii() and text.isprintable():
                found[name] = text
    return found
