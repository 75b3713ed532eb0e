"""Taking a partition: its table, up to everything the former owner may have written (K1)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from streams.broker.port import Log, TopicPartition
from streams.clock import Clock
from streams.ledger import cold_file
from streams.ledger.cold import Unwritable
from streams.observe.logs import get_logger
from streams.runtime.control import ControlReader
from streams.runtime.figures import Figures
from streams.runtime.standing import Pulse
from streams.runtime.state import State
from streams.runtime.timekeeping import LogTime
from streams.topology.plan import Naming

log = get_logger(__name__)

MOST_AT_ONCE = 10_000
"""Records between looks at how much is in memory."""
LARGE = 4 * 1024 * 1024
"""Bytes of a copy that are checked in some milliseconds."""
MAX_AGE = 12 * 3600 * 1000
"""Half of the time that tombstones stay: an older copy could bring deleted rows back."""


class Restore(msgspec.Struct):
    """How far the reading of one partition is."""

    started: float
    position: int = 0
    end: int = 0


class Restorer:
    """Makes states, from local copies where they can be trusted, and keeps those up."""

    def __init__(
        self,
        source: Log,
        naming: Naming,
        control: ControlReader,
        clock: Clock,
        time: LogTime,
        folder: Path | None,
        figures: Figures,
        pulse: Pulse,
    ) -> None:
        self._log = source
        self._topic = naming.ledger
        self._control = control
        self._clock = clock
        self._time = time
        self._folder = folder
        self._figures = figures
        self._pulse = pulse
        self.under_way: dict[int, Restore] = {}

    def has(self, partition: int) -> bool:
        """Whether there is such a state: partitions that somebody added later stay unused."""
        layout = self._control.table.layout
        return layout is None or partition < layout.partitions

    async def restore(self, partition: int) -> State:
        """The partition as it stands. The end is looked up first, uncommitted records included:
        reading as far as that, by position, shows every row a former owner has committed."""
        under_way = self.under_way[partition] = Restore(self._clock.monotonic())
        try:
            return await self._restore(partition, under_way)
        finally:
            del self.under_way[partition]

    async def _restore(self, partition: int, under_way: Restore) -> State:
        place = TopicPartition(self._topic, partition)
        end = under_way.end = (await self._log.watermarks([place]))[place].high
        await self._control.wait_until(await self._control.end())
        if cold_file.size_of(self._folder, self._topic, partition) < LARGE:
            state = self._begun(partition, end)
        else:  # Checking all of it takes a second or two.
            state = await asyncio.to_thread(self._begun, partition, end)
        reader = self._log.reader()
        try:
            reader.assign({place: state.table.position})
            while reader.position(place) < end:
                records = await reader.poll(MOST_AT_ONCE, 1.0)
                if records:
                    self._pulse.beat()
                    self._time.saw(records[-1].timestamp)
                for record in records:
                    if record.key is not None:
                        state.table.read(record.key, record.value, record.offset)
                under_way.position = state.table.position
                while state.is_full:
                    state.rest()
                    await self._clock.sleep(0)
        except BaseException:
            state.table.close()
            raise
        finally:
            await reader.close()
        state.table.position = max(state.table.position, end)
        seconds = round(self._clock.monotonic() - under_way.started, 3)
        self._figures.restored(seconds)
        log.info("ledger.restored", partition=partition, rows=len(state.table), seconds=seconds)
        return state

    def _begun(self, partition: int, end: int) -> State:
        """What the former owner's copy gives; without one nothing."""
        layout = self._control.table.layout
        cold = cold_file.opened(
            self._folder if layout is not None else None,
            layout.id if layout is not None else "",
            self._topic,
            partition,
            end=end,
            now=self._clock.now(),
            max_age=MAX_AGE,
        )
        try:
            return State(partition, self._clock, self._time, self._control.table.plans, cold)
        except BaseException:
            cold.close()
            raise

    async def save(self, state: State) -> None:
        """The copy goes as far as the table does."""
        while not self.save_some(state):
            await self._clock.sleep(0)

    def save_some(self, state: State) -> bool:
        """A step towards that; True when it is done. A copy that cannot be written costs only time
        at the next start."""
        if not state.table.is_kept:
            return True
        try:
            return state.copy_some(self._clock.now())
        except Unwritable as error:
            log.warning("ledger.copy_unwritable", code=error.code, error=error.message)
            return True
