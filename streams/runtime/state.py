"""All that a keeper knows of one partition: its rows, who waits in it, and what came too early."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streams.broker.port import Record
from streams.clock import Clock
from streams.engine.actions import PutRow
from streams.engine.messages import Delivery, cause_of
from streams.engine.rows import Address, Order, head
from streams.engine.turn import Turn
from streams.errors import EventError
from streams.ledger.table import LedgerTable
from streams.runtime.holds import HoldIndex
from streams.runtime.timekeeping import PartitionTime
from streams.topology.plan import Plan

ORPHAN_AFTER = 2_000
"""How long (ms) an arrival may be ahead of the row it was written with."""


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

    def __init__(self, partition: int, clock: Clock, plans: Mapping[str, Plan]) -> None:
        self.partition = partition
        self.holds = HoldIndex(plans)
        self.table = LedgerTable(self.holds.changed)
        self.time = PartitionTime(clock)
        self._early: dict[Address, list[Early]] = {}

    def committed(self, turn: Turn) -> None:
        """The turn is in the log: its rows stand."""
        for action in turn.actions:
            if isinstance(action, PutRow):
                self.table.committed(action.scope, action.part, action.data)

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
