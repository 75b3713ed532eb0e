"""One keeper transaction in the making.

A turn reads the rows of its partition through everything it has decided so far, and gathers what
those decisions ask for. Nothing of it is visible outside until the runtime has committed it; a
turn that could not be committed is thrown away and decided again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from streams.engine import payload as payloads
from streams.engine.actions import Action, Publish, PutRow
from streams.engine.flow import Flow
from streams.engine.messages import Delivery, Origin, read
from streams.engine.payload import Payload
from streams.engine.priority import NORMAL
from streams.engine.rows import (
    OWNED,
    SHARED,
    AnyRow,
    JobRow,
    Parked,
    Row,
    decode_job,
    decode_row,
    encode,
    head,
)
from streams.engine.view import ScopeRows, read_rows
from streams.errors import NotFoundError
from streams.event import Event
from streams.topology.plan import Naming, Plan

INLINE_ARRIVALS = 64
"""Keeper-run parts passed within one input; the rest goes through the hold topic."""


FEW_ROWS = 8
"""As many are decoded again sooner than they are looked up."""

_ABSENT = object()


class Table(Protocol):
    """Committed rows of one partition."""

    def rows(self, scope: str) -> Mapping[str, bytes]: ...


class Turn:
    """Reads through to the table, gathers rows and actions."""

    def __init__(
        self,
        table: Table,
        naming: Naming,
        plans: Mapping[str, Plan],
        *,
        active: str,
        shared: Mapping[str, Any],
        now: int,
        worker: str = "",
        blobs: Mapping[str, Any] | None = None,
    ) -> None:
        self.naming = naming
        self.now = now
        self.worker = worker
        self.shared = shared
        self.blobs = blobs or {}
        self.actions: list[Action] = []
        self.arrivals: deque[Delivery] = deque()
        self.echoes: list[tuple[str, str, str]] = []
        self._table = table
        self._plans = plans
        self._active = active
        self._changed: dict[str, dict[str, bytes | None]] = {}
        self._seen: dict[str, ScopeRows] = {}
        """Scopes that were read since the input began, and not changed since."""
        self._undo: list[tuple[str, str, Any]] = []
        self._kept = 0
        self._kept_echoes = 0
        self._inline = 0
        self._changes: dict[str, int] = {}
        self._judged: dict[tuple[str, str], int] = {}

    def plan(self, digest: str) -> Plan:
        try:
            return self._plans[digest]
        except KeyError:
            raise NotFoundError(f"no plan {digest} in the control topic", code="K040") from None

    @property
    def active(self) -> Plan:
        """The plan that new jobs begin with."""
        return self.plan(self._active)

    def rows(self, scope: str) -> Mapping[str, bytes]:
        """All rows of a scope, as this turn leaves them."""
        changed = self._changed.get(scope)
        committed = self._table.rows(scope)
        if not changed:
            return committed
        merged = {**committed, **changed}
        return {part: data for part, data in merged.items() if data is not None}

    def read(self, scope: str) -> ScopeRows:
        """The rows of a scope, decoded; not to be changed."""
        found = self._seen.get(scope)
        if found is None:
            rows = self.rows(scope)
            found = read_rows(rows, OWNED if len(rows) <= FEW_ROWS else SHARED)
            self._seen[scope] = found
        return found

    def job(self, scope: str) -> JobRow | None:
        """The job's own row, without a look at the others: a thousand ways into one join must not
        be read a thousand times."""
        data = self._data(scope, "@job")
        return None if data is None else decode_job(data)

    def row(self, scope: str, part: str) -> Row | None:
        """One row of a part or of a companion."""
        data = self._data(scope, part)
        return None if data is None else decode_row(data)

    def _data(self, scope: str, part: str) -> bytes | None:
        changed = self._changed.get(scope, {})
        return changed[part] if part in changed else self._table.rows(scope).get(part)

    def put(self, scope: str, part: str, row: AnyRow, *, closing: bool = False) -> None:
        self._put(PutRow(scope, part, encode(row, closing=closing)))

    def drop(self, scope: str, part: str) -> None:
        self._put(PutRow(scope, part, None))

    # -- companions -------------------------------------------------------------------------

    def arrival(self, scope: str, path: str, via: str) -> Row | None:
        """What came to a join from one of its ways in."""
        return self.row(scope, f"{path}~{via}")

    def keep_arrival(self, scope: str, path: str, via: str, row: Row) -> None:
        self.put(scope, f"{path}~{via}", row)

    def spend(self, scope: str, path: str, here: Mapping[str, Row]) -> None:
        """All that had arrived at the join has gone on from it."""
        for up, row in here.items():
            self.put(scope, f"{path}~{up}", spent(row, self.now))

    def sweep(self, scope: str, rows: ScopeRows) -> None:
        """Drops the companions that only an open job needs."""
        for path in rows.parked:
            self.drop(scope, f"{path}~")
        for table in (rows.arrivals, rows.fired):
            for path, found in table.items():
                for up in found:
                    self.drop(scope, f"{path}~{up}")

    def payload(self, parked: Parked) -> Payload:
        """What a parked event carries."""
        return payloads.decode(bytes(parked.payload))

    def _put(self, action: PutRow) -> None:
        self._seen.pop(action.scope, None)
        changed = self._changed.setdefault(action.scope, {})
        self._undo.append((action.scope, action.part, changed.get(action.part, _ABSENT)))
        if _shows_in_gates(action):
            self._changes[action.scope] = self._changes.get(action.scope, 0) + 1
        changed[action.part] = action.data
        self.actions.append(action)

    def judged(self, scope: str, part: str) -> None:
        """The gate has been looked at with everything this turn has changed so far."""
        self._judged[scope, part] = self._changes.get(scope, 0)

    def changed_since_judged(self, scope: str, part: str) -> bool:
        """Whether this turn has changed something since that the gate may read."""
        return self._judged.get((scope, part), 0) < self._changes.get(scope, 0)

    def holds_gate(self, scope: str) -> bool:
        """Whether this turn has brought the scope to a gate or sleep that no index knows yet: a row
        read before the commit has to be shown to it."""
        changed = self._changed.get(scope)
        return changed is not None and any(
            data is not None and not part.startswith("@") and "~" not in part
            and head(data).status == "WAITING"
            for part, data in changed.items()
        )  # fmt: skip

    def has_parts(self, scope: str) -> bool:
        """Whether there is a row of any part of the plan, or of what came to one."""
        return any(not part.startswith("@") for part in self.rows(scope))

    def do(self, action: Action) -> None:
        if isinstance(action, PutRow):
            self._put(action)
        else:
            self.actions.append(action)

    def say_done(self, scope: str, event: Callable[[], Event]) -> None:
        """Tells the world that the job has ended."""
        self.actions.append(Publish(self.naming.done, scope, event()))

    def flow(self, plan: Plan, origin: Origin) -> Flow:
        """A step of one job, whose arrivals come back to this turn."""
        return Flow(
            plan, self.naming, origin, self.now,
            worker=self.worker, blobs=self.blobs, arrive=self._arrive,
        )  # fmt: skip

    def _arrive(self, event: Event) -> None:
        self.arrivals.append(read(event))

    def absorb(self, flow: Flow) -> None:
        """Takes over what a flow asks for."""
        for action in flow.actions:
            self.do(action)
        flow.actions.clear()
        self.echoes += [(flow.origin.root, path, text) for path, text in flow.echoes]
        flow.echoes.clear()

    def may_inline(self) -> bool:
        """Whether one more arrival may be handled within this input."""
        self._inline += 1
        return self._inline <= INLINE_ARRIVALS

    def next_input(self) -> None:
        """The next input begins: what came before stands."""
        self._inline = 0
        self._seen.clear()
        self._undo.clear()
        self._kept = len(self.actions)
        self._kept_echoes = len(self.echoes)

    def undo_input(self) -> None:
        """Forgets what this input decided: it needs a blob first, or it failed."""
        for scope, part, before in reversed(self._undo):
            if before is _ABSENT:
                del self._changed[scope][part]
            else:
                self._changed[scope][part] = before
        del self.actions[self._kept :]
        del self.echoes[self._kept_echoes :]
        self.arrivals.clear()
        self.next_input()


def spent(row: Row, at: int) -> Row:
    """The arrival once its join has fired."""
    return msgspec.structs.replace(row, status="SUCCESS", phase=2, wait=None, at=at)


def _shows_in_gates(action: PutRow) -> bool:
    """Facts and parts that ended; not the keeper's own book-keeping."""
    if action.part.startswith("@"):
        return action.part.startswith("@fact/")
    return "~" not in action.part and (action.data is None or head(action.data).status != "WAITING")


def origin_of_job(scope: str, job: JobRow) -> Origin:
    return Origin(
        scope,
        job.root or scope,
        job.epoch,
        job.plan,
        tenant=job.tenant,
        priority=job.priority,
    )


def origin_of_row(scope: str, row: Row, job: JobRow | None) -> Origin:
    wait = row.wait
    return Origin(
        scope,
        row.root or scope,
        row.epoch,
        row.plan,
        depth=wait.event.depth if wait else 0,
        tenant=job.tenant if job else "",
        trace=wait.event.trace if wait else "",
        priority=job.priority if job else NORMAL,
    )
