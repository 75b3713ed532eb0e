"""Which partitions a keeper has, taken and given up in order."""

from __future__ import annotations

from collections.abc import Collection

from streams.broker.port import Committed, Log, Poll, Producer, TopicPartition
from streams.clock import Clock
from streams.engine import keeping
from streams.engine.frontier import Frontier
from streams.runtime.commit import transaction
from streams.runtime.figures import Figures
from streams.runtime.first_positions import FirstPositions
from streams.runtime.group_commit import commit_surely
from streams.runtime.keeper_feed import Feed
from streams.runtime.restoring import Restorer
from streams.runtime.state import State, newest
from streams.topology.plan import Naming

A_MOMENT = 10_000
"""Jobs looked over before others have their turn."""


class Ownership:
    """Follows the group's changes. Who owns hold p owns state p."""

    def __init__(
        self,
        source: Log,
        naming: Naming,
        clock: Clock,
        restorer: Restorer,
        states: dict[int, State],
        feed: Feed,
        producer: Producer,
        figures: Figures,
        member: str,
        first: FirstPositions,
    ) -> None:
        self._log = source
        self._naming = naming
        self._clock = clock
        self._restorer = restorer
        self._states = states
        self._feed = feed
        self._producer = producer
        self._figures = figures
        self._member = member
        self._first = first

    async def change(self, poll: Poll) -> None:
        """What was lost or revoked is gone, in order; what was assigned is restored and fed."""
        self._figures.rebalanced(poll, self._member)
        self._forget(poll.lost)
        gone = {place.partition for place in poll.revoked if place.topic == self._naming.hold}
        await self.leave(gone)
        self._forget(poll.revoked)
        if poll.membership is not None:
            self._feed.membership = poll.membership
        marks = await self._log.watermarks(poll.assigned)
        taken = {}
        for place, committed in poll.assigned.items():
            taken[place] = frontier = Frontier(*(committed or Committed(marks[place].low)))
            frontier.take_over(0)
        notes = await self._first.notes(poll.assigned, marks)
        if notes:
            new = {p: taken[p].commit() for p, stood in poll.assigned.items() if stood is None}
            begun = transaction(notes, new, self._feed.membership)
            await commit_surely(self._producer, begun, self._clock)
        states: dict[int, State] = {}
        try:
            for place in taken:
                if place.topic == self._naming.hold and self._restorer.has(place.partition):
                    states[place.partition] = await self._restorer.restore(place.partition)
        except BaseException:
            for state in states.values():
                state.table.close()
            raise
        # Only now: records of what has a frontier are taken.
        self._states.update(states)
        self._feed.frontiers.update(taken)
        for state in states.values():
            await self._look_over(state)
        self._feed.follow()

    async def _look_over(self, state: State) -> None:
        """K1.4: what changed while nobody owned the partition is noticed now. Rows without a job
        are purged a day after the newest of them."""
        for number, (scope, has_job) in enumerate(state.table.unsettled()):
            if number % A_MOMENT == A_MOMENT - 1:
                await self._clock.sleep(0)
            if has_job:
                state.to_look_over.append(scope)
            else:
                due = newest(state.table.rows(scope)) + keeping.ORPHANED_ROWS_STAY
                state.holds.schedule(scope, "@orphan", due)

    async def leave(self, partitions: Collection[int]) -> None:
        """Says in the offsets that all is in order, and brings the copies of the tables up."""
        frontiers = self._feed.frontiers.items()
        leaving = {place: f for place, f in frontiers if place.partition in partitions}
        if leaving:
            offsets = {place: frontier.commit(clean=True) for place, frontier in leaving.items()}
            last = transaction([], offsets, self._feed.membership)
            await commit_surely(self._producer, last, self._clock)
        for partition in partitions:
            if partition in self._states:
                await self._restorer.save(self._states[partition])

    def _forget(self, places: Collection[TopicPartition]) -> None:
        self._feed.forget(places)
        for place in places:
            if place.topic == self._naming.hold:
                state = self._states.pop(place.partition, None)
                if state is not None:
                    state.table.close()
