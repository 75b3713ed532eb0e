"""What a pipeline's sources need before they are read, and the group that reads them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib.util import find_spec

from streams.broker.port import Log, TopicSpec
from streams.codec.foreign import Reading
from streams.codec.registry import SchemaRegistry
from streams.errors import TopicError, UserError
from streams.topology.plan import Naming, Plan, SourceTopic

EXPLANATIONS: dict[str, str] = {
    "K090": """\
**A topic that a pipeline reads as its source is not there,** or is one of its own.

Topics of others are never made here: a misspelt name would be an empty topic that nobody writes to.
(The embedded log has no others, so there they are made.)

Next: correct `source: {topic: …}`, or let whoever writes the topic create it; then start again.""",
    "K093": """\
**A source in Avro has no schema.** Neither the topology nor the settings say where schemas are.

Next: name `registry:` or `schema:` in the source, or set `kafka.registry`.""",
    "K095": """\
**A package for a source's format is missing.** Avro needs fastavro, a schema registry httpx.

Next: `pip install 'interlock-streams[avro]'`.""",
}


def source_groups(naming: Naming, plan: Plan) -> Mapping[str, tuple[str, ...]]:
    """Consumer group → the topics of others that it reads: what has to be allowed (READ)."""
    topics = tuple(source.topic for source in plan.sources)
    return {naming.source_group: topics} if topics else {}


async def require_sources(
    log: Log, naming: Naming, plan: Plan, registry: str, *, partitions: int | None = None
) -> None:
    """Returns when all that the plan reads of others is there and can be read. With `partitions`
    missing topics are created (an embedded log has no others who would). Raises `TopicError` or
    `UserError`."""
    if not plan.sources:
        return
    for source in plan.sources:
        readable(source, registry)
    known = await log.topics()
    for source in plan.sources:
        if source.topic.startswith(f"{naming.prefix}."):
            raise TopicError(
                f"the source {source.topic} of {naming.pipeline} is its own topic",
                code="K090",
                help="Read a topic that somebody else writes.",
            )
    missing = [source.topic for source in plan.sources if source.topic not in known]
    if missing and partitions is not None:
        await log.create_topics([TopicSpec(topic, partitions) for topic in missing])
    elif missing:
        raise TopicError(
            f"{naming.pipeline} reads {', '.join(missing)}, which is not there",
            code="K090",
            help=_near(missing[0], known) or "Create it, or correct the name in `source:`.",
        )


def _near(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, list(known), 1, 0.75)
    return f"Did you mean {close[0]}? Else create it." if close else ""


def readable(source: SourceTopic, registry: str) -> Reading:
    """How the source's records are read. Raises `UserError` where nobody could read them."""
    where = source.registry or registry
    wants_registry = source.is_avro and source.schema is None
    if wants_registry and not where:
        raise UserError(
            f"the source {source.topic} is Avro, and has no schema",
            code="K093",
            help="name `registry:` or `schema:`, or set kafka.registry",
        )
    needed = ("fastavro",) if source.is_avro else ()
    for package in (*needed, *(("httpx",) if wants_registry else ())):
        if find_spec(package) is None:
            raise UserError(
                f"the source {source.topic} needs {package}",
                code="K095",
                help="pip install 'interlock-streams[avro]'",
            )
    return Reading(source, SchemaRegistry(where) if wants_registry else None)
