"""Asking and changing what a cluster has: topics and watermarks.

The admin client answers with futures, so nothing here blocks; those few things that a consumer
needs in the midst of a rebalance can be waited for in its thread (`low_marks`).
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its list of names is missing
    AdminClient,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from streams.broker.kafka_calls import Hands
from streams.broker.kafka_errors import error_of, failure, stuck
from streams.broker.kafka_futures import LATEST_ANSWER, Futures, ended, whole
from streams.broker.kafka_options import KafkaOptions
from streams.broker.kafka_records import (
    client_offsets,
    client_places,
    place_of,
)
from streams.broker.port import Outgoing, TopicPartition, TopicSpec, Watermarks
from streams.clock import Clock
from streams.errors import LogError, LogUnavailable, TopicError

EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]

REQUEST = 10.0
"""Seconds that a request may take."""
BETWEEN_CLIENTS = 1.0
SETTLING = 5.0
"""Seconds for a partition to get its leader."""
STABLE = 15.0
"""Seconds for a position that an open transaction may still change (R5)."""

DAY = 24 * 3_600_000
_COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": str(3_600_000),
    "segment.bytes": str(64 * 1024 * 1024),
    "max.compaction.lag.ms": str(DAY),
    "delete.retention.ms": str(7 * DAY),
}
"""KT-2: the open segment is never compacted; a late reader must still see deletions."""
_EVERY_TOPIC = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(1_048_588)}


class KafkaAdmin:
    """One admin client, shared by all of a log."""

    def __init__(self, options: KafkaOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._hands = Hands("kafka.admin", clock)
        try:
            self.client: Any = AdminClient(options.admin())
        except KafkaException as error:
            raise failure(error_of(error), "the client's options") from error
        self._renewing = threading.Lock()
        self._renewed = clock.monotonic()
        # They may still owe answers; one that goes takes them with it.
        self._former: deque[Any] = deque(maxlen=int(LATEST_ANSWER / BETWEEN_CLIENTS))
        self._widths: dict[str, int] = {}
        self._pause = threading.Event()
        """Never set: how a thread waits a moment."""

    async def close(self) -> None:
        """Asks no more."""

        def last() -> None:
            self.client = None
            self._former.clear()

        await self._hands.end(last, 5.0)

    # -- topics -----------------------------------------------------------------------------

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """All exist and are known to the brokers; existing ones keep their settings."""
        if not specs:
            return
        new = [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions,
                replication_factor=self._options.replication,
                config=self._config_of(spec),
            )
            for spec in specs
        ]
        futures = self.client.create_topics(new, operation_timeout=REQUEST, request_timeout=REQUEST)
        for name, outcome in (await ended(futures)).items():
            if isinstance(outcome, KafkaException):
                if error_of(outcome).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise _topic_failure(outcome, name)
            elif isinstance(outcome, BaseException):
                raise outcome
        wanted = {spec.name: spec.partitions for spec in specs}
        found = await self._seen(wanted)
        for name, partitions in wanted.items():
            if found[name] != partitions:
                raise TopicError(
                    f"{name} has {found[name]} partitions, not {partitions}",
                    help="The number of partitions of a pipeline is fixed by its layout.",
                )

    def _config_of(self, spec: TopicSpec) -> dict[str, str]:
        kept = {"cleanup.policy": "delete", "retention.ms": str(spec.retention_ms)}
        config = {**_EVERY_TOPIC, **(_COMPACTED if spec.cleanup == "compact" else kept)}
        if self._options.replication >= 3:
            config["min.insync.replicas"] = "2"
        return {**config, **spec.config}

    async def _seen(self, names: Collection[str]) -> dict[str, int]:
        """Their partitions, once every broker that is asked knows them."""
        until = self._clock.monotonic() + REQUEST
        while True:
            found = await self._look_up(names)
            if len(found) == len(names):
                return found
            if self._clock.monotonic() > until:
                missing = sorted(set(names) - set(found))
                raise LogUnavailable(f"no leader yet for {', '.join(missing)}")
            await self._clock.sleep(0.05)

    async def _look_up(self, names: Collection[str]) -> dict[str, int]:
        """Partitions of those topics that exist and have leaders."""
        futures = self.client.describe_topics(TopicCollection(list(names)), request_timeout=REQUEST)
        found: dict[str, int] = {}
        for name, outcome in (await ended(futures)).items():
            if isinstance(outcome, KafkaException):
                if error_of(outcome).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise _topic_failure(outcome, name)
            elif isinstance(outcome, BaseException):
                raise outcome
            elif all(part.leader is not None for part in outcome.partitions):
                found[name] = len(outcome.partitions)
        self._widths.update(found)
        return found

    async def widths(self, names: Collection[str], patience: float = 1.0) -> Mapping[str, int]:
        """Partitions of these topics, looked up once. Raises `TopicError` where one is missing:
        the library itself would ask the broker to create it (KT-3)."""
        unknown = [name for name in names if name not in self._widths]
        until = self._clock.monotonic() + patience
        while unknown:
            await self._look_up(unknown)
            unknown = [name for name in unknown if name not in self._widths]
            if unknown and self._clock.monotonic() > until:
                raise TopicError(
                    f"there is no topic {', '.join(sorted(unknown))}",
                    help="`streams apply` creates topics.",
                )
            if unknown:
                await self._clock.sleep(0.05)
        return self._widths

    async def check(self, records: Sequence[Outgoing]) -> None:
        """Each has a topic and a partition to go to; else `TopicError`."""
        widths = self._widths
        for record in records:
            width = widths.get(record.topic)
            if width is None:
                await self.widths([record.topic])
                width = widths[record.topic]
            if record.partition is not None and not 0 <= record.partition < width:
                self.forget([record.topic])
                raise TopicError(f"{record.topic} has {width} partitions, no {record.partition}")

    def forget(self, names: Collection[str]) -> None:
        """These are looked up again when they are needed."""
        for name in names:
            self._widths.pop(name, None)

    def exists_now(self, name: str) -> bool:
        """Whether the brokers know the topic; blocks, for the thread of a consumer."""
        (future,) = self.client.describe_topics(
            TopicCollection([name]), request_timeout=REQUEST
        ).values()
        try:
            future.result(REQUEST + 1)
        except KafkaException as error:
            return error_of(error).code() != KafkaError.UNKNOWN_TOPIC_OR_PART
        except concurrent.futures.TimeoutError:
            pass
        return True

    async def topics(self) -> dict[str, TopicSpec]:
        """All topics but Kafka's own, with the settings that differ from the broker's defaults."""
        listed = await self._listed()
        names = sorted(name for name in listed if not name.startswith("__"))
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self.client.describe_configs(resources, request_timeout=REQUEST)
        found: dict[str, TopicSpec] = {}
        for resource, outcome in (await ended(futures)).items():
            settings: Mapping[str, Any] = {}
            if isinstance(outcome, KafkaException):
                code = error_of(outcome).code()
                if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue  # deleted in between
                if code != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise _topic_failure(outcome, resource.name)
                # Somebody else's topic: that it exists is enough.
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                settings = outcome
            found[resource.name] = _spec(resource.name, listed[resource.name], settings)
        return found

    async def _listed(self) -> dict[str, int]:
        def work() -> dict[str, int]:
            topics = self.client.list_topics(timeout=REQUEST).topics.values()
            return {topic.topic: len(topic.partitions) for topic in topics if topic.error is None}

        try:
            return await self._hands.do(work)
        except KafkaException as error:
            raise failure(error_of(error), "listing topics") from error

    async def delete_topics(self, names: Collection[str]) -> None:
        """They are gone soon; unknown names are no error."""
        if not names:
            return
        self.forget(names)
        futures = self.client.delete_topics(
            list(names), operation_timeout=REQUEST, request_timeout=REQUEST
        )
        for name, outcome in (await ended(futures)).items():
            if isinstance(outcome, KafkaException):
                if error_of(outcome).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise _topic_failure(outcome, name)
            elif isinstance(outcome, BaseException):
                raise outcome

    # -- watermarks -------------------------------------------------------------------------

    async def watermarks(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Watermarks]:
        """First and next offset of each."""
        if not places:
            return {}
        await self.widths({place.topic for place in places})
        until = self._clock.monotonic() + SETTLING
        while True:
            lows = self._edges(places, EARLIEST)
            highs = self._edges(places, LATEST)
            try:
                low, high = await whole(lows, "watermarks"), await whole(highs, "watermarks")
                break
            except LogUnavailable:
                if self._clock.monotonic() > until:
                    raise
            await self._hands.do(self._renew)
            await self._clock.sleep(0.05)
        return {place_of(each): Watermarks(low[each].offset, high[each].offset) for each in high}

    def low_marks(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """First offset of each; blocks, for the thread of a consumer."""
        return self._marks_now(places, EARLIEST)

    def high_marks(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Next offset of each; blocks, for the thread of a consumer."""
        return self._marks_now(places, LATEST)

    def _marks_now(
        self, places: Collection[TopicPartition], spec: Any
    ) -> dict[TopicPartition, int]:
        if not places:
            return {}
        until = self._clock.monotonic() + SETTLING
        while True:
            try:
                return {
                    place_of(each): future.result(REQUEST + 1).offset
                    for each, future in self._edges(places, spec).items()
                }
            except concurrent.futures.TimeoutError:
                raise stuck("kafka.admin") from None
            except KafkaException as error:
                found = failure(error_of(error), "watermarks")
                if not isinstance(found, LogUnavailable) or self._clock.monotonic() > until:
                    raise found from error
            self._renew()
            self._pause.wait(0.05)

    def _renew(self) -> None:
        """Asks through a new client from now on. After a broker's restart the old one would for
        ever ask with the leader epochs it knows, and be refused (librdkafka 2.16)."""
        with self._renewing:
            now = self._clock.monotonic()
            if now - self._renewed < BETWEEN_CLIENTS:
                return
            self._renewed = now
            self._former.append(self.client)
            self.client = AdminClient(self._options.admin())

    def _edges(self, places: Collection[TopicPartition], spec: Any) -> Futures[Any]:
        asked = dict.fromkeys(client_places(places), spec)
        edges: Futures[Any] = self.client.list_offsets(
            asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=REQUEST
        )
        return edges

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        """Nothing below these offsets is given any more; what is above the end is left alone."""
        if not before:
            return
        marks = await self.watermarks(before)
        cut = {
            place: min(offset, marks[place].high)
            for place, offset in before.items()
            if offset > marks[place].low
        }
        if cut:
            futures = self.client.delete_records(
                client_offsets(cut), operation_timeout=REQUEST, request_timeout=REQUEST
            )
            await whole(futures, "trimming")


def _topic_failure(error: KafkaException, name: str) -> LogError:
    return failure(error_of(error), f"topic {name}")


def _spec(name: str, partitions: int, entries: Mapping[str, Any]) -> TopicSpec:
    cleanup = entries["cleanup.policy"].value if "cleanup.policy" in entries else "delete"
    retention = entries["retention.ms"].value if "retention.ms" in entries else "-1"
    compacted = "compact" in (cleanup or "")
    return TopicSpec(
        name,
        partitions,
        "compact" if compacted else "delete",
        -1 if compacted else int(retention or -1),
        {
            key: entry.value
            for key, entry in entries.items()
            if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
            and key not in ("cleanup.policy", "retention.ms")
        },
    )
