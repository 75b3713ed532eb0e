"""What a pipeline needs in the log before a worker starts: topics, layout, plans."""

from __future__ import annotations

import msgspec

from streams.broker.port import Log, Outgoing, TopicPartition, TopicSpec
from streams.clock import Clock
from streams.errors import TopicError
from streams.runtime.control import ControlTable, Layout
from streams.topology.plan import Naming, Plan

DAY = 24 * 3600 * 1000
INTAKE_RETENTION = 30 * DAY
DEAD_RETENTION = 30 * DAY


def topics(naming: Naming, plan: Plan, partitions: int) -> list[TopicSpec]:
    """Every topic of the pipeline (KT-2, KT-3)."""
    stages = [
        TopicSpec(naming.stage(part.path), partitions)
        for part in plan.parts
        if part.kind in ("stage", "uses")
    ]
    return [
        TopicSpec(naming.intake, partitions, retention_ms=INTAKE_RETENTION),
        TopicSpec(naming.hold, partitions),
        TopicSpec(naming.ledger, partitions, "compact"),
        TopicSpec(naming.control, 1, "compact"),
        TopicSpec(naming.done, partitions, retention_ms=INTAKE_RETENTION),
        TopicSpec(naming.dead, partitions, retention_ms=DEAD_RETENTION),
        *stages,
    ]


async def read_control(log: Log, naming: Naming) -> ControlTable:
    """The control topic as it is now; empty where there is none yet."""
    table = ControlTable()
    place = TopicPartition(naming.control, 0)
    if naming.control not in await log.topics():
        return table
    end = (await log.watermarks([place]))[place].high
    reader = log.reader()
    try:
        reader.assign({place: 0})
        while reader.position(place) < end:
            for record in await reader.poll(1_000, 1.0):
                table.apply(record)
    finally:
        await reader.close()
    return table


async def apply(log: Log, naming: Naming, plan: Plan, clock: Clock, partitions: int) -> int:
    """Makes the plan the one that new jobs begin with; answers the number of partitions.

    What is there already is left as it is. The number of partitions of an existing pipeline wins.
    """
    table = await read_control(log, naming)
    if table.layout is not None:
        partitions = table.layout.partitions
    await log.create_topics(topics(naming, plan, partitions))
    records = []
    if table.layout is None:
        layout = msgspec.json.encode(Layout(partitions, clock.new_id()))
        records.append(Outgoing(naming.control, b"layout", layout, (), 0))
    if plan.digest not in table.plans:
        key = f"plan/{plan.digest}".encode()
        records.append(Outgoing(naming.control, key, plan.encoded, (), 0))
    if table.active != plan.digest:
        active = msgspec.json.encode({"digest": plan.digest, "at": clock.now()})
        records.append(Outgoing(naming.control, b"active", active, (), 0))
    if records:
        await log.publish(records)
    return partitions


async def require_layout(log: Log, naming: Naming) -> Layout:
    """The pipeline's layout. Raises `TopicError` where it was never applied."""
    layout = (await read_control(log, naming)).layout
    if layout is None:
        raise TopicError(
            f"pipeline {naming.pipeline} is not set up in this log",
            help="Start a worker with the pipeline's file: it sets up what is missing.",
        )
    return layout
