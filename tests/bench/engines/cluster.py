"""The cluster as the comparison sees it: topics made, fed, counted under read_committed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker.port import partition_for

PARTITIONS = 4
SECONDS = 20
QUIET = {"log.connection.close": False, "log_level": 3}


class Cluster:
    """Clients of one bootstrap address."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
        self._marks: Consumer | None = None

    def close(self) -> None:
        """Talks to nobody any more: a client outliving its broker is loud."""
        if self._marks is not None:
            self._marks.close()
            self._marks = None
        del self._admin

    def create(
        self, names: Iterable[str], *, compact: bool = False, partitions: int = PARTITIONS
    ) -> None:
        config = {"message.timestamp.type": "LogAppendTime"}
        if compact:
            config["cleanup.policy"] = "compact"
        made = [NewTopic(name, partitions, 1, config=config) for name in names]
        for future in self._admin.create_topics(made).values():
            future.result(SECONDS)

    def drop(self, run: str) -> None:
        """Everything of this run is gone soon."""
        names = self._admin.list_topics(timeout=SECONDS).topics
        ours = [name for name in names if name.startswith((f"{run}-", f"{run}."))]
        if ours:
            for future in self._admin.delete_topics(ours).values():
                future.exception(SECONDS)

    def partitions(self, topic: str) -> list[TopicPartition]:
        found = self._admin.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        return [TopicPartition(topic, number) for number in sorted(found)]

    def high(self, places: Sequence[TopicPartition]) -> int:
        """Offsets given so far, control records included: no less than the records."""
        if self._marks is None:
            self._marks = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "x", **QUIET})
        return sum(self._end(self._marks, place) for place in places)

    @staticmethod
    def _end(marks: Consumer, place: TopicPartition) -> int:
        """Leaders of a topic that was just made may not be known yet."""
        until = time.monotonic() + SECONDS
        while True:
            try:
                return int(marks.get_watermark_offsets(place, SECONDS)[1])
            except KafkaException:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def trim(self, topic: str, keep: int) -> None:
        """Only about so many of the newest records of the topic are left."""
        each = keep // PARTITIONS
        places = self.partitions(topic)
        ends = [self.high([place]) - each for place in places]
        wanted = [
            TopicPartition(topic, place.partition, end)
            for place, end in zip(places, ends, strict=True)
            if end > 0
        ]
        if wanted:
            for future in self._admin.delete_records(wanted).values():
                future.result(SECONDS)

    @staticmethod
    def place(key: str) -> int:
        """The partition of everything that is about this key."""
        return partition_for(key.encode(), PARTITIONS)

    def producer(self, **more: object) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "queue.buffering.max.messages": 1_000_000,
                **QUIET,
                **more,
            }
        )

    def reader(self, places: Iterable[TopicPartition], **more: object) -> Consumer:
        """Reads committed records from the beginning."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "bench",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "enable.partition.eof": True,
                **QUIET,
                **more,
            }
        )
        consumer.assign([TopicPartition(place.topic, place.partition, 0) for place in places])
        return consumer

    def records(self, topic: str) -> Iterator[Message]:
        """Every committed record that is there now."""
        places = self.partitions(topic)
        left = {place.partition for place in places}
        consumer = self.reader(places)
        try:
            while left:
                for message in consumer.consume(5000, 0.2):
                    if message.error() is None:
                        yield message
                    else:
                        # The end of a partition; another error would never end, so it is loud.
                        assert message.error().name() == "_PARTITION_EOF", message.error()
                        left.discard(message.partition())
        finally:
            consumer.close()

    def feed(
        self,
        topic: str,
        numbers: Iterable[int],
        record: Callable[[int, float], tuple[bytes, bytes | None, object]],
    ) -> None:
        """All of these documents stand in the topic."""
        producer = self.producer(**{"linger.ms": 20})
        for number in numbers:
            key, value, headers = record(number, time.time())
            producer.produce(topic, value, key, headers=headers)
            if number % 1000 == 0:
                producer.poll(0)
        assert producer.flush(60) == 0

    def first_append(self, topic: str) -> int:
        """When the earliest record of the topic was appended, in ms; 0 if none is there yet."""
        places = self.partitions(topic)
        consumer = self.reader(places)
        stamps: dict[int, int] = {}
        while len(stamps) < len(places):
            for message in consumer.consume(1, 0.2):
                stamp = 0 if message.error() is not None else message.timestamp()[1]
                stamps.setdefault(message.partition(), stamp)
                consumer.pause([TopicPartition(topic, message.partition())])
        consumer.close()
        return min((stamp for stamp in stamps.values() if stamp), default=0)


def counted(messages: Iterable[Message]) -> tuple[Counter[bytes], int]:
    """Records by key, and when the last one was appended (ms)."""
    found: Counter[bytes] = Counter()
    last = 0
    for message in messages:
        found[message.key()] += 1
        last = max(last, message.timestamp()[1])
    return found, last
