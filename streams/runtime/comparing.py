"""What a pipeline wants of a log against what is there: findings, as data. Asks nobody, changes
nothing.

A topic that differs is told and never altered (KT-3): it may be others' decision, and some changes
move data. What would lose work is refused; what only costs is a warning with its effect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from streams.broker.cluster import ClusterFound, TopicFound
from streams.broker.port import TopicSpec
from streams.runtime.access import Acl
from streams.runtime.topics import EFFECTS, SAFE_IN_SYNC, SAFE_REPLICAS

EXPLANATIONS: dict[str, str] = {
    "K080": """\
**Topics are missing.** A pipeline's topics are made by `streams apply`, or by a worker that is
allowed to; in production mode (`kafka.production`) only by `apply`. Brokers are never left to make
them by themselves: those would have the wrong settings.
Next: `streams apply FILE --kafka HOST:PORT`, or have them made as `streams plan -o json` lists
them.""",
    "K081": """\
**A topic has the wrong number of partitions.** All topics of a pipeline have as many as its layout
says, since a job's records stand in the partition of its id. With fewer, records would have no
place; before the first `apply`, every topic that is there already must have just as many.
Next: set `partitions` to what is there, or mend the topic with the command of the message.""",
    "K082": """\
**A topic could lose what was acknowledged.** In production mode (`kafka.production: true`) every
topic needs three replicas, two of them in sync (`min.insync.replicas`), and no unclean leader
election. Fewer replicas than have to be in sync are refused always: nothing could be written.
Next: the command of the message, or leave production mode out for a trial.""",
    "K083": """\
**A topic has other settings than the pipeline wants.** Nothing was changed: it may be somebody's
decision, or the cluster does not allow the setting. The message says what it does.
Next: if it is not meant so, the command of the message.""",
    "K085": """\
**The brokers forget positions too soon.** Kafka drops a group's positions when it has had no
member for `offsets.retention.minutes`, 7 days by default. A pipeline that stands still for longer
would not know where it was, and stops (K015) instead of guessing.
Next: have the brokers set to 43200 (30 days) or more.""",
    "K086": """\
**Partitions were added to a topic.** A pipeline's number of partitions is fixed by its layout:
those added are not used, except in the intake, where foreign producers write to them; what comes
there is read and handed on.
Next: none. To use more partitions begin a new pipeline, and move its jobs when they end.""",
    "K089": """\
**The plan was not applied.** In production mode (`kafka.production`) a worker changes nothing by
its start: which plan new jobs begin with is decided by `streams apply` alone.
Next: `streams apply FILE --kafka HOST:PORT`, then start the worker.""",
}

OFFSETS_KEPT = 30 * 24 * 60
"""Minutes that positions should outlive their group (protocol, correction 10)."""
OFFSETS_SETTING = "offsets.retention.minutes"


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be. Refused: no worker starts with it."""

    code: str
    severity: Literal["refused", "warning"]
    subject: str
    message: str
    next: str = ""


class Terms(msgspec.Struct, frozen=True):
    """What a log is judged by."""

    laid_out: bool = False
    """The pipeline stands: its number of partitions is fixed."""
    production: bool = False
    compared: Collection[str] | None = None
    """Settings that mean something there; None for all of them."""
    address: str = ""
    """Of the cluster, for the commands that are recommended."""


def not_allowed(acl: Acl) -> Finding:
    """An ACL that is missing; nothing of the pipeline can be begun without it."""
    return Finding(
        "K062",
        "refused",
        acl.name,
        f"not allowed: {acl}",
        "grant what is missing; `streams plan FILE -o json` lists every ACL needed",
    )


def missing_topics(
    wanted: Iterable[TopicSpec], found: Mapping[str, TopicFound | None]
) -> list[TopicSpec]:
    """Those that are not there."""
    return [spec for spec in wanted if spec.name not in found]


def judge(
    wanted: Iterable[TopicSpec],
    sources: Iterable[str],
    found: Mapping[str, TopicFound | None],
    cluster: ClusterFound | None,
    terms: Terms,
) -> list[Finding]:
    """All findings about the topics that are there, those of others that are read, and the cluster.
    A missing topic of our own is none: it can be made."""
    findings: list[Finding] = []
    for spec in wanted:
        topic = found.get(spec.name)
        if topic is not None:
            findings += _width(spec, topic, terms)
            findings += _safety(topic, terms)
            findings += _drift(spec, topic, terms)
    findings += [
        Finding(
            "K080",
            "warning",
            name,
            f"topic {name}, which the pipeline reads, is not there; it belongs to others",
            "have it made, or correct `source` in the topology",
        )
        for name in sources
        if name not in found
    ]
    if cluster is not None:
        findings += _positions(cluster)
    return findings


