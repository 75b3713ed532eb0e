"""Taking a partition: its table, up to everything the former owner may have written (K1)."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from streams.broker.port import Log, TopicPartition
from streams.clock import Clock
from streams.ledger import snapshot
from streams.observe.logs import get_logger
from streams.runtime.control import ControlReader
from streams.runtime.state import State
from streams.topology.plan import Naming

log = get_logger(__name__)

WORTH_IT = 1_000
"""Rows below which reading them again is as quick as a snapshot."""
MAX_AGE = 12 * 3600 * 1000
"""Half of the time that tombstones stay: an older copy could bring deleted rows back."""


class Restorer:
    """Makes states, from snapshots where they can be trusted, and writes snapshots."""

    def __init__(
        self,
        source: Log,
        naming: Naming,
        control: ControlReader,
        clock: Clock,
        folder: Path | None,
    ) -> None:
        self._log = source
        self._topic = naming.ledger
        self._control = control
        self._clock = clock
        self._folder = folder

    async def restore(self, partition: int) -> State:
        """The partition as it stands. The end is looked up first, uncommitted records included:
        reading as far as that, by position, shows every row a former owner has committed."""
        place = TopicPartition(self._topic, partition)
        end = (await self._log.watermarks([place]))[place].high
        await self._control.wait_until(await self._control.end())
        state = State(partition, self._clock, self._control.table.plans)
        await self._load(state, end)
        started = self._clock.monotonic()
        reader = self._log.reader()
        try:
            reader.assign({place: state.table.position})
            while reader.position(place) < end:
                for record in await reader.poll(10_000, 1.0):
                    if record.key is not None:
                        state.table.read(record.key, record.value, record.offset)
                        state.time.saw(record.timestamp, fresh=False)
        finally:
            await reader.close()
        state.table.position = max(state.table.position, end)
        seconds = round(self._clock.monotonic() - started, 3)
        log.info("ledger.restored", partition=partition, rows=len(state.table), seconds=seconds)
        return state

    async def _load(self, state: State, end: int) -> None:
        layout = self._control.table.layout
        if self._folder is None or layout is None:
            return
        found = await asyncio.to_thread(
            snapshot.read,
            self._folder,
            layout=layout.id,
            topic=self._topic,
            partition=state.partition,
            end=end,
            now=self._clock.now(),
            max_age=MAX_AGE,
        )
        if found is not None:
            state.table.load(found.rows, found.position)

    async def save(self, state: State) -> None:
        """Writes a snapshot; one that cannot be written costs only time at the next start."""
        layout = self._control.table.layout
        if self._folder is None or layout is None or len(state.table) < WORTH_IT:
            return
        taken = snapshot.Snapshot(
            snapshot.FORMAT,
            layout.id,
            self._topic,
            state.partition,
            state.table.position,
            self._clock.now(),
            {scope: dict(parts) for scope, parts in state.table.dump().items()},
        )
        with contextlib.suppress(OSError):
            await asyncio.to_thread(snapshot.write, self._folder, taken)
