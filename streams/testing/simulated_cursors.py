"""Positions in the partitions of a simulated log, and waiting until there is something to read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from streams.broker.port import Record, TopicPartition
from streams.testing.simulated_broker import Broker
from streams.testing.simulated_process import Process
from streams.testing.simulated_recording import Run
from streams.testing.simulated_records import Partition


class Cursor:
    """A position in a partition."""

    __slots__ = ("partition", "paused", "position", "run")

    def __init__(self, partition: Partition, position: int, run: Run | None) -> None:
        self.partition = partition
        self.position = position
        self.paused = False
        self.run = run


class Cursors:
    """Positions in partitions, read fairly: each poll begins with another partition, and none
    takes more than its share while others have something. Waits until there is something."""

    def __init__(self, broker: Broker, process: Process, *, lagging: bool) -> None:
        self.by_place: dict[TopicPartition, Cursor] = {}
        self._broker = broker
        self._process = process
        self._lagging = lagging
        self._turn = broker.random.randrange(1 << 16)
        self._waiting: asyncio.Future[None] | None = None
        self._missed = False
        self.passed_gaps = False
        """Whether the last `collect` moved on without finding a record."""

    def put(self, partition: Partition, position: int, run: Run | None) -> None:
        """Reads this partition too, from there."""
        self.by_place[partition.place] = Cursor(partition, position, run)
        partition.watchers[self] = None

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Reads these no more."""
        for place in list(places):
            cursor = self.by_place.pop(place, None)
            if cursor is not None:
                cursor.partition.watchers.pop(self, None)

    def wake(self) -> None:
        """Whoever waits looks again."""
        waiting = self._waiting
        if waiting is None:
            self._missed = True
        elif not waiting.done():
            waiting.set_result(None)

    def look(self) -> None:
        """What happens from here on ends the next `wait`."""
        self._missed = False

    async def wait(self, seconds: float) -> None:
        """Returns when there was news since `look`, at the latest after so many seconds."""
        if self._missed:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        # A plain one, whatever the loop makes: nobody puts it into a set.
        waiting = self._waiting = asyncio.Future(loop=loop)
        timer = loop.call_later(seconds, self.wake)
        try:
            await waiting
        finally:
            timer.cancel()
            self._waiting = None

    def collect(self, limit: int) -> list[Record]:
        """Up to `limit` records; the positions stand behind them, or behind gaps."""
        self.passed_gaps = False
        ready = [
            cursor
            for cursor in self.by_place.values()
            if cursor.position < cursor.partition.stable and not cursor.paused
        ]
        if not ready:
            return []
        self._turn += 1
        first = self._turn % len(ready)
        ready = ready[first:] + ready[:first]
        records: list[Record] = []
        while ready and len(records) < limit:
            share = max(1, (limit - len(records)) // len(ready))
            more = []
            for cursor in ready:
                wanted = min(share, limit - len(records))
                if wanted == 0:
                    break
                found = self._take(cursor, wanted)
                records += found
                if len(found) == wanted:
                    more.append(cursor)
            ready = more
        return records

    def _take(self, cursor: Cursor, limit: int) -> list[Record]:
        hidden = 0
        lag = self._broker.faults.lag
        if lag is not None and self._lagging:
            hidden = lag(self._process.name, cursor.partition.place)
        found, position = cursor.partition.read(cursor.position, limit, hidden)
        if not found:
            self.passed_gaps |= position > cursor.position
        elif cursor.run is not None:
            cursor.run.chunks.append(found)
        cursor.position = position
        return found
