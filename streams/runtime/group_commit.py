"""Group commit: what is gathered while one transaction is under way becomes the next one.

Small transactions when idle, thousands of records under load, and never two at a time. Offsets go
with every one of them (R1), taken from the frontiers at the moment it is built.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from streams.broker.port import (
    Committed,
    Membership,
    Outgoing,
    Producer,
    TopicPartition,
    Transaction,
)
from streams.clock import Clock
from streams.engine.frontier import Frontier
from streams.errors import Fenced, OutcomeUnknown, StreamsError, TransactionAborted
from streams.observe.logs import get_logger
from streams.observe.metrics import Labels
from streams.runtime.commit import MOST_BYTES, MOST_RECORDS, transaction
from streams.runtime.figures import Figures

log = get_logger(__name__)

PATIENCE = 10
"""How often a transaction that was surely aborted is tried again with the same values."""


async def commit_surely(producer: Producer, wanted: Transaction, clock: Clock) -> None:
    """Returns when it is visible. A known abort is repeated (R4); anything else is raised."""
    try:
        await _commit_patiently(producer, wanted, clock)
    except OutcomeUnknown as error:
        log.error("commit.unknown", code=error.code, error=error.message)
        raise
    except Fenced as error:
        log.warning("commit.fenced", code=error.code, error=error.message)
        raise
    except StreamsError as error:
        log.error("commit.failed", code=error.code, error=error.message)
        raise


async def _commit_patiently(producer: Producer, wanted: Transaction, clock: Clock) -> None:
    for attempt in range(PATIENCE):
        try:
            await producer.commit(wanted)
            return
        except TransactionAborted as error:
            log.warning("commit.aborted", code=error.code, error=error.message, attempt=attempt)
            await clock.sleep(min(0.05 * 2**attempt, 2.0))
    raise OutcomeUnknown(f"the log refused the same transaction {PATIENCE} times")


class Gathered(msgspec.Struct):
    """What one delivery adds to the next transaction; without an offset it is not finished."""

    place: TopicPartition
    offset: int | None
    records: list[Outgoing]
    counted: Labels | None = None
    """What is counted of it, once it was committed."""
    said: asyncio.Future[bool] | None = None
    """Hears whether it was committed; False if the partition was given up before."""


class Said(msgspec.Struct):
    """What this process last read or wrote as a partition's position, and what it tried to write.

    Found again in the log, either proves that nobody else has owned the partition since.
    """

    known: Committed | None
    tried: Committed | None = None


class GroupCommit:
    """Frontiers of the owned partitions, and what waits to be committed for them."""

    def __init__(
        self,
        clock: Clock,
        committed: Callable[[], None],
        said: dict[TopicPartition, Said],
        figures: Figures | None = None,
    ) -> None:
        self.frontiers: dict[TopicPartition, Frontier] = {}
        self.membership: Membership | None = None
        self._clock = clock
        self._committed = committed
        self._said = said
        self._figures = figures
        self._gathered: deque[Gathered] = deque()
        self._wake = asyncio.Event()
        self._one = asyncio.Lock()
        self._doubt: Exception | None = None
        """Set by a commit that failed: the frontiers count its events as finished, so nothing of
        them may ever be committed again."""

    def gather(
        self,
        place: TopicPartition,
        offset: int | None,
        records: list[Outgoing],
        counted: Labels | None = None,
    ) -> None:
        """Adds to the next transaction."""
        self._gathered.append(Gathered(place, offset, records, counted))
        self._wake.set()

    async def say(self, place: TopicPartition) -> bool:
        """True when the partition's position, as it is now, has been committed; False when it was
        given up before."""
        said: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._gathered.append(Gathered(place, None, [], None, said))
        self._wake.set()
        return await said

    def committed_offset(self, place: TopicPartition) -> int:
        """Everything below is finished and committed: the log may forget it."""
        said = self._said.get(place)
        return said.known.offset if said is not None and said.known is not None else 0

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
        waiting: list[asyncio.Future[bool]] = []
        counted: list[Labels] = []
        gathered, place, frontier, size = self._gathered, None, None, 0
        while gathered and len(records) < MOST_RECORDS and size < MOST_BYTES:
            each = gathered.popleft()
            if each.place is not place:  # most come in runs
                place = each.place
                frontier = self.frontiers.get(place)
                if frontier is not None:
                    touched[place] = frontier
            if frontier is None:
                _answer(each, False)
                continue
            if each.offset is not None:
                frontier.finish(each.offset)
            for record in each.records:
                records.append(record)
                size += len(record.value or b"")
            if each.counted is not None:
                counted.append(each.counted)
            if each.said is not None:
                waiting.append(each.said)
        if touched:
            await self._commit(producer, records, touched, counted)
        for said in waiting:
            if not said.done():
                said.set_result(True)

    async def own(
        self,
        producer: Producer,
        taken: Mapping[TopicPartition, Frontier],
        notes: Collection[Outgoing] = (),
    ) -> None:
        """Takes partitions over: says so in the offsets, so that a death can be counted; `notes`
        are committed with them."""
        async with self._one:
            self.frontiers.update(taken)
            await self._commit(producer, list(notes), taken, [])

    async def give_up(self, producer: Producer, places: frozenset[TopicPartition]) -> None:
        """Commits what was gathered for these, says good-bye in their offsets, forgets them."""
        async with self._one:
            ready = [each for each in self._gathered if each.place in places]
            for each in ready:
                if each.offset is not None and each.place in self.frontiers:
                    self.frontiers[each.place].finish(each.offset)
            leaving = {p: f for p, f in self.frontiers.items() if p in places}
            records = [record for each in ready for record in each.records]
            counted = [each.counted for each in ready if each.counted is not None]
            self.forget(places)
            await self._commit(producer, records, leaving, counted, clean=True)

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """These belong to somebody else now."""
        gone = frozenset(places)
        for place in gone:
            self.frontiers.pop(place, None)
        left: deque[Gathered] = deque()
        for each in self._gathered:
            if each.place in gone:
                _answer(each, False)
            else:
                left.append(each)
        self._gathered = left

    async def _commit(
        self,
        producer: Producer,
        records: list[Outgoing],
        frontiers: Mapping[TopicPartition, Frontier],
        counted: list[Labels],
        *,
        clean: bool = False,
    ) -> None:
        if self._doubt is not None:
            raise self._doubt
        offsets = {place: frontier.commit(clean=clean) for place, frontier in frontiers.items()}
        if not offsets:
            return
        wanted = transaction(records, offsets, self.membership)
        for place, position in wanted.offsets.items():
            self._said.setdefault(place, Said(None)).tried = position
        self._doubt = OutcomeUnknown("a commit was given up before it ended")
        try:
            await commit_surely(producer, wanted, self._clock)
        except StreamsError as error:
            self._doubt = error
            raise
        self._doubt = None
        for place, position in wanted.offsets.items():
            self._said[place].known = position
        if self._figures is not None:
            self._figures.committed(records, Counter(counted))


def _answer(each: Gathered, committed: bool) -> None:
    if each.said is not None and not each.said.done():
        each.said.set_result(committed)
