"""The consumer of the simulated log: a member of a group, its share and its records."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from streams.broker.local_errors import misuse
from streams.broker.port import Committed, Poll, TopicPartition
from streams.errors import Fenced, OffsetLost
from streams.testing.simulated_broker import Broker
from streams.testing.simulated_cursors import Cursors
from streams.testing.simulated_groups import Seat
from streams.testing.simulated_process import Process
from streams.testing.simulated_recording import Run


class SimulatedConsumer:
    """A member of a group."""

    def __init__(self, broker: Broker, process: Process, group: str, member: str) -> None:
        self._broker = broker
        self._process = process
        self._group = group
        self._member = member
        self._topics: frozenset[str] | None = None
        self._seat: Seat | None = None
        self._cursors = Cursors(broker, process, lagging=False)
        self._giving_up: frozenset[TopicPartition] = frozenset()
        self._version = 0
        self._lows = -1
        self.closed = False

    async def subscribe(self, topics: Collection[str]) -> None:
        """Is a member that reads these topics."""
        wanted = frozenset(topics)
        if self.closed:
            raise misuse("the consumer is closed")
        await self._broker.arrive(self._process, "admin")
        if self._seat is None:
            self._join(wanted)
        else:
            self._broker.groups.resubscribe(self._seat, wanted)
            self._seat.polled = self._broker.clock.monotonic()
        self._topics = wanted

    async def poll(self, max_records: int, timeout: float) -> Poll:
        """The next records or change of ownership, or neither after `timeout`."""
        if self._topics is None or self.closed:
            raise misuse(f"{self._member} polls without a subscription")
        clock = self._broker.clock
        if self._seat is not None:
            self._seat.polled = clock.monotonic()
        await self._broker.arrive(self._process, "poll")
        deadline = clock.monotonic() + timeout
        left = timeout
        self._give_up()
        while True:
            self._cursors.look()
            poll = self._look_at_group()
            if poll is not None:
                break
            self._check_lost()
            away = self._broker.is_away(self._process)
            records = [] if away else self._cursors.collect(max_records)
            if records or left <= 0:
                seat = self._seat
                poll = Poll(records, membership=None if seat is None else seat.membership)
                break
            await self._wait(left)
            left = deadline - clock.monotonic()
        if left == timeout:
            await asyncio.sleep(0)  # nobody reads on and on while others have no turn
        return poll

    def pause(self, places: Iterable[TopicPartition]) -> None:
        """These give no records."""
        for place in places:
            cursor = self._cursors.by_place.get(place)
            if cursor is not None:
                cursor.paused = True

    def resume(self, places: Iterable[TopicPartition]) -> None:
        """These give records again, from where they stood."""
        for place in places:
            cursor = self._cursors.by_place.get(place)
            if cursor is not None and cursor.paused:
                cursor.paused = False
                self._cursors.wake()

    def seek(self, place: TopicPartition, offset: int) -> None:
        """The next record of `place` is the first at or after `offset`."""
        cursor = self._cursors.by_place.get(place)
        if cursor is None:
            raise misuse(f"{place.topic}/{place.partition} is not assigned")
        cursor.position = offset
        cursor.run = self._run(place)
        self._cursors.wake()

    async def committed(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed | None]:
        """Stable positions: waits until no open transaction could change them."""
        await self._broker.arrive(self._process, "admin")
        group = self._broker.groups.group(self._group)
        while not group.is_stable(places):
            await self._broker.take(self._process, 0.1)
        return {place: group.positions.get(place) for place in places}

    async def close(self) -> None:
        """Is out of the group; the others take over at once, unless nobody hears of it."""
        if self.closed or not await self._process.runs():
            return
        self.closed = True
        seat, self._seat = self._seat, None
        self._cursors.forget(self._cursors.by_place)
        if seat is not None and not self._broker.is_away(self._process):
            self._broker.groups.leave(seat)

    # -- membership ---------------------------------------------------------------------------

    def _join(self, topics: frozenset[str]) -> None:
        groups = self._broker.groups
        seat = groups.seat(self._group, self._member, self._process, self._cursors.wake)
        groups.join(seat, topics, self._broker.clock.monotonic())
        self._seat, self._version = seat, 0
        self._broker.mind_members()

    def _give_up(self) -> None:
        places, seat = self._giving_up, self._seat
        if places:
            self._giving_up = frozenset()
            self._cursors.forget(places)
            if seat is not None:
                self._broker.groups.give_up(seat, places)

    def _look_at_group(self) -> Poll | None:
        """The next change of ownership, if there is one; takes part in a rebalance."""
        if self._broker.is_away(self._process):
            return None
        if self._seat is None and self._topics is not None:
            self._join(self._topics)
        seat = self._seat
        assert seat is not None
        held = self._cursors.by_place
        if seat.gone:
            return self._thrown_out(seat)
        if seat.version != self._version:
            lost = frozenset(place for place in held if place not in seat.owned)
            if lost:
                self._cursors.forget(lost)
                return Poll(lost=lost, membership=seat.membership)
        if seat.group.joining and not seat.joined:
            if held and self._broker.groups.eager:
                return self._revoke(frozenset(held))
            self._broker.groups.join_again(seat, held)
        if seat.version == self._version:
            return None
        return self._take_share(seat)

    def _thrown_out(self, seat: Seat) -> Poll | None:
        if seat.gone == "replaced":
            raise Fenced(
                f"another {self._member} joined {self._group}",
                help="Give each worker a name of its own.",
            )
        self._seat = None
        lost = frozenset(self._cursors.by_place)
        self._cursors.forget(lost)
        if lost:
            return Poll(lost=lost)
        return self._look_at_group()

    def _revoke(self, places: frozenset[TopicPartition]) -> Poll:
        assert self._seat is not None
        self._giving_up = places
        return Poll(revoked=places, membership=self._seat.membership)

    def _take_share(self, seat: Seat) -> Poll | None:
        """What is new of the own share. Its positions must be stable, so it may have to wait."""
        held = self._cursors.by_place
        taken = [place for place in seat.owned if place not in held]
        seat.unsettled = not seat.group.is_stable(taken)
        if seat.unsettled:
            return None
        self._version = seat.version
        assigned = {place: seat.group.positions.get(place) for place in taken}
        for place, position in assigned.items():
            partition = self._broker.topics.partition(place)
            start = partition.low if position is None else position.offset
            self._cursors.put(partition, start, self._run(place))
        self._lows = -1
        poll = self._revoke(seat.surplus) if seat.surplus else Poll(membership=seat.membership)
        poll.assigned = assigned
        return poll

    def _check_lost(self) -> None:
        """Raises for as long as something was deleted that the group has not read, or it stands
        where nothing has been written yet: after the log was made anew."""
        if self._lows == self._broker.lows or self._seat is None:
            return
        positions = self._seat.group.positions
        whole = True
        for place, cursor in self._cursors.by_place.items():
            position = positions.get(place)
            low, high = cursor.partition.watermarks
            if position is None or low <= position.offset <= high:
                continue
            if cursor.paused:
                whole = False
            else:
                raise OffsetLost(
                    f"{self._group} stands at {position.offset} of {place.topic}"
                    f"/{place.partition}, which has {low} to {high}",
                    help="`streams recover` shows what is lost and sets the new position.",
                )
        if whole:
            self._lows = self._broker.lows

    async def _wait(self, seconds: float) -> None:
        seat, clock = self._seat, self._broker.clock
        if seat is None:
            await self._cursors.wait(seconds)
        else:
            seat.polling = True
            try:
                await self._cursors.wait(seconds)
            finally:
                seat.polling = False
                seat.polled = clock.monotonic()
        if self._process.halted:
            await self._process.gate()

    def _run(self, place: TopicPartition) -> Run | None:
        seat = self._seat
        assert seat is not None
        who = f"{self._group}/{self._member}#{seat.incarnation}"
        return self._broker.recording.run(who, place, seat.membership.generation)
