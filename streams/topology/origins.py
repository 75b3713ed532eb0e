"""`source:` of a topology: the topics of others that it reads, checked."""

from __future__ import annotations

from pathlib import Path as File
from pathlib import PurePath
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from streams.errors import EventError, ExpressionError
from streams.event_rules import milliseconds
from streams.topology.cel_syntax import RECORD_ROOTS
from streams.topology.expressions import OPEN, compile_template
from streams.topology.model import SourceModel, TopologyModel
from streams.topology.plan import SourceTopic
from streams.topology.source import Path, Source

MOST_SCHEMA_BYTES = 256 * 1024
"""The schema travels in the plan, which is one record."""
_PRIMITIVE = frozenset("null boolean int long float double bytes string".split())


def source_topics(source: Source, model: TopologyModel) -> tuple[SourceTopic, ...]:
    """What the file's `source:` declares, with a finding for each fault."""
    found: dict[str, SourceTopic] = {}
    for n, entry in enumerate(model.source):
        place: Path = ("source", n)
        if entry.topic in (".", ".."):
            source.fault("T110", f"`{entry.topic}` is no topic's name", (*place, "topic"))
        if entry.topic in found:
            message = f"the topic `{entry.topic}` is read twice"
            source.fault("T111", message, (*place, "topic"), "one entry a topic")
        _refuse_meaningless(source, entry, place)
        found[entry.topic] = SourceTopic(
            entry.topic,
            entry.format,
            _id(source, entry, place),
            _start(source, entry, place),
            entry.on_error,
            entry.deletes,
            _registry(source, entry, place),
            _schema(source, entry, place),
        )
    return tuple(found.values())


def _refuse_meaningless(source: Source, entry: SourceModel, place: Path) -> None:
    for field, value in (("registry", entry.registry), ("schema", entry.schema_)):
        if value is not None and entry.format not in ("avro", "debezium"):
            message = f"`{field}` has no meaning for records in {entry.format}"
            hint = "say `format: avro` (or debezium), or remove it"
            source.fault("T113", message, (*place, field), hint, key=True)
    if entry.registry is not None and entry.schema_ is not None:
        source.fault("T113", "`registry` and `schema`", (*place, "schema"), "keep one", key=True)


def _id(source: Source, entry: SourceModel, place: Path) -> str | None:
    """The text of the id; what it reads must be there when a record is read."""
    if entry.id is None:
        return None
    path: Path = (*place, "id")
    try:
        template = compile_template(entry.id)
    except ExpressionError as error:
        source.fault(error.code, error.message, path, error.help)
        return None
    if OPEN not in entry.id:
        message = "`id` is the same for every record, so there would be one job"
        source.fault("T113", message, path, "read it from the record: `${{ data.id }}`")
    allowed = {"data", *RECORD_ROOTS} - (set() if entry.format == "cloudevents" else {"event"})
    for root in sorted(template.roots - allowed):
        message = f"`{root}` has no value in the `id` of a source in {entry.format}"
        source.fault("T125", message, path, f"there are: {', '.join(sorted(allowed))}")
    return entry.id


def _start(source: Source, entry: SourceModel, place: Path) -> Literal["earliest", "latest"] | int:
    if entry.start == "earliest":
        return "earliest"
    if entry.start == "latest":
        return "latest"
    try:
        return milliseconds(entry.start)
    except EventError:
        message = f"`{entry.start}` is neither earliest, latest, nor a time"
        source.fault("T140", message, (*place, "start"), "for instance 2026-03-01T00:00:00Z")
        return "earliest"


def _registry(source: Source, entry: SourceModel, place: Path) -> str:
    if entry.registry is None:
        return ""
    path: Path = (*place, "registry")
    try:
        url = urlsplit(entry.registry)
        good = url.scheme in ("http", "https") and bool(url.hostname)
    except ValueError:
        good = False
    if not good:
        source.fault("T142", f"`{entry.registry}` is no address", path, "http://host:port")
    elif url.username or url.password:
        message = "credentials stand in the topology"
        source.fault("T142", message, path, "set the whole URL as `kafka.registry`")
    return entry.registry.rstrip("/")


def _schema(source: Source, entry: SourceModel, place: Path) -> Any:
    """The Avro schema in the file named."""
    if entry.schema_ is None:
        return None
    path: Path = (*place, "schema")
    name = PurePath(entry.schema_)
    if name.is_absolute() or ".." in name.parts:
        message = f"`{entry.schema_}` does not lie beside the topology"
        source.fault("T141", message, path, "a path below the folder of the topology")
        return None
    try:
        content = File(source.name).parent.joinpath(name).read_bytes()
        if len(content) > MOST_SCHEMA_BYTES:
            raise ValueError(f"{len(content):,} bytes, more than {MOST_SCHEMA_BYTES:,}")
        schema = msgspec.json.decode(content)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        why = getattr(error, "strerror", None) or str(error)
        source.fault("T141", f"`{entry.schema_}` cannot be used: {why}", path)
        return None
    if not _looks_like_avro(schema):
        source.fault("T141", f"`{entry.schema_}` is JSON, but no Avro schema", path)
    return schema


def _looks_like_avro(schema: Any) -> bool:
    if isinstance(schema, str):
        return schema in _PRIMITIVE
    if isinstance(schema, list):
        return bool(schema) and all(_looks_like_avro(each) for each in schema)
    return isinstance(schema, dict) and isinstance(schema.get("type"), str | dict | list)
