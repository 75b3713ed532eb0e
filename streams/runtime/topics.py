"""Every topic of a pipeline, with all its settings and what each is for (KT-2, KT-3).

The numbers are decided here, whoever makes the topics: `streams apply`, a worker, or somebody else
from what `streams plan -o json` prints.
"""

from __future__ import annotations

from collections.abc import Iterable

from streams.broker.port import TopicSpec
from streams.topology.plan import USER_CODE, Naming, Plan

DAY = 24 * 3600 * 1000
INTAKE_RETENTION = 30 * DAY
DEAD_RETENTION = 30 * DAY

SAFE_REPLICAS = 3
SAFE_IN_SYNC = 2

_EVERY = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048588"}
_COMPACTED = {
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": str(3_600_000),
    "segment.bytes": str(64 * 1024 * 1024),
    "max.compaction.lag.ms": str(DAY),
    "delete.retention.ms": str(7 * DAY),
}

EFFECTS: dict[str, str] = {
    "cleanup.policy": "rows are lost where it is not `compact`, work where it is not `delete`",
    "retention.ms": "what waits for longer than that is lost",
    "message.timestamp.type": "deadlines go by the clocks of the writers, not of the brokers",
    "max.message.bytes": "larger records are refused, and their jobs fail (K065)",
    "min.insync.replicas": "what was acknowledged may be lost with one broker",
    "unclean.leader.election.enable": "what was acknowledged may be lost when a broker returns",
    "min.cleanable.dirty.ratio": "compaction comes later, and restoring takes longer",
    "segment.ms": "the newest part is never compacted, and restoring takes longer",
    "segment.bytes": "the newest part is never compacted, and restoring takes longer",
    "max.compaction.lag.ms": "erased rows stay in the log for longer",
    "delete.retention.ms": "a worker that was away for longer may see deleted rows again",
}
"""Setting → what it does to a pipeline when it is another one."""


def topics(
    naming: Naming, plans: Iterable[Plan], partitions: int, replicas: int = -1
) -> list[TopicSpec]:
    """Every topic that these plans of one pipeline need. From three replicas on two have to have
    each record before it is acknowledged."""
    in_sync = {"min.insync.replicas": str(SAFE_IN_SYNC)} if replicas >= SAFE_REPLICAS else {}
    every = {**_EVERY, **in_sync}

    def kept(name: str, retention_ms: int = -1) -> TopicSpec:
        return TopicSpec(name, partitions, "delete", retention_ms, every, replicas)

    def table(name: str, width: int) -> TopicSpec:
        return TopicSpec(name, width, "compact", -1, {**every, **_COMPACTED}, replicas)

    paths = {part.path for plan in plans for part in plan.parts if part.kind in USER_CODE}
    return [
        kept(naming.intake, INTAKE_RETENTION),
        kept(naming.hold),
        table(naming.ledger, partitions),
        table(naming.control, 1),
        kept(naming.done, INTAKE_RETENTION),
        kept(naming.dead, DEAD_RETENTION),
        *(kept(naming.stage(path)) for path in sorted(paths)),
    ]
