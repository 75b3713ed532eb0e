"""The ledger as a Faust table: an agent writes its rows into it, and reads everybody's.

Written like any table: a key that an agent sets goes to the table's changelog topic, which is the
pipeline's ledger. Read by the reader of `broker.port` instead of Faust's recovery: that one stops
for ever at the mark that ends a transaction, takes 100 s for a million rows, and would never see
what the keeper writes afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Any

import faust
from faust.types import FutureMessage

from streams.broker.port import Log, Outgoing, Reader, Record, TopicPartition
from streams.clock import Clock
from streams.engine import rows
from streams.engine.rows import Address, AnyRow
from streams.errors import LogUnavailable
from streams.observe.logs import get_logger
from streams.runtime.commit import partition_of
from streams.topology.plan import Naming

log = get_logger(__name__)

POLL = 0.1
"""Seconds until a partition that was just assigned is noticed."""


class Ledger(faust.Table[bytes, bytes]):
    """Rows of the partitions whose stages this process runs: `job|part` → the ledger's bytes."""

    def __init__(self, app: faust.App, naming: Naming) -> None:
        topic = app.topic(
            naming.ledger,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            compacting=True,
        )
        super().__init__(
            app,
            name=f"{naming.pipeline}-ledger",
            store="memory://",
            key_type=bytes,
            value_type=bytes,
            changelog_topic=topic,
        )
        self._topic_name = naming.ledger
        self._written: list[FutureMessage] = []
        self._wanted: frozenset[int] = frozenset()
        self._ends: dict[int, int] = {}
        """Of partitions that are still being read in: where they ended when they were taken."""
        self._whole: dict[int, asyncio.Event] = {}

    def row(self, job: str, part: str = "@job") -> AnyRow | None:
        """A row, decoded; the job's own by default."""
        data = self.data.get(Address(job, part).key)
        return rows.decode(part, data) if data is not None else None

    async def write(self, records: Iterable[Outgoing]) -> None:
        """These rows stand in the log and in the table, but for those it has as new already."""
        for record in records:
            assert record.key is not None and record.value is not None
            if self._is_news(record.key, record.value):
                self[record.key] = record.value
        written, self._written = self._written, []
        for each in written:
            await each

    def send_changelog(self, *args: Any, **options: Any) -> FutureMessage:
        """As any table's; remembered, for a row that was not written must not be acknowledged."""
        sent = super().send_changelog(*args, **options)
        self._written.append(sent)
        return sent

    def _is_news(self, key: bytes, value: bytes) -> bool:
        there = self.data.get(key)
        return there is None or rows.head(value).order > rows.head(there).order

    # -- reading ----------------------------------------------------------------------------

    def want(self, partitions: Collection[int]) -> None:
        """From now on it holds the rows of these partitions."""
        self._wanted = frozenset(partitions)

    async def has(self, partition: int) -> None:
        """Returns when it holds all that stood in the partition when that was assigned."""
        await self._whole.setdefault(partition, asyncio.Event()).wait()

    async def follow(self, source: Log, partitions: int, clock: Clock) -> None:
        """Keeps up with the partitions that are wanted, until it is cancelled."""
        reader = source.reader()
        held: frozenset[int] = frozenset()
        try:
            while True:
                try:
                    if held != self._wanted:
                        held = await self._change(source, reader, held, partitions)
                    for record in await reader.poll(1_000, POLL):
                        self._take(record)
                    self._tell_whole(reader)
                except LogUnavailable as error:
                    log.warning("faust.ledger_waits", code=error.code, error=error.message)
                    await clock.sleep(1.0)
        finally:
            await reader.close()

    async def _change(
        self, source: Log, reader: Reader, held: frozenset[int], partitions: int
    ) -> frozenset[int]:
        wanted = self._wanted
        marks = await source.watermarks([self._place(each) for each in wanted - held])
        for each in held - wanted:
            self._forget(each, partitions)
        for each in wanted - held:
            self._ends[each] = marks[self._place(each)].high
        kept = {self._place(each): reader.position(self._place(each)) for each in held & wanted}
        reader.assign(kept | {self._place(each): 0 for each in wanted - held})
        return wanted

    def _forget(self, partition: int, partitions: int) -> None:
        self._whole.pop(partition, None)
        self._ends.pop(partition, None)
        theirs = [
            key
            for key in self.data.data
            if partition_of(Address.of(key).scope, partitions) == partition
        ]
        for key in theirs:
            del self.data.data[key]

    def _take(self, record: Record) -> None:
        key, value = record.key or b"", record.value
        if value is None:
            self.data.data.pop(key, None)
        elif self._is_news(key, value):
            self.data.data[key] = value

    def _tell_whole(self, reader: Reader) -> None:
        read = [p for p, end in self._ends.items() if reader.position(self._place(p)) >= end]
        for partition in read:
            del self._ends[partition]
            self._whole.setdefault(partition, asyncio.Event()).set()

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic_name, partition)