def _width(spec: TopicSpec, topic: TopicFound, terms: Terms) -> Iterator[Finding]:
    has, wants = topic.partitions, spec.partitions
    if has == wants:
        return
    if has > wants and terms.laid_out:
        yield Finding(
            "K086",
            "warning",
            topic.name,
            f"topic {topic.name} has {has} partitions, the pipeline {wants}: the others stay unused",
        )
        return
    if has < wants:
        mend = f"kafka-topics.sh{_at(terms)} --alter --topic {topic.name} --partitions {wants}"
    elif wants == 1:
        mend = f"kafka-topics.sh{_at(terms)} --delete --topic {topic.name}"
    else:
        mend = f"set partitions: {has} if all topics of the pipeline are to have so many"
    yield Finding(
        "K081",
        "refused",
        topic.name,
        f"topic {topic.name} has {has} partitions, the pipeline needs {wants}",
        mend,
    )


def _safety(topic: TopicFound, terms: Terms) -> Iterator[Finding]:
    in_sync = int(topic.settings.get("min.insync.replicas", "0"))
    if topic.replicas and in_sync > topic.replicas:
        yield Finding(
            "K082",
            "refused",
            topic.name,
            f"topic {topic.name} has {topic.replicas} replicas, and min.insync.replicas is"
            f" {in_sync}: nothing can be written",
            _set(topic.name, "min.insync.replicas", str(topic.replicas), terms),
        )
    if not terms.production:
        return
    if topic.replicas < SAFE_REPLICAS:
        yield Finding(
            "K082",
            "refused",
            topic.name,
            f"topic {topic.name} has {topic.replicas} of {SAFE_REPLICAS} replicas",
            f"kafka-reassign-partitions.sh{_at(terms)} with {SAFE_REPLICAS} replicas each, or leave"
            " kafka.production out",
        )
    if topic.settings and in_sync < SAFE_IN_SYNC:
        yield Finding(
            "K082",
            "refused",
            topic.name,
            f"topic {topic.name} has min.insync.replicas {in_sync}:"
            f" {EFFECTS['min.insync.replicas']}",
            _set(topic.name, "min.insync.replicas", str(SAFE_IN_SYNC), terms),
        )
    if topic.settings.get("unclean.leader.election.enable") == "true":
        yield Finding(
            "K082",
            "refused",
            topic.name,
            f"topic {topic.name} allows unclean leader election:"
            f" {EFFECTS['unclean.leader.election.enable']}",
            _set(topic.name, "unclean.leader.election.enable", "false", terms),
        )


def _drift(spec: TopicSpec, topic: TopicFound, terms: Terms) -> Iterator[Finding]:
    for key, value in spec.settings.items():
        has = topic.settings.get(key)
        if has is None or _equal(has, value):
            continue
        if terms.compared is not None and key not in terms.compared:
            continue
        if key == "min.insync.replicas" and (terms.production or int(has) >= int(value)):
            continue  # refused above, or safer than was asked for
        yield Finding(
            "K083",
            "warning",
            topic.name,
            f"topic {topic.name} has {key} {has}, not {value}: {EFFECTS[key]}",
            _set(topic.name, key, value, terms),
        )
    if 0 < topic.replicas < spec.replicas and not terms.production:
        yield Finding(
            "K083",
            "warning",
            topic.name,
            f"topic {topic.name} has {topic.replicas} of {spec.replicas} replicas:"
            " what was acknowledged may be lost with the brokers that have it",
            f"kafka-reassign-partitions.sh{_at(terms)} with {spec.replicas} replicas each",
        )


def _positions(cluster: ClusterFound) -> Iterator[Finding]:
    kept = cluster.settings.get(OFFSETS_SETTING)
    if kept is not None and int(kept) < OFFSETS_KEPT:
        yield Finding(
            "K085",
            "warning",
            "brokers",
            f"the brokers keep positions for {int(kept) / 1440:g} days after a group's last member"
            " has gone; a pipeline that stands still for longer stops for good",
            f"have {OFFSETS_SETTING}={OFFSETS_KEPT} set on the brokers",
        )


def _equal(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


def _at(terms: Terms) -> str:
    return f" --bootstrap-server {terms.address}" if terms.address else ""


def _set(topic: str, key: str, value: str, terms: Terms) -> str:
    """The command that sets it, where there are such commands."""
    if not terms.address:
        return ""
    return (
        f"kafka-configs.sh{_at(terms)} --alter --entity-type topics --entity-name {topic}"
        f" --add-config {key}={value}"
    )
