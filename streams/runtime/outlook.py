"""A pipeline's plan held against a log: what is there, what an apply would change, what is wrong.

Only asks. What follows from the answers is decided in `comparing` and `access`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

from streams.broker.cluster import Cluster, ClusterFound, Operations, TopicFound, cluster_of
from streams.broker.port import Log, TopicPartition, TopicSpec
from streams.runtime.access import READERS, Acl, Resource, Role, acls, groups, missing
from streams.runtime.comparing import Finding, Terms, judge, missing_topics, not_allowed
from streams.runtime.control import ControlTable
from streams.runtime.topics import SAFE_REPLICAS, topics
from streams.topology.plan import Naming, Plan

ChangeKind = Literal["create-topic", "set-layout", "add-plan", "activate-plan"]

EMBEDDED = ("cleanup.policy", "retention.ms")
"""Settings that mean something to an embedded log."""


class Change(msgspec.Struct, frozen=True):
    """One thing that an apply would do."""

    kind: ChangeKind
    subject: str
    detail: str


class Outlook(msgspec.Struct, frozen=True):
    """What was found, and what follows from it."""

    naming: Naming
    plan: Plan
    table: ControlTable
    partitions: int
    wanted: tuple[TopicSpec, ...]
    found: Mapping[str, TopicFound | None]
    sources: tuple[str, ...]
    """Topics of others that are read."""
    findings: tuple[Finding, ...]
    groups: tuple[str, ...]
    acls: tuple[Acl, ...]
    cluster: ClusterFound | None
    address: str
    """Of the cluster; empty for an embedded log."""

    @property
    def missing(self) -> list[TopicSpec]:
        """Topics that are not there."""
        return missing_topics(self.wanted, self.found)

    @property
    def refused(self) -> list[Finding]:
        return [each for each in self.findings if each.severity == "refused"]

    @property
    def lost(self) -> list[str]:
        """Topics that must have been there: the pipeline was applied with them."""
        if self.table.layout is None:
            return []
        once = {
            spec.name for spec in topics(self.naming, self.table.plans.values(), self.partitions)
        }
        return [spec.name for spec in self.missing if spec.name in once]

    @property
    def changes(self) -> list[Change]:
        """What an apply would do, in its order."""
        plan, table = self.plan, self.table
        found = [
            Change("create-topic", spec.name, f"{_partitions(spec.partitions)}, {spec.cleanup}")
            for spec in self.missing
        ]
        if table.layout is None:
            detail = f"{_partitions(self.partitions)}, for good"
            found.append(Change("set-layout", self.naming.pipeline, detail))
        if plan.digest not in table.plans:
            found.append(Change("add-plan", plan.digest, f"version {plan.version}"))
        if table.active != plan.digest:
            before = table.plans.get(table.active)
            detail = f"new jobs begin with version {plan.version}"
            if before is not None:
                detail += f"; those under way end with version {before.version}"
            found.append(Change("activate-plan", plan.digest, detail))
        return found

    @property
    def next_step(self) -> str:
        """The command that makes what is missing."""
        return (
            f"streams apply FILE --kafka {self.address}" if self.address else "streams apply FILE"
        )


async def look(
    log: Log,
    naming: Naming,
    plan: Plan,
    partitions: int,
    *,
    production: bool = False,
    role: Role = "apply",
) -> Outlook:
    """The plan against the log as it is now, for somebody who wants to do what `role` says. The
    partitions of an existing pipeline win."""
    cluster = cluster_of(log)
    table = await read_control(log, naming)
    if table.layout is not None:
        partitions = table.layout.partitions
    facts = await cluster.facts() if cluster is not None else None
    replicas = _replicas(cluster, facts, production)
    plans = [plan, *(each for digest, each in table.plans.items() if digest != plan.digest)]
    wanted = topics(naming, plans, partitions, replicas)
    sources = sorted({source.topic for each in plans for source in each.sources})
    found = await found_in(log, [*(spec.name for spec in wanted), *sources])
    terms = Terms(
        laid_out=table.layout is not None,
        production=production,
        compared=EMBEDDED if cluster is None else None,
        address=cluster.bootstrap if cluster is not None else "",
    )
    of_plans = groups(naming, plans)
    needed = acls(naming, wanted, of_plans, sources)
    findings = judge(wanted, sources, found, facts, terms)
    if cluster is not None:
        mine = [_asked_for(acl, production) for acl in needed if acl.role == role]
        may = await _granted(cluster, facts, found, [*of_plans, READERS])
        findings = [*map(not_allowed, missing(mine, may)), *findings]
    return Outlook(
        naming,
        plan,
        table,
        partitions,
        tuple(wanted),
        found,
        tuple(sources),
        tuple(findings),
        tuple(of_plans),
        tuple(needed),
        facts,
        terms.address,
    )


def _replicas(cluster: Cluster | None, facts: ClusterFound | None, production: bool) -> int:
    """What was asked for, else what is safe, else the brokers' default as far as it is known."""
    if cluster is None or facts is None:
        return -1
    if cluster.replication != -1:
        return cluster.replication
    if production:
        return SAFE_REPLICAS
    return int(facts.settings.get("default.replication.factor", "-1"))


async def found_in(
    log: Log, names: Collection[str], *, settings: bool = True
) -> dict[str, TopicFound | None]:
    """Those of these topics that are there; None for one that may not be looked at."""
    cluster = cluster_of(log)
    if cluster is not None:
        return await cluster.found(names, settings=settings)
    known = await log.topics()
    return {
        name: TopicFound(name, known[name].partitions, settings=known[name].settings)
        for name in names
        if name in known
    }


async def read_control(log: Log, naming: Naming) -> ControlTable:
    """The control topic as it is now; empty where there is none yet, or none that may be seen."""
    table = ControlTable()
    place = TopicPartition(naming.control, 0)
    if (await found_in(log, [naming.control], settings=False)).get(naming.control) is None:
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


async def _granted(
    cluster: Cluster,
    facts: ClusterFound | None,
    topics: Mapping[str, TopicFound | None],
    groups: Collection[str],
) -> dict[tuple[Resource, str], Operations | None]:
    """What may be done with each thing of the pipeline, as far as the cluster says."""
    found: dict[tuple[Resource, str], Operations | None] = {
        ("topic", name): frozenset() if topic is None else topic.may
        for name, topic in topics.items()
    }
    for name, may in (await cluster.group_operations(groups)).items():
        found["group", name] = may
    found["cluster", "kafka-cluster"] = facts.may if facts is not None else None
    return found


def _asked_for(acl: Acl, production: bool) -> Acl:
    """Outside of production one can do without looking at settings."""
    if production:
        return acl
    kept = tuple(each for each in acl.operations if each != "describe_configs")
    return msgspec.structs.replace(acl, operations=kept)


def _partitions(number: int) -> str:
    return "1 partition" if number == 1 else f"{number} partitions"
