"""The embedded log: topics, groups and transactions in one SQLite file, or in memory.

Keeps every promise of `broker.port` for the processes of one machine. A transaction is gathered
by its producer and written in one SQLite transaction, so it is there whole or not at all, and
nothing is ever visible that could still be undone. In memory everything runs on one event loop
without threads; with a `ManualClock` the order of events is always the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from streams.broker import local_groups, local_records
from streams.broker.local_clients import LocalConsumer, LocalProducer, LocalReader, beat
from streams.broker.local_errors import aborted
from streams.broker.local_groups import Seat
from streams.broker.local_records import POSITIONS, Appended
from streams.broker.local_store import Store, Synchronous
from streams.broker.local_upkeep import sweep, upkeep
from streams.broker.local_view import LogView
from streams.broker.port import Committed, Outgoing, TopicPartition, TopicSpec, Watermarks
from streams.clock import Clock
from streams.errors import LogUnavailable

SESSION_MS = 6_000
POLL_INTERVAL_MS = 10_000
TOMBSTONES_MS = 24 * 3_600_000


class LocalLog:
    """One process's access to an embedded log. Belongs to one event loop; open the file again for
    another loop or process."""

    def __init__(self, view: LogView, session_ms: int, poll_interval_ms: int, gap: int) -> None:
        self._view = view
        self._store = view.store
        self._clock = view.clock
        self._session_ms = session_ms
        self._poll_interval_ms = poll_interval_ms
        self._gap = gap
        self._consumers: list[LocalConsumer] = []
        self._pulse: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        clock: Clock,
        synchronous: Synchronous = "NORMAL",
        offset_gaps: bool = False,
        session_ms: int = SESSION_MS,
        poll_interval_ms: int = POLL_INTERVAL_MS,
    ) -> LocalLog:
        """The log in `path`, made if it is not there; None is a new one in memory.

        `NORMAL` loses nothing when a process dies; `FULL` neither when the machine does, at the
        price of a disk sync a commit. `offset_gaps` leaves an offset unused after each commit, as
        Kafka's markers do, to keep code honest. A member is dead `session_ms` after its process
        stopped, or `poll_interval_ms` after its last poll.
        """
        if path is None:
            # Without other processes only polling shows life.
            session_ms = poll_interval_ms
        view = LogView(Store(path, synchronous), clock)
        return cls(view, session_ms, poll_interval_ms, int(offset_gaps))

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """All exist; an existing one keeps its settings."""

        def work(connection: sqlite3.Connection) -> None:
            local_records.create(connection, specs)
            local_groups.topics_changed(connection)

        known = await self.topics()
        if any(known.get(spec.name) is None or known[spec.name] != spec for spec in specs):
            await self._view.change(work)

    async def topics(self) -> dict[str, TopicSpec]:
        """All topics by name."""
        return local_records.described(self._store.read("SELECT * FROM topics ORDER BY name"))

    async def delete_topics(self, names: Collection[str]) -> None:
        """They are gone, with what groups had committed in them; unknown names are no error."""

        def work(connection: sqlite3.Connection) -> None:
            local_records.delete(connection, names)
            local_groups.topics_changed(connection)

        await self._view.change(work)
        await sweep(self._view)

    async def watermarks(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Watermarks]:
        """First and next offset of each."""
        self._view.refresh()
        edges = {place: self._view.edge(place) for place in places}
        return {place: Watermarks(edge.low, edge.end) for place, edge in edges.items()}

    async def offsets_at(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The first offset of each at or after a time."""
        self._view.refresh()
        return {place: self._view.first_since(place, time) for place, time in times.items()}

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        """Nothing below these offsets is given any more, and its room is free."""
        await self._view.change(lambda file: local_records.raise_low(file, before))
        await sweep(self._view)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """All stand in the log, or none if it raises `TransactionAborted`."""

        def work(connection: sqlite3.Connection) -> dict[TopicPartition, Appended]:
            now, rows = self._clock.now(), self._view.memory is None
            return local_records.append(connection, records, now, self._gap, rows=rows)

        try:
            self._view.appended(await self._store.write(work))
        except LogUnavailable as error:
            raise aborted(error) from error

    async def positions(self, group: str) -> dict[TopicPartition, Committed]:
        """What the group has committed."""
        return local_records.positions_of(self._store.read(POSITIONS, (group,)))

    async def set_positions(
        self, group: str, positions: Mapping[TopicPartition, Committed]
    ) -> None:
        """A group without members stands at these positions."""
        now = self._clock.now()
        self._view.refresh()
        for place in positions:
            self._view.edge(place)

        def work(connection: sqlite3.Connection) -> None:
            local_groups.check_empty(connection, group, now)
            local_records.set_positions(connection, group, positions)

        await self._view.change(work)

    async def members(self, group: str) -> list[str]:
        """Who is in the group now, sorted."""
        rows = self._store.read(
            "SELECT member FROM members WHERE grp = ? AND abs(? - beat) <= session ORDER BY member",
            (group, self._clock.now()),
        )
        return [member for (member,) in rows]

    def consumer(self, group: str, member: str) -> LocalConsumer:
        """A member to be; it joins when it subscribes."""
        seat = Seat(group, member, 0)
        consumer = LocalConsumer(self._view, seat, self._session_ms, self._poll_interval_ms / 1000)
        self._consumers = [*(c for c in self._consumers if not c.closed), consumer]
        if self._store.path is not None and self._pulse is None:
            self._pulse = asyncio.ensure_future(self._keep_alive())
        return consumer

    async def producer(self, transactional_id: str) -> LocalProducer:
        """The only one that may commit under this id."""
        (epoch,) = await self._store.write(
            lambda file: file.execute(
                "INSERT INTO producers VALUES (?, 1)"
                " ON CONFLICT(id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (transactional_id,),
            ).fetchone()
        )
        return LocalProducer(self._view, transactional_id, epoch, self._gap)

    def reader(self) -> LocalReader:
        """Reads outside any group."""
        return LocalReader(self._view)

    async def maintain(self, *, tombstones_ms: int = TOMBSTONES_MS) -> int:
        """Some of what retention and compaction allow is deleted, in a bounded piece of work for
        idle time; 0 says that nothing was left to do. Tombstones stay for `tombstones_ms`."""
        return await upkeep(self._view, tombstones_ms)

    async def close(self) -> None:
        """All members have left, the file is let go."""
        if self._store.closed:
            return
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.wait([self._pulse])
        for consumer in self._consumers:
            await consumer.close()
        self._view.close()
        await self._store.close()

    async def _keep_alive(self) -> None:
        # A member whose stage keeps the loop's tasks busy polls late, but it lives.
        while True:
            await self._clock.sleep(self._session_ms / 3000)
            seats = [seat for c in self._consumers if (seat := c.due_seat()) is not None]
            if seats:
                with contextlib.suppress(LogUnavailable):
                    await beat(self._view, seats)
