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
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its list of names is missing
    AdminClient,
    ConfigResource,
    ConfigSource,
    OffsetSpec,
    ResourceType,
)

from streams.broker.kafka_calls import Hands
from streams.broker.kafka_creating import REQUEST, create_missing
from streams.broker.kafka_errors import ALL_DOWN, FORBIDDEN, HOPELESS, error_of, failure, stuck
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

POSITIONS = "__consumer_offsets"
"""Where a cluster keeps what groups have committed; made when the first group is."""
ONE_LOOK = 0.5
"""Seconds of one look for a coordinator."""
BETWEEN_CLIENTS = 1.0
SETTLING = 5.0
"""Seconds for a partition to get its leader."""
STABLE = 15.0
"""Seconds for a position that an open transaction may still change (R5)."""


class KafkaAdmin:
    """One admin client, shared by all of a log."""

    def __init__(self, options: KafkaOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._hands = Hands("kafka.admin", clock)
        self._trouble: KafkaError | None = None
        """What the library said last of its connections; it says so only while it is polled."""
        try:
            self.client: Any = self._new_client()
        except KafkaException as error:
            raise failure(error_of(error), "the client's options") from error
        self._renewing = threading.Lock()
        self._renewed = clock.monotonic()
        # They may still owe answers; one that goes takes them with it.
        self._former: deque[Any] = deque(maxlen=int(LATEST_ANSWER / BETWEEN_CLIENTS))
        self._widths: dict[str, int] = {}
        self._has_groups = False
        self._pause = threading.Event()
        """Never set: how a thread waits a moment."""

    async def close(self) -> None:
        """Asks no more."""

        def last() -> None:
            self.client = None
            self._former.clear()

        await self._hands.end(last, 5.0)

    def _new_client(self) -> Any:
        config: dict[str, Any] = {**self._options.admin(), "error_cb": self._heard}
        return AdminClient(config)

    def _heard(self, error: KafkaError) -> None:
        # That all of them are down says less than why one of them is.
        if self._trouble is None or error.code() != ALL_DOWN:
            self._trouble = error

    def _last_trouble(self) -> KafkaError | None:
        return self._trouble

    async def reach(self, seconds: float) -> None:
        """A broker has answered; else `LogError` with what stands in the way."""
        self._trouble = None
        future = self.client.describe_cluster(request_timeout=seconds)
        until = self._clock.monotonic() + seconds
        while not future.done() and self._clock.monotonic() < until:
            await self._hands.do(lambda: self.client.poll(0.05))
            trouble = self._last_trouble()
            if trouble is not None and trouble.code() in HOPELESS:
                break
        if future.done() and future.exception() is None:
            return
        doing = f"no answer from {self._options.bootstrap}"
        trouble = self._last_trouble()
        if (
            trouble is None
            and future.done()
            and isinstance(e := future.exception(), KafkaException)
        ):
            trouble = error_of(e)
        found: LogError = LogUnavailable(f"{doing} within {seconds:g} s")
        if trouble is not None:
            found = failure(trouble, doing)
        if isinstance(found, LogUnavailable):
            found.help = "check the address, `security.protocol`, and that the brokers run"
        raise found

    # -- topics -----------------------------------------------------------------------------

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """All exist and are known to the brokers; existing ones keep their settings."""
        if not specs:
            return
        await create_missing(self.client, specs, self._options.replication)
        wanted = {spec.name: spec.partitions for spec in specs}
        found = await self._seen(wanted)
        for name, partitions in wanted.items():
            if found[name] != partitions:
                raise TopicError(
                    f"{name} has {found[name]} partitions, not {partitions}",
                    help="The number of partitions of a pipeline is fixed by its layout.",
                )

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

    async def has_groups(self) -> bool:
        """Whether the cluster has ever had a group. If not, nobody is there to be asked about
        groups; an admin client that waits in vain for one ends the process now and then (an
        assertion in librdkafka 2.16, `eonce->refcnt > 0`)."""
        if self._has_groups:
            return True
        futures = self.client.describe_topics(TopicCollection([POSITIONS]), request_timeout=REQUEST)
        (outcome,) = (await ended(futures)).values()
        if isinstance(outcome, KafkaException):
            code = error_of(outcome).code()
            if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return False
            if code not in FORBIDDEN:
                raise _topic_failure(outcome, POSITIONS)
            # Not for everybody to see. A consumer waits for a coordinator without such danger.
            await self._hands.do(self._wait_for_a_coordinator)
        elif isinstance(outcome, BaseException):
            raise outcome
        elif any(part.leader is None for part in outcome.partitions):
            return False
        self._has_groups = True
        return True

    async def require_groups(self) -> None:
        """Somebody is there to be asked and told about groups, also if there never was one."""
        if not await self.has_groups():
            await self._hands.do(self._wait_for_a_coordinator)
            self._has_groups = True

    def _wait_for_a_coordinator(self) -> None:
        client = Consumer(self._options.reader())
        until = self._clock.monotonic() + REQUEST
        try:
            while True:
                try:
                    client.committed(client_places([TopicPartition(POSITIONS, 0)]), ONE_LOOK)
                    return
                except KafkaException as error:
                    found = error_of(error)
                told = [message.error() for message in client.consume(10, 0)]
                # That this group is not for us is an answer as well: there is somebody to ask.
                if any(each is not None and each.code() in FORBIDDEN for each in (*told, found)):
                    return
                if self._clock.monotonic() > until:
                    raise failure(found, "looking for a coordinator of groups")
        finally:
            client.close()

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

    async def offsets_at(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The first offset of each at or after a time; its end where there is none."""
        marks = await self.watermarks(times)
        asked = {
            client_offsets({place: 0})[0]: OffsetSpec.for_timestamp(time)
            for place, time in times.items()
        }
        if not asked:
            return {}
        found = await whole(
            self.client.list_offsets(
                asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=REQUEST
            ),
            "offsets of a time",
        )
        offsets = {place_of(each): answer.offset for each, answer in found.items()}
        return {place: at if at >= 0 else marks[place].high for place, at in offsets.items()}

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
            self.client = self._new_client()

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
