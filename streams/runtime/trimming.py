"""Deletes from the stages' topics what every pool that may read them has committed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping

from streams.broker.port import Committed, Log, TopicPartition
from streams.clock import Clock
from streams.errors import LogUnavailable
from streams.runtime.control import ControlTable
from streams.topology.plan import USER_CODE, Naming

TRIM_EVERY = 60.0


class Trimming:
    """Trims the partitions that an agent owns, now and then."""

    def __init__(
        self,
        source: Log,
        naming: Naming,
        table: ControlTable,
        clock: Clock,
        *,
        pool: str,
        committed_offset: Callable[[TopicPartition], int],
    ) -> None:
        self._log = source
        self._naming = naming
        self._table = table
        self._clock = clock
        self._pool = pool
        self._committed_offset = committed_offset
        self._last = clock.monotonic()

    async def trim(self, owned: Iterable[TopicPartition]) -> None:
        """Does so if it is time."""
        now = self._clock.monotonic()
        if now - self._last < TRIM_EVERY:
            return
        self._last = now
        with contextlib.suppress(LogUnavailable):
            await self._log.trim(await self._needed_from(owned))

    async def _needed_from(self, owned: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The first offset of each owned partition that some pool has not finished."""
        found = {place: self._committed_offset(place) for place in owned}
        for pool in sorted(self._pools_beside(found)):
            done = await self._log.positions(self._naming.pool_group(pool))
            for place, offset in found.items():
                if pool in self._pools_of(place.topic):
                    found[place] = min(offset, done.get(place, Committed(0)).offset)
        return found

    def _pools_beside(self, places: Iterable[TopicPartition]) -> set[str]:
        found = {pool for place in places for pool in self._pools_of(place.topic)}
        return found - {self._pool}

    def _pools_of(self, topic: str) -> set[str]:
        """Pools that some plan gives the stage of this topic to: it may have moved."""
        parts = (
            part
            for plan in self._table.plans.values()
            for part in plan.parts
            if part.kind in USER_CODE
        )
        return {part.pool for part in parts if self._naming.stage(part.path) == topic}
