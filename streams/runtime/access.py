"""What a pipeline's processes have to be allowed on a cluster: as data, for whoever grants it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import msgspec

from streams.broker.cluster import Operations
from streams.broker.port import TopicSpec
from streams.topology.plan import USER_CODE, Naming, Plan

Role = Literal["worker", "apply", "client"]
Resource = Literal["topic", "group", "transactional_id", "cluster"]

READERS = "streams.reader"
"""The name under which whoever belongs to no group reads."""
PUBLISHERS = "streams.publisher."
"""Transactions of whoever writes without being in a group."""

_IMPLIED = {"describe": {"read", "write", "delete", "alter"}}
"""Operation → others that bring it along."""


class Acl(msgspec.Struct, frozen=True):
    """Operations that one role needs on one thing. `prefixed`: on all whose names begin so."""

    role: Role
    resource: Resource
    name: str
    operations: tuple[str, ...]
    pattern: Literal["literal", "prefixed"] = "literal"

    def __str__(self) -> str:
        what = self.resource.replace("_", " ")
        begins = " (prefix)" if self.pattern == "prefixed" else ""
        return f"{', '.join(self.operations)} on {what} {self.name}{begins}"


def groups(naming: Naming, plans: Iterable[Plan]) -> list[str]:
    """Every consumer group of these plans: one a pool, the coordinators', and that which reads the
    topics of others."""
    plans = list(plans)
    pools = {part.pool for plan in plans for part in plan.parts if part.kind in USER_CODE}
    reading = [naming.source_group] if any(plan.sources for plan in plans) else []
    return [naming.keeper_group, *(naming.pool_group(pool) for pool in sorted(pools)), *reading]


def transactional_ids(groups: Iterable[str]) -> list[str]:
    """How the ids begin under which members of these groups write; the worker's name follows."""
    return [f"{group}." for group in groups]


def acls(
    naming: Naming,
    wanted: Iterable[TopicSpec],
    groups: Iterable[str],
    sources: Iterable[str] = (),
) -> list[Acl]:
    """Everything that a worker, `apply` and a client need for the pipeline; `sources` are topics of
    others that it reads."""
    groups, sources = list(groups), list(sources)
    names = [spec.name for spec in wanted]
    return [
        *(Acl("worker", "topic", name, _of_worker(naming, name, sources)) for name in names),
        *(Acl("worker", "topic", name, ("read",)) for name in sources),
        *(Acl("worker", "group", group, ("read",)) for group in groups),
        *(
            Acl("worker", "transactional_id", start, ("write",), "prefixed")
            for start in transactional_ids(groups)
        ),
        Acl("worker", "group", READERS, ("read",)),
        *(Acl("apply", "topic", name, _of_apply(naming, name)) for name in names),
        Acl("apply", "cluster", "kafka-cluster", ("describe_configs",)),
        Acl("apply", "transactional_id", PUBLISHERS, ("write",), "prefixed"),
        Acl("apply", "group", READERS, ("read",)),
        *(Acl("client", "topic", name, _of_client(naming, name)) for name in names),
        *(Acl("client", "group", group, ("describe",)) for group in groups),
        Acl("client", "transactional_id", PUBLISHERS, ("write",), "prefixed"),
        Acl("client", "group", READERS, ("read",)),
    ]


def _of_worker(naming: Naming, topic: str, sources: Collection[str]) -> tuple[str, ...]:
    if topic in (naming.ledger, naming.control):
        return ("read", "write", "describe_configs")
    if topic == naming.intake:  # what is read of others is submitted there
        return ("read", "write", "describe_configs") if sources else ("read", "describe_configs")
    if topic in (naming.done, naming.dead):
        return ("write", "describe_configs")
    # What is finished is deleted below the frontier.
    return ("read", "write", "delete", "describe_configs")


def _of_apply(naming: Naming, topic: str) -> tuple[str, ...]:
    making = ("create", "describe", "describe_configs")
    return (*making, "read", "write") if topic == naming.control else making


def _of_client(naming: Naming, topic: str) -> tuple[str, ...]:
    return ("read", "write") if topic == naming.intake else ("read",)


def missing(
    needed: Iterable[Acl], granted: Mapping[tuple[Resource, str], Operations | None]
) -> list[Acl]:
    """What of it is not granted, as far as is known: a thing that is not in `granted`, or is None
    there, is taken to be allowed."""
    found = []
    for acl in needed:
        may = granted.get((acl.resource, acl.name))
        if may is None:
            continue
        lacking = tuple(each for each in acl.operations if not _is_granted(each, may))
        if lacking:
            found.append(msgspec.structs.replace(acl, operations=lacking))
    return found


def _is_granted(operation: str, may: Operations) -> bool:
    return operation in may or "all" in may or bool(_IMPLIED.get(operation, set()) & may)
