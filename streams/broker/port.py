"""The log as a port: what the runtime may rely on, whoever keeps the records.

Two adapters keep these promises: `broker.local` (embedded, SQLite) and, later, `broker.kafka`.
`streams.testing.conformance.broker` is the list of promises as tests; an adapter is right when it
passes them unchanged.

Every method is called from one asyncio loop. A consumer, producer or reader is used by one task
at a time; different ones may be used concurrently. Whatever blocks (disk, network) an adapter
takes off the loop by itself.

What may be relied on
- A record, once visible, stays at its offset; offsets of a partition rise and may have gaps.
- Readers and consumers see committed records only, in offset order, each at most once per position.
- A transaction's records and offsets become visible together or not at all.
- A transaction that carries offsets is refused (`Fenced`) when its membership is no longer that of
  the group's present generation: a zombie changes nothing.
- A partition has one owner per generation; the next owner reads it only after the former one gave
  it up or was declared dead.
- In compacted topics the newest record of each key survives; a null value deletes the key.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

Header = tuple[str, bytes | None]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as it stands in the log. `timestamp` is the log's append time, in ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()

    @property
    def place(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A record to append. Without `partition` the log takes `partition_for(key)`, 0 without key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    partition: int | None = None


class Committed(NamedTuple):
    """A group's position: the next offset to read, and up to 4,000 characters beside it."""

    offset: int
    metadata: str = ""


class Membership(NamedTuple):
    """Proof of who a member was when its partitions were assigned; opaque to the runtime."""

    group: str
    member: str
    generation: int
    token: object = None


class Transaction(msgspec.Struct):
    """What becomes visible together. Offsets need the membership they were read under."""

    records: list[Outgoing] = []
    offsets: dict[TopicPartition, Committed] = {}
    membership: Membership | None = None


class Poll(msgspec.Struct):
    """One answer of a consumer.

    `revoked` and `lost` are to be handled before the next `poll`, which gives the revoked
    partitions up: end or drop the open transaction, forget what was gathered for them. Lost ones
    belong to somebody else already: forget at once. `assigned` holds the stable committed
    position of each new partition, None where the group never committed one.
    """

    records: list[Record] = []
    assigned: dict[TopicPartition, Committed | None] = {}
    revoked: frozenset[TopicPartition] = frozenset()
    lost: frozenset[TopicPartition] = frozenset()
    membership: Membership | None = None


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic to create. `retention_ms` -1 keeps for ever; `replicas` -1 leaves their number to the
    log; `config` is passed to Kafka as it is."""

    name: str
    partitions: int
    cleanup: Literal["delete", "compact"] = "delete"
    retention_ms: int = -1
    config: dict[str, str] = {}
    replicas: int = -1

    @property
    def settings(self) -> dict[str, str]:
        """All its settings in Kafka's words."""
        found = {"cleanup.policy": self.cleanup, **self.config}
        if self.cleanup == "delete":
            found["retention.ms"] = str(self.retention_ms)
        return found


class Watermarks(NamedTuple):
    """First offset still there, and the next one to be given (uncommitted ones included)."""

    low: int
    high: int


class Producer(Protocol):
    """Commits transactions, one at a time, under a stable id: opening it fences its namesake."""

    async def commit(self, transaction: Transaction) -> None:
        """Returns when all of it is visible. Raises `TransactionAborted` (nothing is, try again),
        `OutcomeUnknown` (close this producer, open a new one, re-read), or `Fenced` (stop)."""

    async def close(self) -> None:
        """Gives the id back; never raises."""


class Consumer(Protocol):
    """A member of a group. Positions start where the group committed; a partition without a
    committed offset starts at its low watermark; a committed offset below the low watermark
    raises `OffsetLost` from `poll` for as long as it is so and the partition is not paused."""

    async def subscribe(self, topics: Collection[str]) -> None:
        """Joins the group with these topics, or changes them (which makes a new generation)."""

    async def poll(self, max_records: int, timeout: float) -> Poll:
        """Waits up to `timeout` seconds for the first record or change of ownership. Must be
        called at least every 10 s, else the member is declared dead. Paused partitions give no
        records but keep their position."""

    def pause(self, places: Iterable[TopicPartition]) -> None: ...

    def resume(self, places: Iterable[TopicPartition]) -> None: ...

    def seek(self, place: TopicPartition, offset: int) -> None:
        """The next record of `place` is the first at or after `offset`."""

    async def committed(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed | None]:
        """Stable positions: no transaction that could change them is still open."""

    async def close(self) -> None:
        """Leaves the group; the others need not wait for a time-out. Never raises."""


class Reader(Protocol):
    """Reads partitions by offset, outside any group: tables, tails."""

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Reads exactly these from now on. An offset below the low watermark starts there."""

    async def poll(self, max_records: int, timeout: float) -> list[Record]: ...

    def position(self, place: TopicPartition) -> int:
        """Next offset to read; reaches the high watermark when everything visible was given,
        whatever gaps lie at the end. Compare with `Log.watermarks`: never count records."""

    async def close(self) -> None: ...


class Log(Protocol):
    """A cluster or a file."""

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Afterwards all exist. An existing one with other partitions raises `TopicError`."""

    async def topics(self) -> dict[str, TopicSpec]: ...

    async def delete_topics(self, names: Collection[str]) -> None: ...

    async def watermarks(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Watermarks]: ...

    async def offsets_at(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The first offset of each whose record is of that time (ms) or later; the high watermark
        where there is none."""

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        """Deletes what lies below these offsets; the low watermark moves there."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Appends all of them together, outside any group. For gateways and tools."""

    async def positions(self, group: str) -> dict[TopicPartition, Committed]:
        """What a group has committed, for lag and recovery tools."""

    async def set_positions(
        self, group: str, positions: Mapping[TopicPartition, Committed]
    ) -> None:
        """Sets positions of a group that has no members (new groups, recovery); else `LogError`."""

    async def members(self, group: str) -> list[str]:
        """Who is in the group now."""

    def consumer(self, group: str, member: str) -> Consumer:
        """A new member; `member` is stable over restarts (static membership where there is such)."""

    async def producer(self, transactional_id: str) -> Producer: ...

    def reader(self) -> Reader: ...

    async def close(self) -> None: ...


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key (32 bits, unsigned)."""
    length = len(data)
    h = 0x9747B28C ^ length
    for k in struct.unpack_from(f"<{length >> 2}I", data):
        k = k * 0x5BD1E995 & 0xFFFFFFFF  # noqa: PLW2901 - the word, mixed
        h = (h * 0x5BD1E995 ^ (k ^ k >> 24) * 0x5BD1E995) & 0xFFFFFFFF
    if length & 3:
        h = (h ^ int.from_bytes(data[length & ~3 :], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return h ^ h >> 15


def partition_for(key: bytes, partitions: int) -> int:
    """Kafka's default partition of a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
