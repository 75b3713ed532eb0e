"""A pipeline as its control topic and its consumer groups show it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streams.broker.port import Log, TopicPartition
from streams.engine import rows as ledger_rows
from streams.engine.rows import FactRow
from streams.inspection.scan import newest
from streams.topology.plan import USER_CODE, Naming, Plan

EVERYTHING = "*"
"""The key of a pause that holds the whole pipeline."""


class Pause(msgspec.Struct, frozen=True):
    """Who stopped a pipeline or stage from starting new work."""

    at: int = 0
    by: str = ""
    reason: str = ""


class PipelineInfo(msgspec.Struct, frozen=True):
    """What is known of a pipeline without looking at any job."""

    name: str
    naming: Naming
    partitions: int
    active: str
    plans: dict[str, Plan]
    facts: dict[str, FactRow]
    """Shared by all jobs."""
    pauses: dict[str, Pause]
    """Stage, or `EVERYTHING` → pause."""
    groups: dict[str, tuple[str, ...]]
    """Consumer group → members alive now."""

    @property
    def plan(self) -> Plan:
        """The plan that new jobs begin with."""
        return self.plans[self.active]

    @property
    def workers(self) -> tuple[str, ...]:
        """Everybody alive in any group."""
        return tuple(sorted({member for group in self.groups.values() for member in group}))

    @property
    def keeper_alive(self) -> bool:
        return bool(self.groups.get(self.naming.keeper_group))

    def pool_alive(self, pool: str) -> bool:
        return bool(self.groups.get(self.naming.pool_group(pool)))

    def pause_of(self, stage: str | None) -> Pause | None:
        """What holds this stage back, if anything does."""
        return self.pauses.get(stage or EVERYTHING) or self.pauses.get(EVERYTHING)

    def places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self.partitions)]

    def plan_of(self, rows: Mapping[str, bytes]) -> Plan:
        """The plan a job began with; the active one where that is not kept any more."""
        head = rows.get("@job")
        digest = ledger_rows.decode_job(head).plan if head else self.active
        return self.plans.get(digest, self.plan)


async def pipeline_names(log: Log, namespace: str) -> list[str]:
    """All pipelines of the namespace that have a control topic, sorted."""
    head, tail = f"{namespace}.", ".control"
    return sorted(
        topic[len(head) : -len(tail)]
        for topic in await log.topics()
        if topic.startswith(head) and topic.endswith(tail)
    )


async def read_pipeline(log: Log, naming: Naming) -> PipelineInfo | None:
    """The pipeline, or None while it was never applied. Its control topic must exist."""
    control = await newest(log, [TopicPartition(naming.control, 0)])
    if b"active" not in control or b"layout" not in control:
        return None
    named: dict[str, dict[str, bytes]] = {"plan": {}, "fact": {}, "pause": {}}
    for key, value in control.items():
        kind, _, rest = key.decode().partition("/")
        if kind in named:
            named[kind][rest] = value
    plans = {digest: Plan.decode(value) for digest, value in named["plan"].items()}
    pools = sorted(
        {part.pool for plan in plans.values() for part in plan.parts if part.kind in USER_CODE}
    )
    groups = [naming.keeper_group, *(naming.pool_group(pool) for pool in pools)]
    return PipelineInfo(
        name=naming.pipeline,
        naming=naming,
        partitions=msgspec.json.decode(control[b"layout"])["partitions"],
        active=msgspec.json.decode(control[b"active"])["digest"],
        plans=plans,
        facts={
            name: msgspec.json.decode(value, type=FactRow)
            for name, value in named["fact"].items()
            if "/" not in name
        },
        pauses={
            stage: msgspec.json.decode(value, type=Pause) for stage, value in named["pause"].items()
        },
        groups={group: tuple(await log.members(group)) for group in groups},
    )
