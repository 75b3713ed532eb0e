"""What `doctor` looks at on a Kafka cluster: whether it answers, what it can do, what it allows."""

from __future__ import annotations

import msgspec

from streams.broker.cluster import Cluster, ClusterFound
from streams.client import Client
from streams.clock import Clock
from streams.errors import LogError
from streams.inspection.pipelines import PipelineInfo
from streams.runtime.access import PUBLISHERS
from streams.runtime.comparing import Finding
from streams.runtime.outlook import look
from streams.settings import Settings


class Seen(msgspec.Struct, frozen=True):
    """One thing that was looked at; `findings` is empty where it is right."""

    check: str
    detail: str
    findings: tuple[Finding, ...] = ()


async def of_cluster(cluster: Cluster, clock: Clock) -> list[Seen]:
    """The cluster itself. Raises `LogError` if it does not answer."""
    facts = await cluster.facts()
    said = f"{facts.brokers} broker{'s' if facts.brokers != 1 else ''}, cluster {facts.id}"
    name = f"{PUBLISHERS}doctor.{clock.new_id()}"
    return [
        Seen("kafka", f"{said}{_features(facts)}"),
        await _transactions(cluster, "transactions", name),
    ]


def _features(facts: ClusterFound) -> str:
    """What its settings say it can do; nothing where they may not be read."""
    version = facts.settings.get("inter.broker.protocol.version")
    protocols = facts.settings.get("group.coordinator.rebalance.protocols")
    told = f", protocol {version}" if version else ""
    return told + (f", groups: {protocols.replace(',', ', ')}" if protocols else "")


async def of_pipeline(
    client: Client, cluster: Cluster, info: PipelineInfo, settings: Settings
) -> list[Seen]:
    """The topics and ACLs of a pipeline, for a worker with these settings."""
    production = settings.kafka.production
    outlook = await look(
        client.log, info.naming, info.plan, info.partitions, production=production, role="worker"
    )
    name = f"pipeline {info.name}"
    of_brokers = [each for each in outlook.findings if each.subject == "brokers"]
    findings = [each for each in outlook.findings if each not in of_brokers]
    findings += [
        Finding("K080", "refused", spec.name, f"topic {spec.name} is missing", outlook.next_step)
        for spec in outlook.missing
    ]
    return [
        Seen(f"{name} on Kafka", f"{len(outlook.wanted)} topics", tuple(findings)),
        Seen("brokers", "settings", tuple(of_brokers)),
        await _transactions(cluster, f"{name} on Kafka", f"{info.naming.keeper_group}.doctor"),
    ]


async def _transactions(cluster: Cluster, check: str, transactional_id: str) -> Seen:
    try:
        await cluster.require_transactions(transactional_id)
    except LogError as error:
        what = error.message
        if error.code == "K062":
            what = f"not allowed: write on transactional id {transactional_id}"
        finding = Finding(error.code, "refused", transactional_id, what, error.help)
        return Seen(check, "", (finding,))
    return Seen(check, "transactions can be begun")
