"""Which transaction each offset belongs to: the heads of a partition's batches, as brokers keep them.

No client library tells the producer of a record, or shows the markers that end transactions. So the
few requests that do are spoken here, by hand and without encryption: for tests of a cluster, never
for work. What a batch holds is not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import msgspec

from streams.broker.port import TopicPartition
from streams.errors import LogUnavailable

FETCH, METADATA = 1, 3
FETCH_VERSION, METADATA_VERSION = 4, 1
MOST_BYTES = 4 << 20
PATIENCE = 10.0
"""Seconds for one answer."""
HEAD = struct.Struct(">qiibihiqqqhii")
"""Base offset, length, leader epoch, magic, checksum, attributes, last offset, first and highest
time, producer, its epoch, its sequence, number of records."""
MARKER = struct.Struct(">hh")
TRANSACTIONAL, CONTROL = 0x10, 0x20

Kind = Literal["plain", "transactional", "commit", "abort"]


class Batch(msgspec.Struct, frozen=True):
    """Offsets that one producer wrote at once, or the marker that ends its transaction."""

    first: int
    last: int
    timestamp: int
    """The broker's clock, ms."""
    producer: int
    epoch: int
    kind: Kind


class BatchReader:
    """Follows partitions from offset to offset; knows who leads them."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = [_address(each) for each in bootstrap.split(",")]
        self._positions: dict[TopicPartition, int] = {}
        self._leaders: dict[TopicPartition, tuple[str, int]] = {}
        self._connections: dict[
            tuple[str, int], tuple[asyncio.StreamReader, asyncio.StreamWriter]
        ] = {}
        self._number = 0

    def follow(self, places: Mapping[TopicPartition, int]) -> None:
        """Reads these too, each from its offset on."""
        self._positions.update(places)

    def position(self, place: TopicPartition) -> int:
        """The offset behind the last batch that was given."""
        return self._positions[place]

    async def poll(self) -> dict[TopicPartition, list[Batch]]:
        """What came since, uncommitted or not. Raises `LogUnavailable` where that is nothing; the
        next call goes on."""
        found: dict[TopicPartition, list[Batch]] = {}
        missing = {place.topic for place in self._positions if place not in self._leaders}
        try:
            if missing:
                await self._look_up(missing)
            by_leader: dict[tuple[str, int], list[TopicPartition]] = {}
            for place in self._positions:
                if place in self._leaders:
                    by_leader.setdefault(self._leaders[place], []).append(place)
            for leader, places in by_leader.items():
                await self._fetch(leader, places, found)
        except (OSError, EOFError, TimeoutError, struct.error) as error:
            await self.close()
            self._leaders.clear()
            # What other leaders gave before is given: the positions are past it.
            if not found:
                raise LogUnavailable(f"reading batches: {type(error).__name__}: {error}") from error
        return found

    async def leaders(self, topics: Collection[str]) -> dict[TopicPartition, tuple[str, int]]:
        """Host and port of who leads each of their partitions now. Raises `LogUnavailable`."""
        try:
            await self._look_up(topics)
        except (OSError, EOFError, struct.error) as error:
            await self.close()
            raise LogUnavailable(f"asking for leaders: {error}") from error
        return {place: at for place, at in self._leaders.items() if place.topic in topics}

    async def close(self) -> None:
        """No connection is open."""
        connections, self._connections = self._connections, {}
        for _, writer in connections.values():
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    # -- requests ---------------------------------------------------------------------------

    async def _look_up(self, topics: Collection[str]) -> None:
        """Leaders of these topics, asked of the first broker that answers."""
        body = struct.pack(">i", len(topics)) + b"".join(_text(name) for name in sorted(topics))
        for number, address in enumerate(self._bootstrap):
            try:
                answer = await self._ask(address, METADATA, METADATA_VERSION, body)
                break
            except OSError:
                if number == len(self._bootstrap) - 1:
                    raise
        brokers: dict[int, tuple[str, int]] = {}
        for _ in range(answer.int32()):
            broker, host, port = answer.int32(), answer.text(), answer.int32()
            answer.text()
            brokers[broker] = (host, port)
        answer.int32()
        for _ in range(answer.int32()):
            answer.int16()
            topic = answer.text()
            answer.int8()
            for _ in range(answer.int32()):
                answer.int16()
                partition, leader = answer.int32(), answer.int32()
                answer.skip(4 * answer.int32())
                answer.skip(4 * answer.int32())
                if leader in brokers:
                    self._leaders[TopicPartition(topic, partition)] = brokers[leader]

    async def _fetch(
        self,
        leader: tuple[str, int],
        places: list[TopicPartition],
        found: dict[TopicPartition, list[Batch]],
    ) -> None:
        by_topic: dict[str, list[TopicPartition]] = {}
        for place in places:
            by_topic.setdefault(place.topic, []).append(place)
        parts = [struct.pack(">iiiibi", -1, 0, 1, MOST_BYTES, 0, len(by_topic))]
        for topic, some in by_topic.items():
            parts += [_text(topic), struct.pack(">i", len(some))]
            parts += [
                struct.pack(">iqi", place.partition, self._positions[place], MOST_BYTES)
                for place in some
            ]
        answer = await self._ask(leader, FETCH, FETCH_VERSION, b"".join(parts))
        answer.int32()
        for _ in range(answer.int32()):
            topic = answer.text()
            for _ in range(answer.int32()):
                place = TopicPartition(topic, answer.int32())
                error = answer.int16()
                answer.skip(16)
                answer.skip(16 * max(0, answer.int32()))
                data = answer.blob()
                if error:
                    self._leaders.pop(place, None)
                    continue
                batches = [b for b in read_batches(data) if b.last >= self._positions[place]]
                if batches:
                    found[place] = batches
                    self._positions[place] = batches[-1].last + 1

    async def _ask(self, address: tuple[str, int], key: int, version: int, body: bytes) -> _Answer:
        async with asyncio.timeout(PATIENCE):
            if address not in self._connections:
                self._connections[address] = await asyncio.open_connection(*address)
            reader, writer = self._connections[address]
            self._number += 1
            request = struct.pack(">hhi", key, version, self._number) + _text("chaos") + body
            writer.write(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            answer = _Answer(await reader.readexactly(size))
        answer.skip(4)
        return answer


def read_batches(data: bytes) -> Iterator[Batch]:
    """The heads of the whole batches in what a broker sent; the last one may be cut off."""
    at = 0
    while at + HEAD.size <= len(data):
        head = HEAD.unpack_from(data, at)
        first, length, _, magic, _, attributes, delta, _, highest, producer, epoch, _, _ = head
        end = at + 12 + length
        if end > len(data):
            return
        if magic == 2:
            kind: Kind = "transactional" if attributes & TRANSACTIONAL else "plain"
            if attributes & CONTROL:
                kind = "commit" if _marker(data[at + HEAD.size : end]) else "abort"
            yield Batch(first, first + delta, highest, producer, epoch, kind)
        at = end


def _marker(record: bytes) -> bool:
    """Whether the only record of a control batch says that its transaction is committed."""
    at = _past_number(record, 0) + 1
    for _ in range(3):  # time, offset, length of the key
        at = _past_number(record, at)
    _, kind = MARKER.unpack_from(record, at)
    return bool(kind == 1)


def _past_number(data: bytes, at: int) -> int:
    """Behind a number of variable length."""
    while data[at] & 0x80:
        at += 1
    return at + 1


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    return host, int(port)


class _Answer:
    """A broker's answer, read from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def skip(self, size: int) -> None:
        self._at += size

    def int8(self) -> int:
        return self._number(">b")

    def int16(self) -> int:
        return self._number(">h")

    def int32(self) -> int:
        return self._number(">i")

    def text(self) -> str:
        size = self.int16()
        return self._take(size).decode() if size > 0 else ""

    def blob(self) -> bytes:
        size = self.int32()
        return self._take(size) if size > 0 else b""

    def _number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]
