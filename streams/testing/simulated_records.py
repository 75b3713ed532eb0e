"""Topics, partitions and their records in memory: offsets, the last stable offset, upkeep.

A partition is a list whose index is the offset: a record, or None for whatever gives nothing to
read (the marker that ends a transaction, a record that was aborted, compacted or trimmed away).
Everything below `stable` is decided; an open transaction holds it back at its first record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from streams.broker.local_records import check_metadata, missing
from streams.broker.port import (
    Committed,
    Outgoing,
    Record,
    TopicPartition,
    TopicSpec,
    Watermarks,
    partition_for,
)
from streams.errors import LogError, TopicError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


class Watcher(Protocol):
    """Whoever wants to hear of news in a partition."""

    def wake(self) -> None:
        """There may be something to read."""


class Partition:
    """One partition; see the module for what its list means."""

    __slots__ = (
        "_clean", "_newest", "deleted", "low", "open", "place", "slots", "stable", "stamp",
        "watchers",
    )  # fmt: skip

    def __init__(self, place: TopicPartition) -> None:
        self.place = place
        self.slots: list[Record | None] = []
        self.low = 0
        self.stable = 0
        self.stamp = 0
        self.deleted = False
        self.open: dict[int, int] = {}
        """Open transaction → its first offset here; the oldest comes first."""
        self.watchers: dict[Watcher, None] = {}
        self._clean = 0
        self._newest: dict[bytes, int] = {}

    @property
    def high(self) -> int:
        return len(self.slots)

    @property
    def watermarks(self) -> Watermarks:
        return Watermarks(self.low, len(self.slots))

    def append(self, one: Outgoing, now: int, transaction: int) -> Record:
        """The record at its offset. Times never fall, as readers are promised."""
        stamp = self.stamp = max(now, self.stamp)
        offset = len(self.slots)
        record = Record(*self.place, offset, stamp, one.key, one.value, one.headers)
        self.slots.append(record)
        if transaction:
            self.open.setdefault(transaction, offset)
        return record

    def end(self, transaction: int, aborted: Sequence[Record] = ()) -> None:
        """The transaction is decided: its marker takes an offset, aborted records show nothing."""
        for record in aborted:
            self.slots[record.offset] = None
        if self.open.pop(transaction, None) is not None:
            self.slots.append(None)

    def settle(self) -> bool:
        """`stable` stands where it has to; True if that is further on than before."""
        if self.deleted:
            return False
        stable = next(iter(self.open.values())) if self.open else len(self.slots)
        moved = stable > self.stable
        self.stable = stable
        return moved

    def delete(self) -> None:
        """Nothing of it can be read any more."""
        self.deleted, self.stable = True, 0

    def read(self, position: int, limit: int, hidden: int = 0) -> tuple[list[Record], int]:
        """Up to `limit` records from `position`, and the offset to go on from. The newest `hidden`
        offsets are not seen yet."""
        end = self.stable if not hidden else min(self.stable, len(self.slots) - hidden)
        position = max(position, self.low)
        found: list[Record] = []
        while position < end and len(found) < limit:
            upto = min(end, position + limit - len(found))
            found += [one for one in self.slots[position:upto] if one is not None]
            position = upto
        return found, position

    def first_since(self, time: int) -> int:
        """The first offset whose record is of that time or later; the end if there is none."""
        for offset in range(self.low, len(self.slots)):
            record = self.slots[offset]
            if record is not None and record.timestamp >= time:
                return offset
        return len(self.slots)

    def trim(self, before: int) -> bool:
        """Nothing below `before` is given any more; True if that took something away."""
        before = min(before, len(self.slots))
        if before <= self.low:
            return False
        self.slots[self.low : before] = [None] * (before - self.low)
        self.low = before
        return True

    def expire(self, before: int) -> bool:
        """Records older than `before` (ms) are gone; True if there were such. What is not decided
        yet stays."""
        for offset in range(self.low, self.stable):
            record = self.slots[offset]
            if record is not None and record.timestamp >= before:
                return self.trim(offset)
        return self.trim(self.stable)

    def compact(self, tombstones_before: int) -> int:
        """Of each key only the newest record is left; tombstones older than `tombstones_before`
        (ms) are gone too. How many records went."""
        slots, newest, removed = self.slots, self._newest, 0
        for offset in range(max(self._clean, self.low), self.stable):
            record = slots[offset]
            if record is None or record.key is None:
                continue
            older = newest.get(record.key)
            if older is not None and slots[older] is not None:
                slots[older] = None
                removed += 1
            newest[record.key] = offset
        self._clean = self.stable
        for key, offset in list(newest.items()):
            record = slots[offset]
            if record is None:
                del newest[key]
            elif record.value is None and record.timestamp < tombstones_before:
                slots[offset] = None
                del newest[key]
                removed += 1
        return removed


class Topic(NamedTuple):
    """A topic and its partitions."""

    spec: TopicSpec
    partitions: tuple[Partition, ...]


class Target(NamedTuple):
    """A record to append and where it goes."""

    partition: Partition
    record: Outgoing


class Topics:
    """All topics of a broker."""

    def __init__(self, record_limit: int) -> None:
        self.by_name: dict[str, Topic] = {}
        self._record_limit = record_limit

    def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """All exist; the names of those that are new."""
        for spec in specs:
            self._check_spec(spec)
        new = [spec for spec in specs if spec.name not in self.by_name]
        for spec in new:
            places = [TopicPartition(spec.name, number) for number in range(spec.partitions)]
            self.by_name[spec.name] = Topic(spec, tuple(Partition(place) for place in places))
        return [spec.name for spec in new]

    def delete(self, names: Iterable[str]) -> None:
        """They are gone."""
        for name in names:
            topic = self.by_name.pop(name, None)
            for partition in topic.partitions if topic is not None else ():
                partition.delete()

    def partition(self, place: TopicPartition) -> Partition:
        """The partition; `TopicError` if there is no such."""
        topic = self.by_name.get(place[0])
        if topic is None or not 0 <= place[1] < len(topic.partitions):
            raise missing(TopicPartition(*place))
        return topic.partitions[place[1]]

    def width(self, name: str) -> int:
        """How many partitions the topic has; `TopicError` if it is not there."""
        topic = self.by_name.get(name)
        if topic is None:
            raise TopicError(f"there is no topic {name}", help="`streams apply` creates topics.")
        return len(topic.partitions)

    def targets(self, records: Sequence[Outgoing]) -> list[Target]:
        """Where each record goes; raises, before anything is sent, if one cannot go there."""
        found = []
        for one in records:
            partition = one.partition
            if partition is None:
                width = self.width(one.topic)
                partition = partition_for(one.key, width) if one.key is not None else 0
            self._check_record(one)
            found.append(Target(self.partition(TopicPartition(one.topic, partition)), one))
        return found

    def refused(self, targets: Sequence[Target]) -> set[Partition]:
        """Partitions whose records the log refuses when they have been sent: it is the log that
        minds whether what goes to a compacted topic has a key."""
        return {
            partition
            for partition, one in targets
            if one.key is None and self.by_name[one.topic].spec.cleanup == "compact"
        }

    def check_positions(self, positions: Mapping[TopicPartition, Committed]) -> None:
        """Refuses what Kafka would refuse to keep as a position."""
        for place, position in positions.items():
            self.partition(place)
            check_metadata(place, position)

    def _check_spec(self, spec: TopicSpec) -> None:
        if not _NAME.fullmatch(spec.name) or spec.name in {".", ".."} or spec.partitions < 1:
            raise TopicError(
                f"{spec.name!r} with {spec.partitions} partitions cannot be a topic",
                help="Names have 1 to 249 of A-Z a-z 0-9 . _ - and at least one partition.",
            )
        known = self.by_name.get(spec.name)
        if known is not None and len(known.partitions) != spec.partitions:
            raise TopicError(
                f"{spec.name} has {len(known.partitions)} partitions, not {spec.partitions}",
                help="The number of partitions is fixed; delete the topic or keep the number.",
            )

    def _check_record(self, one: Outgoing) -> None:
        size = len(one.key or b"") + len(one.value or b"")
        for name, value in one.headers:
            size += len(name) if value is None else len(name) + len(value)
        if size > self._record_limit:
            raise LogError(
                f"a record of {size:,} bytes for {one.topic} is over the limit of"
                f" {self._record_limit:,}",
                code="K026",
                help="Put large data into the blob store and send its reference.",
            )
