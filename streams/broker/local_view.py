"""What one process knows of the embedded log without asking SQLite, and how it hears of news.

The edges of all partitions and the versions of all groups are kept here. Own transactions move
them at once; other processes' are noticed by SQLite's `data_version`, a counter in shared memory
that costs a few microseconds to read, so there is no notify file to miss or to leave behind.
"""

from __future__ import annotations

import asyncio
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple, TypeVar

from streams.broker.local_memory import MemoryRecords
from streams.broker.local_records import Appended, fetch, first_since, missing
from streams.broker.local_store import Store
from streams.broker.port import Record, TopicPartition
from streams.clock import Clock

T = TypeVar("T")
Key = TopicPartition | str  # a partition, or the name of a group

# How often a waiting process looks for commits of other processes, while there were some within
# the last second and when there were none.
LOOK_BUSY = 0.005
LOOK_IDLE = 0.02
LOOKS_UNTIL_IDLE = 200

TAIL_BYTES = 32 * 1024 * 1024
TAIL_RECORDS = 4_000

_offset = attrgetter("offset")


class Edge(NamedTuple):
    """A partition's id, the first offset still there, and the next one to be given."""

    id: int
    low: int
    end: int


class Tail:
    """The newest records of each partition that this process wrote, so that its own readers need
    no SQL. Only an unbroken run up to the end is kept; what others wrote in between ends it."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[int, list[Record]]] = {}
        self._ends: dict[int, int] = {}
        self._bytes = 0

    def add(self, appended: Appended) -> None:
        pid, end, records = appended
        self._bytes += sum(len(r.value or b"") + len(r.key or b"") + 200 for r in records)
        if self._bytes > TAIL_BYTES:
            self.clear()  # slow readers go to the file; the next transactions fill it anew
        first = records[0].offset
        start, run = self._runs.get(pid, (first, []))
        if run and self._ends[pid] != first:
            start, run = first, []
        run.extend(records)
        if len(run) > 2 * TAIL_RECORDS:
            dropped = run[:-TAIL_RECORDS]
            del run[:-TAIL_RECORDS]
            self._bytes -= sum(len(r.value or b"") + len(r.key or b"") + 200 for r in dropped)
            start = run[0].offset
        self._runs[pid] = (start, run)
        self._ends[pid] = end

    def clear(self) -> None:
        self._runs.clear()
        self._bytes = 0

    def get(self, pid: int, offset: int, limit: int) -> list[Record] | None:
        """Up to `limit` records from `offset`; None if it has none there."""
        start, run = self._runs.get(pid, (0, []))
        if not run or offset < start or offset >= self._ends[pid]:
            return None
        first = bisect_left(run, offset, key=_offset)
        # Nothing but a gap up to the run's end: what others wrote behind it is in the file.
        return run[first : first + limit] or None


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Bell:
    """Wakes those who wait for a partition or a group."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[asyncio.Future[None], frozenset[Key]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ring(self, keys: Collection[Key]) -> None:
        """Whoever waits for one of these goes on."""
        for future, wanted in self._waiting.items():
            if not wanted.isdisjoint(keys):
                _wake(future)

    async def wait(self, keys: frozenset[Key], seconds: float) -> None:
        """Returns when it rings for one of `keys`, at the latest after `seconds`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        timer.add_done_callback(lambda _: _wake(future))
        self._waiting[future] = keys
        try:
            await future
        finally:
            del self._waiting[future]
            timer.cancel()


class LogView:
    """The log as this process last saw it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.bell = Bell(clock)
        self.tail = Tail()
        self.memory = MemoryRecords() if store.path is None else None
        """Where the records are, if they are not in a file."""
        self.edges: dict[TopicPartition, Edge] = {}
        self.groups: dict[str, int] = {}
        self._seen = -1
        self._looking: asyncio.TimerHandle | None = None
        self._quiet = 0
        self.refresh()

    def edge(self, place: TopicPartition) -> Edge:
        """The partition's edge; `TopicError` if there is no such partition."""
        edge = self.edges.get(place)
        if edge is None:
            raise missing(place)
        return edge

    def refresh(self, *, force: bool = False) -> None:
        """Knows all that is committed, and rings for what changed."""
        seen = self.store.changed_elsewhere()
        if seen == self._seen and not force:
            return
        self._seen = seen
        edges = {
            TopicPartition(topic, partition): Edge(pid, low, end)
            for pid, topic, partition, low, end in self.store.read(
                "SELECT id, topic, partition, low, next FROM partitions"
            )
        }
        groups: dict[str, int] = dict(self.store.read("SELECT name, version FROM groups"))
        changed: set[Key] = {
            place for place, edge in edges.items() if self.edges.get(place) != edge
        }
        changed |= self.edges.keys() - edges.keys()
        changed |= {name for name, version in groups.items() if self.groups.get(name) != version}
        self.edges, self.groups = edges, groups
        if changed:
            self._quiet = 0
            self.bell.ring(changed)

    def appended(self, added: Mapping[TopicPartition, Appended]) -> None:
        """Own records are visible to own readers at once."""
        kept = self.tail if self.memory is None else self.memory
        for place, one in added.items():
            kept.add(one)
            known = self.edges.get(place)
            if known is None or known.id != one.id:
                self.refresh(force=True)
            elif known.end < one.end:
                self.edges[place] = known._replace(end=one.end)
        self.bell.ring(added.keys())

    async def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs a transaction that may change topics or groups, and knows what came of it."""
        result = await self.store.write(work)
        self.refresh(force=True)
        return result

    def read(self, place: TopicPartition, offset: int, limit: int) -> tuple[list[Record], int]:
        """Records from `offset`, and the offset to go on from: behind gaps if there are some."""
        edge = self.edges.get(place)
        if edge is None:
            return [], offset
        start = max(offset, edge.low)
        if start >= edge.end:
            return [], start
        if self.memory is not None:
            records = self.memory.get(edge.id, start, edge.end, limit)
        else:
            found = self.tail.get(edge.id, start, limit)
            span = (start, edge.end)
            records = fetch(self.store, place, edge.id, span, limit) if found is None else found
        if not records:
            return [], edge.end
        after = records[-1].offset + 1
        return records, after

    def first_since(self, place: TopicPartition, time: int) -> int:
        """The first offset that was appended then or later; the end if there is none."""
        edge = self.edge(place)
        if self.memory is not None:
            return self.memory.first_since(edge.id, time, edge.end)
        return first_since(self.store, edge.id, (edge.low, edge.end), time)

    async def wait(self, keys: Iterable[Key], seconds: float) -> None:
        """Returns when one of these changed, in this process or another, or after `seconds`."""
        if self._looking is None and self.store.path is not None:
            self._look_later()
        await self.bell.wait(frozenset(keys), seconds)

    def close(self) -> None:
        """Looks no more."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look_later(self) -> None:
        # Real time even under a manual clock: other processes do not live in virtual time.
        pause = LOOK_BUSY if self._quiet < LOOKS_UNTIL_IDLE else LOOK_IDLE
        self._looking = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        self._looking = None
        if not self.bell or self.store.closed:
            return  # the next one who waits looks again
        self._quiet += 1
        self.refresh()
        self._look_later()


class Cursors:
    """Positions in partitions, read fairly: each poll begins with another partition, and none
    takes more than its share while others have something."""

    def __init__(self, view: LogView) -> None:
        self._view = view
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self._turn = 0

    def active(self) -> list[TopicPartition]:
        """The partitions to read, in their order."""
        return [place for place in self.positions if place not in self.paused]

    def collect(self, limit: int) -> list[Record]:
        """Up to `limit` records; the positions stand behind them."""
        edges = self._view.edges
        ready = [
            place
            for place in self.active()
            if (e := edges.get(place)) and self.positions[place] < e.end
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
            for place in ready:
                wanted = min(share, limit - len(records))
                if wanted == 0:
                    break
                found, position = self._view.read(place, self.positions[place], wanted)
                self.positions[place] = position
                records += found
                if len(found) == wanted:
                    more.append(place)
            ready = more
        return records
