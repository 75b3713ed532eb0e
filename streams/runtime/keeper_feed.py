"""What comes in to a keeper: its inputs and the rows of its partitions, read beside the decisions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping

from streams.broker.port import Consumer, Membership, Poll, Reader, Record, TopicPartition
from streams.clock import Clock
from streams.engine.frontier import Frontier
from streams.runtime.state import State
from streams.runtime.timekeeping import LogTime
from streams.topology.plan import Naming

MOST_WAITING = 2_000
"""Inputs in memory, above which no more are taken."""
MOST_ROWS_WAITING = 10_000
MOST_IN_MEMORY = 1_000_000
"""Rows at hand and index entries of one partition (about 0.4 kB each), above which no new jobs are
taken into it."""
MOST_BYTES_WAITING = 64 * 1024 * 1024
WAIT = 1.0
"""Seconds a poll lasts when nothing comes."""
BRIEFLY = 0.05
"""The same while new partitions are being restored: then they are read at once."""


class Feed:
    """Queues between the log and the decisions. Sets `wake` when there is something in them."""

    def __init__(
        self,
        naming: Naming,
        clock: Clock,
        time: LogTime,
        states: Mapping[int, State],
        consumer: Consumer,
        reader: Reader,
        wake: asyncio.Event,
    ) -> None:
        self._naming = naming
        self._clock = clock
        self._time = time
        self._states = states
        self._consumer = consumer
        self._reader = reader
        self._wake = wake
        self._handled = asyncio.Event()
        self._owns_some = asyncio.Event()
        self.inputs: deque[Record] = deque()
        self.rows: deque[Record] = deque()
        self.frontiers: dict[TopicPartition, Frontier] = {}
        """How far the keeper is in what it consumes; partitions that are not here give nothing."""
        self.membership: Membership | None = None
        self.changes: deque[Poll] = deque()
        """Changes of ownership that are still to be followed, in order."""

    async def pump_inputs(self) -> None:
        """Hands changes of ownership over in order. The next poll gives up what was revoked, so it
        waits until that has been followed. What was assigned stays paused until it is restored;
        that may take minutes, and who does not poll meanwhile is declared dead."""
        await self._consumer.subscribe([self._naming.intake, self._naming.hold])
        while True:
            full = self._full()
            self._consumer.pause(full)
            self._consumer.resume([place for place in self.frontiers if place not in full])
            poll = await self._consumer.poll(500, BRIEFLY if self.changes else WAIT)
            if poll.assigned or poll.revoked or poll.lost:
                self._consumer.pause(poll.assigned)
                self.changes.append(poll)
                self._handled.clear()
                self._wake.set()
                if poll.revoked or poll.lost or poll.records:
                    await self._handled.wait()
            elif poll.membership is not None and not self.changes:
                self.membership = poll.membership
            for record in poll.records:
                self._take(record)
            if poll.records:
                self._wake.set()

    def _take(self, record: Record) -> None:
        frontier = self.frontiers.get(record.place)
        if frontier is not None and frontier.start(record.offset):
            self.inputs.append(record)
            if record.topic == self._naming.hold:
                # K6: a deadline that begins with this event counts from no earlier time.
                self._time.saw(record.timestamp)

    def _full(self) -> set[TopicPartition]:
        """Partitions to take nothing more from for now. Of a partition whose table is over its
        bound only the intake: what it holds already must be able to end, or it never gets less."""
        crowded = self._crowded
        over = {p for p, state in self._states.items() if state.in_memory > MOST_IN_MEMORY}
        return {
            place
            for place, frontier in self.frontiers.items()
            if crowded
            or frontier.full
            or (place.topic == self._naming.intake and place.partition in over)
        }

    @property
    def _crowded(self) -> bool:
        """More in memory than a few transactions take."""
        waiting = self.inputs
        return len(waiting) > MOST_WAITING or sum(map(size_of, waiting)) > MOST_BYTES_WAITING

    async def pump_rows(self) -> None:
        """Reads the rows of the partitions that are followed."""
        while True:
            await self._owns_some.wait()
            self.rows.extend(await self._reader.poll(2_000, WAIT))
            self._wake.set()
            while len(self.rows) > MOST_ROWS_WAITING:
                await self._clock.sleep(0.01)

    def changes_followed(self) -> None:
        """The consumer may give up what was revoked."""
        self._handled.set()

    def follow(self) -> None:
        """Rows are read of exactly the owned partitions, each from where its table stands."""
        self.rows.clear()
        self._reader.assign(
            {
                TopicPartition(self._naming.ledger, partition): state.table.position
                for partition, state in self._states.items()
            }
        )
        if self._states:
            self._owns_some.set()
        else:
            self._owns_some.clear()

    def has_read_to(self, end: int, partition: int) -> bool:
        """Whether every row below this offset has been handed over and taken."""
        place = TopicPartition(self._naming.ledger, partition)
        return not self.rows and self._reader.position(place) >= end

    def forget(self, places: Collection[TopicPartition]) -> None:
        """Nothing of these is handed over any more."""
        for place in places:
            self.frontiers.pop(place, None)
        # In place: a decision may be under way over the same queue.
        kept = [record for record in self.inputs if record.place not in places]
        self.inputs.clear()
        self.inputs.extend(kept)


def size_of(record: Record) -> int:
    """Bytes of what was sent."""
    return len(record.value or b"")
