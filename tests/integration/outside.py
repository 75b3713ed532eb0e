"""The outside world: programs that know Kafka and nothing of this package."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.processes.site import Site


@asynccontextmanager
async def site_on(kafka: str, folder: Path) -> AsyncIterator[Site]:
    """A namespace of its own on the broker that all tests share."""
    name = f"out-{uuid.uuid4().hex[:8]}"
    made = Site(folder, f"namespace: {name}\nkafka: {{bootstrap: '{kafka}'}}\n")
    try:
        yield made
    finally:
        await made.close()


class Stranger:
    """Plain clients: the partitioner is the library's own (CRC32 of the key)."""

    def __init__(self, kafka: str) -> None:
        self.admin = AdminClient({"bootstrap.servers": kafka})
        self.producer = Producer(
            {"bootstrap.servers": kafka, "linger.ms": 1, "message.max.bytes": 20_000_000}
        )
        self._kafka = kafka
        self.topics: list[str] = []
        self.refused: list[str] = []

    def topic(self, partitions: int, **config: str) -> str:
        """A new topic of nobody's namespace."""
        name = f"foreign.{uuid.uuid4().hex[:10]}"
        new = NewTopic(
            name, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()}
        )
        self.admin.create_topics([new])[name].result(10)
        self.topics.append(name)
        return name

    def send(self, topic: str, value: Any, key: Any = None, headers: Any = (), **more: Any) -> None:
        """The record is under way."""

        def told(error: Any, _message: Any) -> None:
            if error is not None:
                self.refused.append(error.name())

        self.producer.produce(topic, value, key, headers=list(headers), on_delivery=told, **more)
        self.producer.poll(0)

    def flush(self) -> None:
        """All that was sent stands in the log, or was refused."""
        assert self.producer.flush(20) == 0

    def read(self, topic: str, *, patience: float = 10.0) -> list[Any]:
        """All committed messages of the topic, by a consumer of its own."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._kafka,
                "group.id": f"stranger-{uuid.uuid4().hex}",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        try:
            parts = consumer.list_topics(topic, 10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, p, 0) for p in parts])
            found, ended = [], set[int]()
            until = time.monotonic() + patience
            while len(ended) < len(parts) and time.monotonic() < until:
                for message in consumer.consume(500, 0.2):
                    if message.error() is None:
                        found.append(message)
                    else:
                        ended.add(message.partition())
            return found
        finally:
            consumer.close()

    def trim(self, topic: str, partition: int, before: int) -> None:
        """As retention does it."""
        place = TopicPartition(topic, partition, before)
        for future in self.admin.delete_records([place]).values():
            future.result(10)

    def forget_group(self, group: str) -> None:
        """Its positions are gone, as after `offsets.retention.minutes`."""
        until = time.monotonic() + 15
        while True:
            try:
                self.admin.delete_consumer_groups([group])[group].result(10)
            except KafkaException:
                # The seat of a member that has left is kept for its session.
                if time.monotonic() > until:
                    raise
                time.sleep(0.3)
            else:
                return

    def close(self) -> None:
        """Its topics are gone."""
        if self.topics:
            for future in self.admin.delete_topics(self.topics).values():
                future.result(10)


def binary(id: str, data: Any = None, **more: str) -> list[tuple[str, bytes]]:
    """Headers of a CloudEvent in binary mode."""
    attributes = {
        "id": id,
        "source": "/stranger",
        "type": "com.example.made.v1",
        "specversion": "1.0",
    }
    headers = [(f"ce_{name}", text.encode()) for name, text in {**attributes, **more}.items()]
    return [*headers, ("content-type", b"application/json")]


def structured(id: str, data: Any, **more: Any) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers of a CloudEvent in structured mode."""
    event = {
        "id": id,
        "source": "/stranger",
        "type": "com.example.made.v1",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "data": data,
        **more,
    }
    return json.dumps(event).encode(), [("content-type", b"application/cloudevents+json")]


def rows_of(messages: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """What docs/outside.md says of the ledger: the newest row of each key, in order of its version."""
    rows: dict[str, dict[str, Any]] = {}
    for message in messages:
        key = message.key().decode()
        if message.value() is None:
            rows.pop(key, None)
            continue
        row = json.loads(message.value()[1:])
        if key not in rows or version(row) >= version(rows[key]):
            rows[key] = row
    return rows


def version(row: dict[str, Any]) -> tuple[int, int, int, int]:
    """By which of two rows of a key is newer."""
    return row.get("e", 1), row.get("t", 1), row.get("ph", 2), row.get("n", 0)
