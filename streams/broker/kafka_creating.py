"""Topics are made with all their settings, or with as many of them as the brokers allow.

Managed clusters refuse some settings, and say so only by refusing the topic. Then it is made
without any, and each is set by itself: what is refused even so is told, with what it was for, by
whoever compares the topics with what is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its list of names is missing
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams.broker.kafka_errors import error_of, failure
from streams.broker.kafka_futures import ended
from streams.broker.kafka_options import logger
from streams.broker.port import TopicSpec
from streams.errors import LogError

REQUEST = 10.0
"""Seconds that a request may take."""

_EVERY_TOPIC = {"message.timestamp.type": "LogAppendTime"}
"""The port promises append times."""
_REFUSED_SETTINGS = frozenset({KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG})


async def create_missing(client: Any, specs: Sequence[TopicSpec], replication: int) -> None:
    """All exist; existing ones are as they were. `replication` is for those that do not say."""
    settings = {spec.name: {**_EVERY_TOPIC, **spec.settings} for spec in specs}
    refused = await _create(client, specs, replication, settings)
    if not refused:
        return
    bare = [spec for spec in specs if spec.name in refused]
    for error in (await _create(client, bare, replication, {})).values():
        raise error
    for spec in bare:
        for key, value in settings[spec.name].items():
            await _set(client, spec.name, key, value)


async def _create(
    client: Any,
    specs: Sequence[TopicSpec],
    replication: int,
    settings: Mapping[str, Mapping[str, str]],
) -> dict[str, LogError]:
    """Makes them; those that were refused because of their settings."""
    new = [
        NewTopic(
            spec.name,
            num_partitions=spec.partitions,
            replication_factor=replication if spec.replicas == -1 else spec.replicas,
            config=dict(settings.get(spec.name, {})),
        )
        for spec in specs
    ]
    futures = client.create_topics(new, operation_timeout=REQUEST, request_timeout=REQUEST)
    refused: dict[str, LogError] = {}
    for name, outcome in (await ended(futures)).items():
        if isinstance(outcome, KafkaException):
            error = error_of(outcome)
            if error.code() in _REFUSED_SETTINGS:
                refused[name] = failure(error, f"making topic {name}")
            elif error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise failure(error, f"making topic {name}") from outcome
        elif isinstance(outcome, BaseException):
            raise outcome
    return refused


async def _set(client: Any, topic: str, key: str, value: str) -> None:
    """The setting is in force, or it is said that it was refused."""
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    futures = client.incremental_alter_configs([resource], request_timeout=REQUEST)
    for outcome in (await ended(futures)).values():
        if isinstance(outcome, KafkaException):
            why = error_of(outcome).str()
            logger.warning("the brokers refuse %s=%s for topic %s: %s", key, value, topic, why)
        elif isinstance(outcome, BaseException):
            raise outcome
