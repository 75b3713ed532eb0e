"""A Kafka cluster as the log: exactly-once on its groups and transactions.

Keeps every promise of `broker.port`. Each client of the library has a thread of its own
(`kafka_calls`); nothing here ever blocks the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from streams.broker.aio_reader import AioReader
from streams.broker.kafka_admin import KafkaAdmin
from streams.broker.kafka_cluster import KafkaCluster
from streams.broker.kafka_consumer import KafkaConsumer
from streams.broker.kafka_groups import KafkaGroups
from streams.broker.kafka_options import KafkaOptions
from streams.broker.kafka_producer import KafkaProducer
from streams.broker.kafka_publisher import KafkaPublisher
from streams.broker.kafka_reader import KafkaReader
from streams.broker.port import Committed, Outgoing, TopicPartition, TopicSpec, Watermarks
from streams.clock import Clock

Client = KafkaConsumer | KafkaProducer | KafkaReader | AioReader
C = TypeVar("C", KafkaConsumer, KafkaProducer, KafkaReader, AioReader)


class KafkaLog:
    """One process's access to a cluster. Belongs to one event loop."""

    def __init__(self, options: KafkaOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._admin = KafkaAdmin(options, clock)
        self.cluster = KafkaCluster(options, self._admin, clock)
        self._groups = KafkaGroups(options, self._admin, clock)
        self._publisher = KafkaPublisher(options, self._admin, clock)
        self._clients: list[Client] = []
        self._closed = False

    @classmethod
    def open(
        cls, bootstrap: str, *, clock: Clock, options: Mapping[str, Any] | None = None
    ) -> KafkaLog:
        """The cluster at `bootstrap` (`host:port`, several with commas). `options` are the client
        library's, see `kafka_options`; a wrong one raises `LogError`. Whether the cluster can be
        reached is not known yet."""
        return cls(KafkaOptions.of(bootstrap, options or {}), clock)

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """All exist; existing ones keep their settings."""
        await self._admin.create_topics(specs)

    async def topics(self) -> dict[str, TopicSpec]:
        """All topics but Kafka's own, by name."""
        return await self._admin.topics()

    async def widths(self, names: Collection[str]) -> Mapping[str, int]:
        """Partitions of these topics, Kafka's own among them. Raises `TopicError` for a missing
        one."""
        return await self._admin.widths(names, patience=0.0)

    async def delete_topics(self, names: Collection[str]) -> None:
        """They are gone soon; unknown names are no error."""
        await self._admin.delete_topics(names)

    async def watermarks(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Watermarks]:
        """First and next offset of each, uncommitted records included."""
        return await self._admin.watermarks(places)

    async def offsets_at(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The first offset of each at or after a time."""
        return await self._admin.offsets_at(times)

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        """Nothing below these offsets is given any more."""
        await self._admin.trim(before)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """All stand in the log. Several are one transaction; one alone needs none."""
        await self._publisher.publish(records)

    async def positions(self, group: str) -> dict[TopicPartition, Committed]:
        """What the group has committed."""
        return await self._groups.positions(group)

    async def set_positions(
        self, group: str, positions: Mapping[TopicPartition, Committed]
    ) -> None:
        """A group without members stands at these positions."""
        await self._groups.set_positions(group, positions)

    async def members(self, group: str) -> list[str]:
        """Who is in the group now, sorted."""
        return await self._groups.members(group)

    async def delete_groups(self, groups: Collection[str]) -> None:
        """They are gone with all their positions; one that has members is refused."""
        await self._groups.delete(groups)

    def consumer(self, group: str, member: str) -> KafkaConsumer:
        """A member to be; it joins when it polls."""
        return self._kept(KafkaConsumer(self._options, self._admin, self._clock, group, member))

    async def producer(self, transactional_id: str) -> KafkaProducer:
        """The only one that may commit under this id."""
        producer = KafkaProducer(self._options, self._admin, self._clock, transactional_id)
        await producer.open()
        return self._kept(producer)

    def reader(self) -> KafkaReader | AioReader:
        """Reads outside any group."""
        if self._options.by_aiokafka:
            return self._kept(AioReader(self._options, self._admin, self._clock))
        return self._kept(KafkaReader(self._options, self._admin, self._clock))

    def uncommitted_reader(self) -> KafkaReader:
        """Reads whatever was written, decided or not: for who judges the log, never for work."""
        return self._kept(KafkaReader(self._options, self._admin, self._clock, uncommitted=True))

    async def close(self) -> None:
        """All members have left, all clients are closed."""
        if self._closed:
            return
        self._closed = True
        await asyncio.gather(*(client.close() for client in self._clients))
        await self._publisher.close()
        await self._admin.close()

    def _kept(self, client: C) -> C:
        self._clients = [*(c for c in self._clients if not c.closed), client]
        return client
