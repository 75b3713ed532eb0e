"""What a keeper does now and then beside its decisions: trimming, local copies, old stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from streams.broker.port import Log, TopicPartition
from streams.clock import Clock
from streams.engine.frontier import Frontier
from streams.errors import LogUnavailable
from streams.observe.logs import get_logger
from streams.runtime.commit import partition_of
from streams.runtime.control import ControlReader
from streams.runtime.restoring import Restorer
from streams.runtime.state import State
from streams.topology.plan import Naming

log = get_logger(__name__)

SNAPSHOT_EVERY = 60.0
TRIM_EVERY = 60.0
DAY = 24 * 3600 * 1000


class Upkeep:
    """`round` does what is due; nothing in it takes longer than a moment."""

    def __init__(
        self,
        source: Log,
        naming: Naming,
        control: ControlReader,
        clock: Clock,
        restorer: Restorer,
        states: Mapping[int, State],
        frontiers: Mapping[TopicPartition, Frontier],
        partitions: int,
    ) -> None:
        self._log = source
        self._naming = naming
        self._control = control
        self._clock = clock
        self._restorer = restorer
        self._states = states
        self._frontiers = frontiers
        self._partitions = partitions
        self._last_trim = self._last_snapshot = clock.monotonic()
        self.trimming: asyncio.Task[None] | None = None
        self._to_save: set[int] = set()
        """Partitions whose local copies are being brought up, a slice at a time."""

    def round(self) -> None:
        """Nothing that is due waits longer than till the next round."""
        now = self._clock.monotonic()
        for state in self._states.values():
            state.rest()
            if state.table.strange:
                log.warning(
                    "ledger.strange_records",
                    topic=self._naming.ledger,
                    partition=state.partition,
                    records=state.table.strange,
                )
                state.table.strange = 0
        if now - self._last_trim >= TRIM_EVERY:
            self._last_trim = now
            self._begin_trim()
            self._drop_old_stops()
        if now - self._last_snapshot >= SNAPSHOT_EVERY:
            self._last_snapshot = now
            self._to_save = set(self._states)
        for partition in tuple(self._to_save):
            owned = self._states.get(partition)
            if owned is None or self._restorer.save_some(owned):
                self._to_save.discard(partition)

    def _begin_trim(self) -> None:
        """Beside the work: a log may take seconds to clear up after a busy minute. The offsets are
        of now, between two commits."""
        if self.trimming is not None and not self.trimming.done():
            return
        hold = self._naming.hold
        done = {p: f.offset for p, f in self._frontiers.items() if p.topic == hold}
        self.trimming = asyncio.create_task(self._trim(done), name="keeper.trim")

    async def _trim(self, done: Mapping[TopicPartition, int]) -> None:
        with contextlib.suppress(LogUnavailable):
            await self._log.trim(done)

    def _drop_old_stops(self) -> None:
        """A stop outlives its job by a day; then nothing can ask for it any more."""
        for root, stop in self._control.table.stops.items():
            state = self._states.get(partition_of(root, self._partitions))
            if state is None or state.time.now() - stop.at < DAY or state.table.has(root):
                continue
            state.holds.schedule(root, "@stop", state.time.now())
