"""All that a keeper knows of one partition: its rows, who waits in it, and what came too early.

What nobody works on leaves the memory (`rest`): ended jobs soon, other jobs when too much is at
hand, those untouched for longest first. Of a job that waits only the index entries stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from streams.broker.port import Record
from streams.clock import Clock
from streams.engine.actions import PutRow
from streams.engine.messages import Delivery, cause_of
from streams.engine.rows import ENDED, Address, Order, head
from streams.engine.turn import Turn
from streams.errors import EventError
from streams.ledger.cold import ColdStore, Unwritable
from streams.ledger.table import LedgerTable
from streams.observe.logs import get_logger
from streams.runtime.holds import HoldIndex
from streams.runtime.timekeeping import LogTime
from streams.runtime.timers import Hold
from streams.runtime.waiting import WaitingJobs
from streams.topology.plan import Plan

ORPHAN_AFTER = 2_000
"""How long (ms) an arrival may be ahead of the row it was written with."""
ENDED_AT_HAND = 256
"""Ended jobs that wait to leave the memory together."""
MOST_BYTES_AT_HAND = 16 * 1024 * 1024
"""Memory for the rows of one partition, above which also jobs that wait leave it."""
SLICE = 500
"""Jobs that leave at a time: some milliseconds."""
AFTER_A_FAULT = 60.0
"""Seconds after which a store that could not be written is tried again."""

log = get_logger(__name__)


class Written(msgspec.Struct):
    """When a row was written, read without the rest; most kinds of rows say it."""

    at: int = 0


_written = msgspec.json.Decoder(Written)


def newest(rows: Mapping[str, bytes]) -> int:
    """When the last of these rows was written (ms)."""
    return max((_written.decode(memoryview(data)[1:]).at for data in rows.values()), default=0)


class Early(msgspec.Struct):
    """A hold event that came before the row it was written with."""

    record: Record
    order: Order
    since: int


class State:
    """One owned partition."""

    def __init__(
        self,
        partition: int,
        clock: Clock,
        time: LogTime,
        plans: Mapping[str, Plan],
        cold: ColdStore | None = None,
    ) -> None:
        self.partition = partition
        self.holds = HoldIndex(plans)
        self.waiting = WaitingJobs()
        self.table = LedgerTable(self._changed, cold)
        self.time = time
        self.to_look_over: deque[str] = deque()
        """Open jobs that their new owner has not looked at yet."""
        self._clock = clock
        self._early: dict[Address, list[Early]] = {}
        self._to_copy: deque[str] | None = None
        self._copy_from = (0, 0)
        self._unwritable_until = 0.0

    def _changed(self, scope: str, part: str, before: bytes | None, data: bytes | None) -> None:
        if part[0] == "@":
            self.holds.changed(scope, part, before, data)  # nobody waits at these
            return
        if before is None and data is not None and b'"WAITING"' not in data:
            return  # most rows: a part has ended where nothing was
        self.holds.changed(scope, part, before, data)
        self.waiting.changed(part, before, data)

    def committed(self, turn: Turn) -> None:
        """The turn is in the log: its rows stand."""
        for action in turn.actions:
            if isinstance(action, PutRow):
                self.table.committed(action.scope, action.part, action.data)

    @property
    def in_memory(self) -> int:
        """Rows at hand and index entries."""
        return self.table.rows_at_hand + len(self.holds)

    def next_due(self) -> int | None:
        """When time alone will change something here."""
        dues = [d for d in (self.holds.next_due(), self.table.next_due()) if d is not None]
        return min(dues, default=None)

    def pop_due(self, now: int, most: int) -> list[Hold]:
        """What has to be looked at now: deadlines, then purges, then jobs never looked at here."""
        found = self.holds.pop_due(now, most)
        found += [(scope, "@job") for scope in self.table.pop_due(now, most - len(found))]
        while self.to_look_over and len(found) < most:
            found.append((self.to_look_over.popleft(), "@look"))
        return found

    def again(self, scope: str, part: str, due: int) -> None:
        """Looks at this hold again when `due`."""
        job = self.table.rows(scope).get("@job") if part == "@job" else None
        if job is not None and head(job).status in ENDED:
            self.holds.keep_ended(scope, due)
        else:
            self.holds.schedule(scope, part, due)

    # -- out of the memory ------------------------------------------------------------------

    def rest(self) -> None:
        """Some of what need not be at hand is not any more. A store that cannot be written costs
        memory, and above a bound new jobs; nothing else."""
        if self._unwritable_until and self._clock.monotonic() < self._unwritable_until:
            return
        try:
            if self.holds.ended >= ENDED_AT_HAND:
                self._put_away_ended()
            if self.table.bytes_at_hand > MOST_BYTES_AT_HAND:
                self.table.put_away(dict.fromkeys(self.table.oldest(SLICE)))
            elif self.table.gone >= ENDED_AT_HAND:
                self.table.copy(())
            self._unwritable_until = 0.0
        except Unwritable as error:
            self._unwritable_until = self._clock.monotonic() + AFTER_A_FAULT
            log.error("ledger.copy_unwritable", code=error.code, error=error.message)

    def _put_away_ended(self) -> None:
        ended = self.holds.take_ended(SLICE)
        try:
            self.table.put_away(ended)
        except Unwritable:
            for scope, due in ended.items():
                self.holds.keep_ended(scope, due)
            raise

    @property
    def is_full(self) -> bool:
        """Whether there is more in memory than `rest` leaves there."""
        return (
            self.holds.ended >= ENDED_AT_HAND or self.table.bytes_at_hand > MOST_BYTES_AT_HAND
        ) and not self._unwritable_until

    def copy_some(self, now: int) -> bool:
        """Goes on with a snapshot, or begins one: everything that is at hand and has changed is
        copied, a slice of it each time. True when it is whole. What changes meanwhile is in the
        ledger behind the position that the snapshot has."""
        if self._to_copy is None:
            self._to_copy = deque(self.table.dirty())
            self._copy_from = (self.table.position, now)
        some = [self._to_copy.popleft() for _ in range(min(SLICE, len(self._to_copy)))]
        left, self._to_copy = self._to_copy, None
        if left:
            self.table.copy(some)
            self._to_copy = left
            return False
        position, taken = self._copy_from
        self.table.copy(some, position=position, taken=taken)
        return True

    # -- events before their rows -----------------------------------------------------------

    def set_aside(self, record: Record, delivery: Delivery) -> bool:
        """K4: keeps an event whose row has not been seen, so that nothing is decided on less."""
        try:
            cause = cause_of(delivery.cause)
        except (TypeError, ValueError):
            raise EventError("not an event of the engine", code="V047", field="cause") from None
        rows = self.table.rows(delivery.scope)
        if cause is None or "@job" not in rows:
            return False
        part, order = cause
        data = rows.get(part)
        if data is not None and head(data).order >= order:
            return False
        early = self._early.setdefault(Address(delivery.scope, part), [])
        early.append(Early(record, order, self.time.now()))
        return True

    def bring_back(self, address: Address) -> list[Record]:
        """A row has been seen: the events that waited for it."""
        waiting = self._early.pop(address, None)
        if not waiting:
            return []
        order = head(self.table.rows(address.scope)[address.part]).order
        left = [each for each in waiting if each.order > order]
        if left:
            self._early[address] = left
        return [each.record for each in waiting if each.order <= order]

    @property
    def has_orphans(self) -> bool:
        """Whether an event has waited for its row for too long."""
        now = self.time.now()
        return any(
            now - each.since > ORPHAN_AFTER for waiting in self._early.values() for each in waiting
        )

    def orphans(self) -> list[Record]:
        """Events whose row does not come: the pair was torn, which no log may do."""
        now = self.time.now()
        found: list[Record] = []
        for address, waiting in list(self._early.items()):
            found += [each.record for each in waiting if now - each.since > ORPHAN_AFTER]
            left = [each for each in waiting if now - each.since <= ORPHAN_AFTER]
            if left:
                self._early[address] = left
            else:
                del self._early[address]
        return found

    @property
    def has_early(self) -> bool:
        return bool(self._early)
