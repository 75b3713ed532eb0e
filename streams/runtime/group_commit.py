"""Group commit: what is gathered while one transaction is under way becomes the next one.

Small transactions when idle, thousands of records under load, and never two at a time. Offsets go
with every one of them (R1), taken from the frontiers at the moment it is built.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import msgspec

from streams.broker.port import Membership, Outgoing, Producer, TopicPartition, Transaction
from streams.clock import Clock
from streams.engine.frontier import Frontier
from streams.errors import Fenced, OutcomeUnknown, TransactionAborted
from streams.observe.logs import get_logger
from streams.runtime.commit import MOST_RECORDS, transaction

log = get_logger(__name__)

PATIENCE = 10
"""How often a transaction that was surely aborted is tried again with the same values."""


async def commit_surely(producer: Producer, wanted: Transaction, clock: Clock) -> None:
    """Returns when it is visible. A known abort is repeated (R4); anything else is raised."""
    for attempt in range(PATIENCE):
        try:
            await producer.commit(wanted)
            return
        except TransactionAborted as error:
            log.warning("commit.aborted", reason=str(error), attempt=attempt)
            await clock.sleep(min(0.05 * 2**attempt, 2.0))
    raise OutcomeUnknown(f"the log refused the same transaction {PATIENCE} times")


class Gathered(msgspec.Struct):
    """What one delivery adds to the next transaction; without an offset it is not finished."""

    place: TopicPartition
    offset: int | None
    records: list[Outgoing]


class GroupCommit:
    """Frontiers of the owned partitions, and what waits to be committed for them."""

    def __init__(self, clock: Clock, committed: Callable[[], None]) -> None:
        self.frontiers: dict[TopicPartition, Frontier] = {}
        self.membership: Membership | None = None
        self._clock = clock
        self._committed = committed
        self._gathered: deque[Gathered] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._one = asyncio.Lock()

    def gather(self, place: TopicPartition, offset: int | None, records: list[Outgoing]) -> None:
        """Adds to the next transaction."""
        self._gathered.append(Gathered(place, offset, records))
        self._wake.set()

    async def say(self, place: TopicPartition) -> None:
        """Returns when the partition's position, as it is now, has been committed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(done)
        self.gather(place, None, [])
        await done

    async def run(self, producer: Producer) -> None:
        """Commits whatever is gathered, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._gathered:
                async with self._one:
                    await self._commit_gathered(producer)
                self._committed()

    async def _commit_gathered(self, producer: Producer) -> None:
        records: list[Outgoing] = []
        touched: dict[TopicPartition, Frontier] = {}
        waiters, self._waiters = self._waiters, []
        while self._gathered and len(records) < MOST_RECORDS:
            each = self._gathered.popleft()
            frontier = self.frontiers.get(each.place)
            if frontier is None:
                continue
            if each.offset is not None:
                frontier.finish(each.offset)
            records += each.records
            touched[each.place] = frontier
        if touched:
            await self._commit(producer, records, touched)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def own(self, producer: Producer, taken: Mapping[TopicPartition, Frontier]) -> None:
        """Takes partitions over: says so in the offsets, so that a death can be counted."""
        async with self._one:
            self.frontiers.update(taken)
            await self._commit(producer, [], taken)

    async def give_up(self, producer: Producer, places: frozenset[TopicPartition]) -> None:
        """Commits what was gathered for these, says good-bye in their offsets, forgets them."""
        async with self._one:
            ready = [each for each in self._gathered if each.place in places]
            for each in ready:
                if each.offset is not None and each.place in self.frontiers:
                    self.frontiers[each.place].finish(each.offset)
            leaving = {p: f for p, f in self.frontiers.items() if p in places}
            records = [record for each in ready for record in each.records]
            self.forget(places)
            try:
                await self._commit(producer, records, leaving, clean=True)
            except (Fenced, OutcomeUnknown) as error:
                log.warning("commit.good_bye_failed", reason=str(error))

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """These belong to somebody else now."""
        gone = frozenset(places)
        for place in gone:
            self.frontiers.pop(place, None)
        self._gathered = deque(each for each in self._gathered if each.place not in gone)

    async def _commit(
        self,
        producer: Producer,
        records: list[Outgoing],
        frontiers: Mapping[TopicPartition, Frontier],
        *,
        clean: bool = False,
    ) -> None:
        offsets = {place: frontier.commit(clean=clean) for place, frontier in frontiers.items()}
        if offsets:
            await commit_surely(
                producer, transaction(records, offsets, self.membership), self._clock
            )
