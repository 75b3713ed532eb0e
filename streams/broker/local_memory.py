"""The records of a log in memory: what a file keeps as rows, and the tail of them, at once.

Everything else of the log is in SQLite in either case; only records are so many that it shows.
Nothing here waits, so whoever writes has added its records before anybody else can look.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from streams.broker.local_records import Appended
from streams.broker.port import Record

OFFSETS_PER_STEP = 2_000
"""What is looked at in one step of compaction: about a millisecond."""


class Newest(NamedTuple):
    """The newest record of a key; a tombstone goes when its time has come."""

    offset: int
    expires: int | None


class Run(msgspec.Struct):
    """The records of one partition by offset, gaps and all."""

    records: dict[int, Record] = {}
    first: int = 0
    """Below is nothing."""
    clean: int = 0
    """Compacted up to here: each record is looked at once."""
    newest: dict[bytes, Newest] = {}
    tombstones: dict[bytes, int] = {}
    """Keys whose newest record is one, and when it goes."""

    def clear_below(self, low: int) -> int:
        """These are gone; how many."""
        removed = 0
        for offset in range(self.first, low):
            record = self.records.pop(offset, None)
            if record is not None:
                removed += 1
                self._forget(record)
        self.first = max(self.first, low)
        return removed

    def _forget(self, record: Record) -> None:
        key = record.key
        if key is not None and key in self.newest and self.newest[key].offset == record.offset:
            del self.newest[key]
            self.tombstones.pop(key, None)

    def compact(self, end: int, tombstones_ms: int) -> int:
        """Of what was written since, only the newest record of each key is left, a step's worth
        each time; how many are gone."""
        removed = 0
        stop = min(end, self.clean + OFFSETS_PER_STEP)
        for offset in range(max(self.clean, self.first), stop):
            record = self.records.get(offset)
            if record is None or record.key is None:
                continue
            before = self.newest.get(record.key)
            if before is not None:
                removed += self.records.pop(before.offset, None) is not None
                self.tombstones.pop(record.key, None)
            expires = record.timestamp + tombstones_ms if record.value is None else None
            self.newest[record.key] = Newest(offset, expires)
            if expires is not None:
                self.tombstones[record.key] = expires
        self.clean = stop
        return removed

    def drop_tombstones(self, now: int) -> int:
        """Those whose time has come are gone; how many."""
        over = [key for key, expires in self.tombstones.items() if expires <= now]
        for key in over:
            del self.tombstones[key]
            self.records.pop(self.newest.pop(key).offset, None)
        return len(over)

    def first_since(self, stamp: int, end: int) -> int:
        """The first offset that was appended then or later."""
        for offset in range(self.first, end):
            record = self.records.get(offset)
            if record is not None and record.timestamp >= stamp:
                return offset
        return end


class MemoryRecords:
    """All records by the ids of their partitions."""

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}

    def add(self, appended: Appended) -> None:
        """These stand at the end of their partition."""
        run = self.runs.get(appended.id)
        if run is None:
            run = self.runs[appended.id] = Run()
        run.records.update({record.offset: record for record in appended.records})

    def first_since(self, pid: int, stamp: int, end: int) -> int:
        """The first offset of a partition that was appended then or later."""
        run = self.runs.get(pid)
        return end if run is None else run.first_since(stamp, end)

    def get(self, pid: int, offset: int, end: int, limit: int) -> list[Record]:
        """The first `limit` records from `offset`, below `end`."""
        run = self.runs.get(pid)
        if run is None:
            return []
        records, found, step = run.records, list[Record](), limit
        while offset < end and len(found) < limit:
            after = min(end, offset + step)
            found += [records[at] for at in range(offset, after) if at in records]
            offset, step = after, 2 * step  # compaction may have left little
        return found[:limit]
