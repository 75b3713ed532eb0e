"""Producer, consumer and reader of the embedded log, as the port promises them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Mapping

from streams.broker import local_groups as groups
from streams.broker.local_errors import aborted, misuse
from streams.broker.local_groups import Seat
from streams.broker.local_records import (
    POSITIONS,
    Appended,
    append,
    positions_of,
    set_positions,
)
from streams.broker.local_view import Cursors, Key, LogView
from streams.broker.port import (
    Committed,
    Membership,
    Poll,
    Record,
    TopicPartition,
    Transaction,
)
from streams.errors import Fenced, LogError, LogUnavailable, OffsetLost


class LocalProducer:
    """Commits under an id; whoever opened the id last may."""

    def __init__(self, view: LogView, name: str, epoch: int, gap: int) -> None:
        self._view = view
        self._name = name
        self._epoch = epoch
        self._gap = gap
        self._closed = False

    async def commit(self, transaction: Transaction) -> None:
        """All of it is visible; else one of the errors of `port.Producer`."""
        if self._closed:
            raise misuse(f"the producer {self._name} is closed")
        if transaction.offsets and transaction.membership is None:
            raise misuse("offsets need the membership they were read under")
        if self._view.store.path is None:
            await self._view.clock.sleep(0)  # others get their turn, as with a real disk
        try:
            added = await self._view.store.write(lambda file: self._apply(file, transaction))
        except LogUnavailable as error:
            raise aborted(error) from error
        self._view.appended(added)

    async def close(self) -> None:
        """Commits no more."""
        self._closed = True

    def _apply(
        self, connection: sqlite3.Connection, transaction: Transaction
    ) -> dict[TopicPartition, Appended]:
        row = connection.execute(
            "SELECT epoch FROM producers WHERE id = ?", (self._name,)
        ).fetchone()
        if row is None or row[0] != self._epoch:
            raise Fenced(f"another producer {self._name} was opened")
        if transaction.membership is not None:
            groups.check_owner(connection, transaction.membership, transaction.offsets)
            set_positions(connection, transaction.membership.group, transaction.offsets)
        now, rows = self._view.clock.now(), self._view.memory is None
        return append(connection, transaction.records, now, self._gap, rows=rows)


class LocalReader:
    """Reads partitions by offset."""

    def __init__(self, view: LogView) -> None:
        self._view = view
        self._cursors = Cursors(view)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Reads exactly these."""
        self._view.refresh()
        self._cursors.positions = {
            place: max(offset, self._view.edge(place).low) for place, offset in positions.items()
        }

    async def poll(self, max_records: int, timeout: float) -> list[Record]:
        """The next records, as soon as there is one, or none after `timeout`."""
        clock = self._view.clock
        deadline = clock.monotonic() + timeout
        await clock.sleep(0)
        while True:
            self._view.refresh()
            records = self._cursors.collect(max_records)
            left = deadline - clock.monotonic()
            if records or left <= 0:
                return records
            await self._view.wait(self._cursors.active(), left)

    def position(self, place: TopicPartition) -> int:
        """The next offset to read."""
        try:
            return self._cursors.positions[place]
        except KeyError:
            raise misuse(f"{place.topic}/{place.partition} is not assigned") from None

    async def close(self) -> None:
        """Reads no more."""
        self._cursors.positions = {}


