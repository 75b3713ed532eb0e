"""The reader of the simulated log: partitions by offset, outside any group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from streams.broker.local_errors import misuse
from streams.broker.port import Record, TopicPartition
from streams.testing.simulated_broker import Broker
from streams.testing.simulated_cursors import Cursors
from streams.testing.simulated_process import Process


class SimulatedReader:
    """Reads partitions by offset."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker = broker
        self._process = process
        self._cursors = Cursors(broker, process, lagging=True)
        broker.readers += 1
        self._who = f"{process.name}/reader#{broker.readers}"

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Reads exactly these."""
        partitions = {place: self._broker.topics.partition(place) for place in positions}
        self._cursors.forget(self._cursors.by_place)
        for place, partition in partitions.items():
            run = self._broker.recording.run(self._who, partition.place, 0)
            self._cursors.put(partition, max(positions[place], partition.low), run)
        self._cursors.wake()

    async def poll(self, max_records: int, timeout: float) -> list[Record]:
        """The next records, as soon as there is one; none after `timeout`, or when all there was
        to pass were gaps."""
        await self._broker.arrive(self._process, "reader")
        clock, cursors = self._broker.clock, self._cursors
        deadline = clock.monotonic() + timeout
        left = timeout
        while True:
            cursors.look()
            records = [] if self._broker.is_away(self._process) else cursors.collect(max_records)
            if records or left <= 0 or cursors.passed_gaps:
                break
            await cursors.wait(left)
            if self._process.halted:
                await self._process.gate()
            left = deadline - clock.monotonic()
        if left == timeout:
            await asyncio.sleep(0)  # nobody reads on and on while others have no turn
        return records

    def position(self, place: TopicPartition) -> int:
        """The next offset to read."""
        cursor = self._cursors.by_place.get(place)
        if cursor is None:
            raise misuse(f"{place.topic}/{place.partition} is not assigned")
        return cursor.position

    async def close(self) -> None:
        """Reads no more."""
        self._cursors.forget(self._cursors.by_place)
