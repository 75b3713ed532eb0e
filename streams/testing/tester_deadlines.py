"""What waits in a pipeline's ledger for its time, as the log's own rows say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streams.broker.port import Log, TopicPartition
from streams.engine.completion import DEAD_RETENTION
from streams.engine.rows import JobRow, decode_job
from streams.inspection.scan import scan
from streams.ledger.table import LedgerTable
from streams.runtime.holds import HoldIndex
from streams.topology.plan import Naming, Plan


class Deadlines:
    """Follows one ledger. Nothing in it comes from a worker's memory: a deadline that a worker
    forgot would still be found here, and seen to pass without effect."""

    def __init__(
        self, log: Log, naming: Naming, plans: Mapping[str, Plan], partitions: int
    ) -> None:
        self._log = log
        self._index = HoldIndex(plans)
        self._tables = {
            TopicPartition(naming.ledger, number): LedgerTable(self._changed)
            for number in range(partitions)
        }
        self.ended: dict[str, JobRow] = {}
        """Job → its last row, of jobs that were purged since."""

    async def read(self) -> None:
        """Knows everything that is in the ledger now."""
        starts = {place: table.position for place, table in self._tables.items()}
        async for record in scan(self._log, list(self._tables), starts):
            if record.key is not None:
                self._tables[record.place].read(record.key, record.value, record.offset)

    def next(self, now: int) -> int | None:
        """The earliest time after `now` at which something is due."""
        for scope, part in self._index.pop_due(now, 1_000_000):
            row = self._job(scope) if part == "@job" else None
            if row is not None and row.ended and row.completed + DEAD_RETENTION > now:
                # An open dead letter keeps its job longer than the pipeline says.
                self._index.schedule(scope, part, row.completed + DEAD_RETENTION)
        return self._index.next_due()

    @property
    def stopping(self) -> bool:
        """Whether a job is being stopped: its end is a matter of seconds that have to pass."""
        return any(
            row.stopping is not None and not row.ended for row in self._jobs() if row is not None
        )

    def _jobs(self) -> Iterator[JobRow | None]:
        for table in self._tables.values():
            for scope in table.scopes():
                yield _head(table, scope)

    def _job(self, scope: str) -> JobRow | None:
        return next((row for t in self._tables.values() if (row := _head(t, scope))), None)

    def _changed(self, scope: str, part: str, before: bytes | None, data: bytes | None) -> None:
        self._index.changed(scope, part, before, data)
        if part == "@job" and data is None and before is not None:
            self.ended[scope] = decode_job(before)


def _head(table: LedgerTable, scope: str) -> JobRow | None:
    data = table.rows(scope).get("@job")
    return None if data is None else decode_job(data)
