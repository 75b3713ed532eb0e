"""Everything that is written to a pipeline's topics while a trial runs, decided or not.

Followed from the beginning, so that nothing is missed that is trimmed or compacted later. Records
come from the client library, the batches they came in from requests of our own (`kafka_batches`):
only those tell the producers, and the markers that end their transactions.
"""

from __future__ import annotations

import asyncio
import contextlib

from streams.broker.kafka import KafkaLog
from streams.broker.kafka_batches import Batch, BatchReader
from streams.broker.kafka_internals import POSITIONS, TRANSACTIONS
from streams.broker.port import Reader, Record, TopicPartition
from streams.clock import Clock
from streams.errors import LogError, LogUnavailable, TopicError
from streams.testing.history import Read
from streams.topology.plan import Naming

MOST = 20_000
PAUSE = 0.05
LOOK_FOR_TOPICS = 1.0
CATCHING_UP = 30.0
INTERNALS = (TRANSACTIONS, POSITIONS)


class Capture:
    """Follows the topics of one pipeline until it is stopped."""

    def __init__(self, log: KafkaLog, naming: Naming, batches: BatchReader, clock: Clock) -> None:
        self.records: dict[TopicPartition, list[Record]] = {}
        self.batches: dict[TopicPartition, list[Batch]] = {}
        self.committed: dict[TopicPartition, list[Record]] = {}
        """What a reader of committed records was given meanwhile."""
        self.seen_at: list[tuple[float, Record]] = []
        """Committed records of the ledger and of `done`, and when they could be read."""
        self._log = log
        self._naming = naming
        self._clock = clock
        self._heads = batches
        self._all = log.uncommitted_reader()
        self._visible = log.reader()
        self._begins: dict[TopicPartition, int] = {}
        """Every place that is followed, and from which offset on."""
        self._widths: dict[str, int] = {}
        self._began = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Whatever is written from now on is seen."""
        await self._find_topics()
        self._began = True
        self._tasks = [
            asyncio.create_task(work, name="chaos.capture")
            for work in (self._follow(), self._follow_heads(), self._follow_visible())
        ]

    async def stop(self) -> None:
        """Has seen everything that stands in the log; follows no longer."""
        try:
            await self._caught_up()
        finally:
            await self.close()

    async def close(self) -> None:
        """Follows no longer, wherever it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._all.close()
        await self._visible.close()
        await self._heads.close()

    @property
    def followed(self) -> frozenset[TopicPartition]:
        """Every partition that is captured."""
        return frozenset(self._begins)

    def width(self, topic: str) -> int:
        """Partitions that the topic had when it was first seen: the pipeline's layout."""
        return self._widths.get(topic, 0)

    def reads(self) -> list[Read]:
        """What the reader of committed records was given, in its order."""
        return [
            Read(
                who="the trial's reader",
                place=place,
                generation=0,
                offsets=tuple(record.offset for record in records),
            )
            for place, records in self.committed.items()
        ]

    # -- following --------------------------------------------------------------------------

    async def _follow(self) -> None:
        looked = self._clock.monotonic()
        while True:
            if self._clock.monotonic() - looked > LOOK_FOR_TOPICS:
                looked = self._clock.monotonic()
                with contextlib.suppress(LogError):
                    await self._find_topics()
            self._keep_assigned(self._all, set(self._begins))
            for record in await _given(self._all, self._clock):
                self.records.setdefault(record.place, []).append(record)

    async def _follow_heads(self) -> None:
        while True:
            try:
                found = await self._heads.poll()
            except LogUnavailable:
                found = {}
            for place, batches in found.items():
                self.batches.setdefault(place, []).extend(batches)
            if not found:
                await self._clock.sleep(PAUSE)

    async def _follow_visible(self) -> None:
        timed = {self._naming.ledger, self._naming.done}
        while True:
            self._keep_assigned(self._visible, self._own())
            for record in await _given(self._visible, self._clock):
                self.committed.setdefault(record.place, []).append(record)
                if record.topic in timed:
                    self.seen_at.append((self._clock.monotonic(), record))

    async def _find_topics(self) -> None:
        """New topics of the pipeline are followed from their first offset on; Kafka's own from
        where they stand when they are first seen, unless they are new, too."""
        prefix = f"{self._naming.prefix}."
        own = {
            name: spec.partitions
            for name, spec in (await self._log.topics()).items()
            if name.startswith(prefix)
        }
        self._widths = own | self._widths
        places = {
            TopicPartition(name, partition)
            for name, width in own.items()
            for partition in range(width)
        }
        for name in INTERNALS:
            with contextlib.suppress(TopicError):
                width = (await self._log.widths([name]))[name]
                places |= {TopicPartition(name, partition) for partition in range(width)}
        new = places - self._begins.keys()
        if not new:
            return
        marks = await self._log.watermarks(new)
        begins = {
            place: marks[place].high
            if place.topic in INTERNALS and not self._began
            else marks[place].low
            for place in new
        }
        self._begins |= begins
        self._heads.follow(begins)

    def _own(self) -> set[TopicPartition]:
        return {place for place in self._begins if place.topic not in INTERNALS}

    def _keep_assigned(self, reader: Reader, places: set[TopicPartition]) -> None:
        """The reader reads all of these: those it does not know from their beginning on."""
        positions = {place: _position(reader, place) for place in places}
        if any(at is None for at in positions.values()):
            reader.assign({p: self._begins[p] if at is None else at for p, at in positions.items()})

    async def _caught_up(self) -> None:
        """All three have come to the end that the log has now."""
        await self._find_topics()
        marks = await self._log.watermarks(self._begins)
        own = self._own()
        until = self._clock.monotonic() + CATCHING_UP
        while self._clock.monotonic() < until:
            behind = [
                place
                for place, mark in marks.items()
                if (_position(self._all, place) or 0) < mark.high
                or self._heads.position(place) < mark.high
                or (place in own and (_position(self._visible, place) or 0) < mark.high)
            ]
            if not behind:
                return
            await self._clock.sleep(PAUSE)
        raise LogUnavailable(f"not read to the end within {CATCHING_UP:.0f} s: {behind[:5]}")


def _position(reader: Reader, place: TopicPartition) -> int | None:
    """Where the reader is; None for what it does not read yet."""
    try:
        return reader.position(place)
    except LogError:
        return None


async def _given(reader: Reader, clock: Clock) -> list[Record]:
    """What a reader gives, once the log can be reached."""
    try:
        return await reader.poll(MOST, 0.2)
    except LogError:
        await clock.sleep(0.2)
        return []
