"""Looks for events of higher priority behind a long backlog of low ones.

An agent fetches a bounded number of events of a partition. Where these are low ones and more wait
behind them, the rest of the partition is read beside it, by a reader in no group, and what is not
low is taken before its turn; the frontier remembers it (`Frontier.start_ahead`). Where no job is
low nothing is read twice, and nothing here runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from streams.broker.port import Log, Reader, Record, TopicPartition
from streams.clock import Clock
from streams.engine.frontier import MOST_RUNS, Frontier
from streams.errors import LogUnavailable
from streams.observe.logs import get_logger

log = get_logger(__name__)

LOOK_EVERY = 0.05
AT_ONCE = 1_000
_LOW_STAGE_EVENT = b'"priority":"low"}'
"""How the record of a low job's stage event ends: its last field."""
_LOW = ("ce_priority", b"low")


class Scout:
    """Takes what is not low from behind what is. `behind` tells where more waits than is fetched;
    `take` gets each event found, `found` is called when some were."""

    def __init__(
        self,
        source: Log,
        clock: Clock,
        frontiers: Mapping[TopicPartition, Frontier],
        behind: Callable[[], set[TopicPartition]],
        take: Callable[[Record, TopicPartition, Frontier], None],
        found: Callable[[], None],
    ) -> None:
        self._log = source
        self._clock = clock
        self._frontiers = frontiers
        self._behind = behind
        self._take = take
        self._found = found
        self._low: set[TopicPartition] = set()
        """Where low events have been fetched since it was last looked at."""
        self._at: dict[TopicPartition, tuple[Frontier, int]] = {}
        """Where it reads: the frontier it reads for, and the next offset."""
        self._before: dict[TopicPartition, int] = {}
        """The record that was read last, since the reading began there."""
        self._wake = asyncio.Event()

    def saw_low(self, place: TopicPartition) -> None:
        """A low event was fetched there: others may wait behind it."""
        self._low.add(place)
        self._wake.set()

    async def run(self) -> None:
        """Looks ahead where it has to, for ever."""
        await self._wake.wait()
        reader = self._log.reader()
        assigned: frozenset[TopicPartition] = frozenset()
        try:
            while True:
                self._choose()
                wanted = self._wanted(assigned)
                if not wanted:
                    assigned = frozenset()
                    await self._rest()
                    continue
                try:
                    if wanted != assigned:
                        reader.assign({place: self._at[place][1] for place in wanted})
                        self._before.clear()
                        assigned = wanted
                    await self._look(reader)
                except LogUnavailable as error:
                    log.warning("scout.waits", code=error.code, error=error.message)
                    assigned = frozenset()
                    await self._clock.sleep(1.0)
        finally:
            await reader.close()

    def _wanted(self, assigned: frozenset[TopicPartition]) -> frozenset[TopicPartition]:
        """Where more may be taken; where there was no room, not before there is much: beginning to
        read again costs more than what one event would gain."""
        return frozenset(
            place
            for place, (frontier, _) in self._at.items()
            if frontier.room_ahead > (0 if place in assigned else MOST_RUNS // 2)
        )

    async def _rest(self) -> None:
        """Until a low event is fetched; where some are, until there may be more behind them."""
        if self._low or self._at:
            await self._clock.sleep(LOOK_EVERY)
        else:
            self._wake.clear()
            await self._wake.wait()

    def _choose(self) -> None:
        """Begins where low events were fetched and more waits; ends where the fetching has caught up,
        or somebody else owns the partition."""
        behind = self._behind()
        for place, (frontier, at) in list(self._at.items()):
            caught_up = frontier.high >= at and place not in behind
            if caught_up or self._frontiers.get(place) is not frontier:
                del self._at[place]
        for place in self._low & behind - self._at.keys():
            frontier = self._frontiers[place]
            if not frontier.deaths:  # after deaths events are run one by one, in their order
                self._at[place] = frontier, frontier.high
        self._low &= behind

    async def _look(self, reader: Reader) -> None:
        found = False
        left: set[TopicPartition] = set()
        before = self._before
        for record in await reader.poll(AT_ONCE, LOOK_EVERY):
            place = record.place
            frontier, at = self._at.get(place, (None, 0))
            if place in left or frontier is None or self._frontiers.get(place) is not frontier:
                continue
            if not _is_low(record):
                if frontier.room_ahead <= 0:
                    left.add(place)  # it goes on from here when there is room: in order
                    continue
                if record.offset >= at and frontier.start_ahead(record.offset, before.get(place)):
                    self._take(record, place, frontier)
                    found = True
            before[place] = record.offset
            self._at[place] = frontier, max(at, record.offset + 1)
        if found:
            self._found()


def _is_low(record: Record) -> bool:
    value = record.value
    return (value is not None and value.endswith(_LOW_STAGE_EVENT)) or _LOW in record.headers
