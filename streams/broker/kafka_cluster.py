"""Answers about a Kafka cluster; see `broker.cluster` for what they promise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its list of names is missing
    ConfigResource,
    ResourceType,
)

from streams.broker.cluster import ClusterFound, Operations, TopicFound
from streams.broker.kafka_admin import KafkaAdmin
from streams.broker.kafka_creating import REQUEST
from streams.broker.kafka_errors import FORBIDDEN, error_of, failure
from streams.broker.kafka_futures import ended, whole
from streams.broker.kafka_options import KafkaOptions
from streams.broker.kafka_producer import KafkaProducer
from streams.clock import Clock
from streams.errors import LogUnavailable


class KafkaCluster:
    """Asks through the admin client of a log."""

    def __init__(self, options: KafkaOptions, admin: KafkaAdmin, clock: Clock) -> None:
        self._options = options
        self._admin = admin
        self._clock = clock

    @property
    def bootstrap(self) -> str:
        return self._options.bootstrap

    @property
    def replication(self) -> int:
        return self._options.replication

    async def reach(self, seconds: float) -> None:
        """A broker has answered."""
        await self._admin.reach(seconds)

    async def facts(self) -> ClusterFound:
        """The cluster, with the settings of one broker where they may be read."""
        future = self._admin.client.describe_cluster(
            include_authorized_operations=True, request_timeout=REQUEST
        )
        answer = (await whole({"": future}, "describing the cluster"))[""]
        nodes = sorted(node.id for node in answer.nodes)
        settings: Mapping[str, str] = {}
        if nodes:
            resource = ConfigResource(ResourceType.BROKER, str(nodes[0]))
            settings = (await self._settings([resource]))[str(nodes[0])]
        return ClusterFound(
            str(answer.cluster_id), len(nodes), settings, _operations(answer.authorized_operations)
        )

    async def found(
        self, names: Collection[str], *, settings: bool = True
    ) -> dict[str, TopicFound | None]:
        """Those that are there; None for one that may not be looked at."""
        if not names:
            return {}
        futures = self._admin.client.describe_topics(
            TopicCollection(sorted(names)),
            include_authorized_operations=True,
            request_timeout=REQUEST,
        )
        answers: dict[str, Any] = {}
        for name, outcome in (await ended(futures)).items():
            if isinstance(outcome, KafkaException):
                code = error_of(outcome).code()
                if code in FORBIDDEN:
                    answers[name] = None
                elif code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise failure(error_of(outcome), f"topic {name}") from outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                answers[name] = outcome
        there = [name for name, answer in answers.items() if answer is not None]
        told: Mapping[str, Mapping[str, str]] = {}
        if settings:
            told = await self._settings([ConfigResource(ResourceType.TOPIC, n) for n in there])
        return {
            name: None if answer is None else _topic(name, answer, told.get(name, {}))
            for name, answer in answers.items()
        }

    async def _settings(self, resources: list[Any]) -> dict[str, Mapping[str, str]]:
        """In force for each; nothing for those that may not be read or are gone."""
        if not resources:
            return {}
        futures = self._admin.client.describe_configs(resources, request_timeout=REQUEST)
        found: dict[str, Mapping[str, str]] = {}
        for resource, outcome in (await ended(futures)).items():
            if isinstance(outcome, KafkaException):
                code = error_of(outcome).code()
                if code not in FORBIDDEN and code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise failure(error_of(outcome), f"settings of {resource.name}") from outcome
                found[resource.name] = {}
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                found[resource.name] = {
                    key: entry.value for key, entry in outcome.items() if entry.value is not None
                }
        return found

    async def group_operations(self, groups: Collection[str]) -> dict[str, Operations | None]:
        """What may be done with each; nothing is known where there was never a group."""
        if not groups or not await self._admin.has_groups():
            return dict.fromkeys(groups)
        until = self._clock.monotonic() + REQUEST
        while True:
            try:
                return await self._group_operations(groups)
            except LogUnavailable:  # a coordinator that is still loading says so
                if self._clock.monotonic() > until:
                    raise
            await self._clock.sleep(0.1)

    async def _group_operations(self, groups: Collection[str]) -> dict[str, Operations | None]:
        futures = self._admin.client.describe_consumer_groups(
            sorted(groups), include_authorized_operations=True, request_timeout=REQUEST
        )
        found: dict[str, Operations | None] = {}
        for group, outcome in (await ended(futures)).items():
            if isinstance(outcome, KafkaException):
                code = error_of(outcome).code()
                if code in FORBIDDEN:
                    found[group] = frozenset()
                elif code == KafkaError.GROUP_ID_NOT_FOUND:
                    found[group] = None
                else:
                    raise failure(error_of(outcome), f"group {group}") from outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                found[group] = _operations(outcome.authorized_operations)
        return found

    async def require_transactions(self, transactional_id: str) -> None:
        """A transaction could be begun under this id."""
        producer = KafkaProducer(self._options, self._admin, self._clock, transactional_id)
        try:
            await producer.open()
        finally:
            await producer.close()


def _topic(name: str, answer: Any, settings: Mapping[str, str]) -> TopicFound:
    partitions = answer.partitions
    return TopicFound(
        name,
        len(partitions),
        min((len(each.replicas) for each in partitions), default=0),
        str(answer.topic_id),
        settings,
        _operations(answer.authorized_operations),
    )


def _operations(found: Any) -> Operations | None:
    """None from a broker that does not say (before 2.3)."""
    return None if found is None else frozenset(each.name.lower() for each in found)