class LocalConsumer:
    """A member of a group."""

    def __init__(self, view: LogView, seat: Seat, session_ms: int, poll_interval: float) -> None:
        self._view = view
        self._vacant = seat
        self._session_ms = session_ms
        self._poll_interval = poll_interval
        self._beat_every = min(1.0, session_ms / 3000)
        self._topics: frozenset[str] | None = None
        self._seat: Seat | None = None
        self._cursors = Cursors(view)
        self._committed: dict[TopicPartition, int] = {}
        self._generation = 0
        self._version = -1
        self._giving_up: frozenset[TopicPartition] = frozenset()
        self._news = Poll()
        self._polled = self._beaten = view.clock.monotonic()
        self.closed = False

    async def subscribe(self, topics: Collection[str]) -> None:
        """Is a member that reads these topics."""
        wanted = frozenset(topics)
        if self.closed:
            raise misuse("the consumer is closed")
        seat = self._seat
        if seat is None:
            await self._join(wanted)
        else:
            await self._view.change(lambda file: groups.resubscribe(file, seat, wanted))
        self._topics = wanted
        self._polled = self._view.clock.monotonic()

    async def poll(self, max_records: int, timeout: float) -> Poll:
        """The next records or change of ownership, or neither after `timeout`."""
        if self._topics is None or self.closed:
            raise misuse(f"{self._vacant.member} polls without a subscription")
        clock = self._view.clock
        deadline = clock.monotonic() + timeout
        self._polled = clock.monotonic()
        await clock.sleep(0)
        await self._give_up()
        while True:
            await self._beat()
            await self._look_at_group()
            news = self._news
            if news.assigned or news.revoked or news.lost:
                self._news = Poll()
                self._giving_up = news.revoked
                news.membership = self._membership()
                return news
            self._check_lost()
            records = self._cursors.collect(max_records)
            left = deadline - clock.monotonic()
            if records or left <= 0:
                return Poll(records, membership=self._membership())
            keys: list[Key] = [*self._cursors.active(), self._vacant.group]
            await self._view.wait(keys, min(left, self._beat_every))
            self._polled = clock.monotonic()

    def pause(self, places: Iterable[TopicPartition]) -> None:
        """These give no records."""
        self._cursors.paused.update(p for p in places if p in self._cursors.positions)

    def resume(self, places: Iterable[TopicPartition]) -> None:
        """These give records again, from where they stood."""
        self._cursors.paused.difference_update(places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        """The next record of `place` is the first at or after `offset`."""
        if place not in self._cursors.positions:
            raise misuse(f"{place.topic}/{place.partition} is not assigned")
        self._cursors.positions[place] = offset

    async def committed(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed | None]:
        """Stable positions: here no transaction is ever open between statements."""
        return self._read_committed(places)

    async def close(self) -> None:
        """Is out of the group; the others take over at once."""
        self.closed = True
        seat, self._seat = self._seat, None
        self._forget(list(self._cursors.positions))
        if seat is not None:
            with contextlib.suppress(LogError):
                await self._view.change(lambda file: groups.leave(file, seat))

    def due_seat(self) -> Seat | None:
        """The seat, if its owner polls often enough to be kept alive in the background."""
        now = self._view.clock.monotonic()
        return self._seat if now - self._polled < self._poll_interval else None

    async def _join(self, topics: frozenset[str]) -> None:
        times = (self._view.clock.now(), self._session_ms)
        self._seat = await self._view.change(
            lambda file: groups.join(file, self._vacant, topics, times)
        )
        self._version = -1
        self._beaten = self._view.clock.monotonic()

    async def _give_up(self) -> None:
        places, seat = self._giving_up, self._seat
        if places and seat is not None:
            await self._view.change(lambda file: groups.give_up(file, seat, places))
            self._forget(places)
        self._giving_up = frozenset()

    async def _beat(self) -> None:
        seat, now = self._seat, self._view.clock.monotonic()
        if seat is None or now - self._beaten < self._beat_every:
            return
        self._beaten = now
        with contextlib.suppress(LogUnavailable):  # a lock passes; the next beat is due soon
            await beat(self._view, [seat])

    async def _look_at_group(self) -> None:
        """Takes what is free of the own share, notes what has to be given up or was lost."""
        if self._seat is None and self._topics is not None:
            await self._join(self._topics)
        self._view.refresh()
        seat = self._seat
        if seat is None or self._view.groups.get(seat.group) == self._version:
            return
        held = self._cursors.positions.keys()
        share = await self._view.change(lambda file: groups.share(file, seat, held))
        if share is None:
            self._seat = None
            self._news = Poll(lost=frozenset(held))
            self._forget(list(held))
            return
        self._generation, self._version = share.generation, share.version
        lost = frozenset(held - share.owned)
        self._forget(lost)
        self._start(share.taken)
        self._news = Poll(
            assigned={**self._news.assigned, **share.taken},
            revoked=self._news.revoked | share.surplus,
            lost=self._news.lost | lost,
        )

    def _start(self, taken: Mapping[TopicPartition, Committed | None]) -> None:
        for place, position in taken.items():
            low = self._view.edge(place).low
            self._cursors.positions[place] = low if position is None else position.offset
            if position is not None:
                self._committed[place] = position.offset

    def _forget(self, places: Iterable[TopicPartition]) -> None:
        for place in list(places):
            self._cursors.positions.pop(place, None)
            self._cursors.paused.discard(place)
            self._committed.pop(place, None)

    def _check_lost(self) -> None:
        edges = self._view.edges
        behind = [
            place
            for place in self._cursors.positions
            if place not in self._cursors.paused
            and (edge := edges.get(place))
            and self._committed.get(place, 0) < edge.low
        ]
        if not behind:
            return
        for place, position in self._read_committed(behind).items():
            low = edges[place].low
            if position is not None and position.offset < low:
                raise OffsetLost(
                    f"{self._vacant.group} stands at {position.offset} of {place.topic}"
                    f"/{place.partition}, but the log begins at {low}",
                    help="`streams recover` shows what is lost and sets the new position.",
                )
            self._committed[place] = low

    def _read_committed(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed | None]:
        known = positions_of(self._view.store.read(POSITIONS, (self._vacant.group,)))
        return {place: known.get(place) for place in places}

    def _membership(self) -> Membership | None:
        if self._seat is None:
            return None
        return Membership(*self._seat[:2], self._generation, self._seat.incarnation)


async def beat(view: LogView, seats: Collection[Seat]) -> None:
    """The members are seen to live."""
    now = view.clock.now()
    if await view.store.write(lambda file: groups.beat(file, seats, now)):
        view.refresh(force=True)
