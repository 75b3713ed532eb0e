"""What people do to a pipeline's topics behind its back: for trials of a cluster, never for work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its list of names is missing
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from streams.broker.kafka_creating import REQUEST
from streams.broker.kafka_futures import whole
from streams.broker.kafka_options import KafkaOptions


class Meddler:
    """Somebody with rights on the cluster who is no part of the pipeline."""

    def __init__(self, bootstrap: str, options: Mapping[str, Any]) -> None:
        self._client: Any = AdminClient(KafkaOptions.of(bootstrap, options).admin())

    async def widen(self, topics: Collection[str], partitions: int) -> None:
        """These topics have so many partitions."""
        asked = [NewPartitions(name, partitions) for name in topics]
        await whole(
            self._client.create_partitions(
                asked, operation_timeout=REQUEST, request_timeout=REQUEST
            ),
            "adding partitions",
        )

    async def set(self, topic: str, **settings: str | None) -> None:
        """The topic has these settings (`_` for `.`); None takes one back."""
        entries = [
            ConfigEntry(
                name.replace("_", "."),
                value,
                incremental_operation=AlterConfigOpType.DELETE
                if value is None
                else AlterConfigOpType.SET,
            )
            for name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        futures = self._client.incremental_alter_configs([resource], request_timeout=REQUEST)
        await whole(futures, f"settings of {topic}")
