"""The ledger of one run in memory: rows as objects, sorted for whoever decides by them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

from streams.engine.actions import Action, PutRow
from streams.engine.completion import next_due
from streams.engine.flow import Flow
from streams.engine.messages import Delivery, Origin
from streams.engine.payload import Payload
from streams.engine.rows import (
    AnyRow,
    FactRow,
    InputRow,
    JobRow,
    Parked,
    Row,
    decode,
    encode,
    is_closing,
)
from streams.engine.turn import Turn, spent
from streams.engine.view import ScopeRows
from streams.event import Event
from streams.runtime.holds import HoldIndex
from streams.runtime.inprocess_flow import Keep, LocalFlow, Over, Post
from streams.topology.plan import Naming, Plan

_NO_WAYS: Mapping[str, Row] = MappingProxyType({})
_GROUPS = ("stages", "parked", "arrivals", "fired", "dead", "facts")


class Rows:
    """The ledger of one scope."""

    def __init__(self, scope: str, plan: Plan, quiet: frozenset[str]) -> None:
        self.scope = scope
        self.index: HoldIndex | None = None
        """What waits for a time or a change. Only where something is held: most runs never wait."""
        self.all: dict[str, AnyRow] = {}
        """All but what arrived at joins: of those there are many, and nothing is left at the end."""
        self.closing: set[str] = set()
        """Parts whose row may complete the job."""
        self._plan = plan
        self._quiet = quiet
        """Parts that never wait: their rows are none of the index's business."""
        self._sorted = ScopeRows(None, InputRow(), {}, {}, {}, {}, {}, {})
        self._own: set[str | tuple[str, str]] = set(_GROUPS)
        """Tables of `_sorted` that nobody else has seen since they were copied."""

    def rows(self, scope: str) -> Mapping[str, bytes]:
        """The rows as a log would have them."""
        if scope != self.scope:
            return {}
        tables = [table for table in (self._sorted.arrivals, self._sorted.fired) if table]
        found = dict(self.all) if tables else self.all
        for table in tables:
            for path, ways in table.items():
                found.update((f"{path}~{up}", row) for up, row in ways.items())
        return Encoded(found, self.closing)

    def get(self, part: str) -> AnyRow | None:
        path, _, up = part.partition("~")
        return self.way(path, up) if up and up != "dead" else self.all.get(part)

    def read(self) -> ScopeRows:
        """The rows by what they are. It stays as it is: decisions hold on to what they read while
        they change rows."""
        self._own.clear()
        return self._sorted

    def put(self, part: str, row: AnyRow | None, *, closing: bool = False) -> AnyRow | None:
        """The row stands, or None does away with it. Gives what stood there before."""
        quiet = part in self._quiet
        path, companion, kind = (part, "", "") if quiet else part.partition("~")
        if kind and kind != "dead":
            return self._put_way(path, kind, cast("Row | None", row))
        before = self.all.get(part)
        if row is None:
            self.all.pop(part, None)
        else:
            self.all[part] = row
        if closing:
            self.closing.add(part)
        elif part in self.closing:
            self.closing.remove(part)
        if quiet:
            table = self._sorted.stages if "stages" in self._own else self._table("stages")
            _set(table, part, row)
            return before
        if not companion and path[0] == "@":
            self._sort_own(part, row)
        elif not companion:
            _set(self._table("stages"), part, row)
        elif not kind:
            _set(self._table("parked"), path, row)
        else:
            _set(self._table("dead"), path, row)
        self._index(part, before, row)
        return before

    @property
    def holds(self) -> HoldIndex:
        """What waits for a time or for something to change."""
        if self.index is None:
            self.index = HoldIndex({self._plan.digest: self._plan})
        return self.index

    @property
    def has_gates(self) -> bool:
        return self.index is not None and self.index.has_gates(self.scope)

    def next_due(self) -> int | None:
        return None if self.index is None else self.index.next_due()

    def _index(self, part: str, before: AnyRow | None, row: AnyRow | None) -> None:
        """Tells the index of holds about rows that time or facts may change."""
        if part == "@job":
            job = cast("JobRow | None", row)
            due = None if job is None or job.ended else next_due(job, self._plan)
            if due is not None or self.index is not None:
                self.holds.schedule(self.scope, part, due)
        elif part[0] != "@" and not part.endswith("~dead"):
            old = None if before is None else encode(before)
            self.holds.changed(self.scope, part, old, None if row is None else encode(row))

    # -- sorted -----------------------------------------------------------------------------

    def _sort_own(self, part: str, row: AnyRow | None) -> None:
        if part == "@job":
            self._fresh().job = cast("JobRow | None", row)
        elif part == "@input":
            self._fresh().input = InputRow() if row is None else cast(InputRow, row)
        elif part.startswith("@fact/"):
            if row is None:
                self._table("facts").pop(part[6:], None)
            else:
                self._table("facts")[part[6:]] = cast(FactRow, row).value

    # -- ways into joins --------------------------------------------------------------------

    def way(self, path: str, up: str) -> Row | None:
        """What came to the join from there."""
        rows = self._sorted
        waiting = rows.arrivals.get(path)
        if waiting is not None and up in waiting:
            return waiting[up]
        return rows.fired.get(path, _NO_WAYS).get(up)

    def arrive(self, path: str, up: str, row: Row) -> None:
        """It waits at its join, where nothing of this way stood."""
        self._ways("arrivals", path)[up] = row

    def spend(self, path: str, spent: dict[str, Row]) -> None:
        """These have gone on from their join: all that were there."""
        self._table("arrivals").pop(path, None)
        self._own.discard(("arrivals", path))
        self._ways("fired", path).update(spent)

    def clear_ways(self) -> None:
        rows = self._fresh()
        rows.arrivals, rows.fired = {}, {}
        self._own -= {key for key in self._own if isinstance(key, tuple)}
        self._own |= {"arrivals", "fired"}

    def _put_way(self, path: str, up: str, row: Row | None) -> Row | None:
        """An arrival waits at its join, or has gone on from it."""
        before = self.way(path, up)
        now = _group_of(row)
        group = _group_of(before)
        if group and group != now:
            ways = self._ways(group, path)
            ways.pop(up, None)
            if not ways:
                del self._table(group)[path]
                self._own.discard((group, path))
        if row is not None:
            self._ways(now, path)[up] = row
        return before

    def _fresh(self) -> ScopeRows:
        """Rows that nobody else has seen."""
        if not self._own:
            rows = self._sorted
            self._sorted = ScopeRows(
                rows.job, rows.input, rows.stages, rows.parked, rows.arrivals, rows.fired,
                rows.dead, rows.facts,
            )  # fmt: skip
            self._own.add("")
        return self._sorted

    def _table(self, group: str) -> dict[str, Any]:
        if group not in self._own:
            rows = self._fresh()
            setattr(rows, group, dict(getattr(rows, group)))
            self._own.add(group)
        table: dict[str, Any] = getattr(self._sorted, group)
        return table

    def _ways(self, group: str, path: str) -> dict[str, Row]:
        key = (group, path)
        if key in self._own:
            ways: dict[str, Row] = getattr(self._sorted, group)[path]
            return ways
        table = self._table(group)
        table[path] = ways = dict(table.get(path, ()))
        self._own.add(key)
        return ways


def _group_of(row: Row | None) -> str:
    if row is None:
        return ""
    return "arrivals" if row.status == "WAITING" else "fired"


def _set(table: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value


class Encoded(Mapping[str, bytes]):
    """Rows as bytes, made when they are looked at."""

    def __init__(self, rows: Mapping[str, AnyRow], closing: Collection[str]) -> None:
        self._rows = rows
        self._closing = closing

    def __getitem__(self, part: str) -> bytes:
        return encode(self._rows[part], closing=part in self._closing)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class RunTurn(Turn):
    """The keeper's turn over one run in memory: rows change at once, and can be changed back."""

    def __init__(
        self,
        rows: Rows,
        post: Post,
        naming: Naming,
        plans: Mapping[str, Plan],
        active: str,
        shared: Mapping[str, Any],
        now: int,
        worker: str,
        blobs: Mapping[str, Any],
        *,
        may_undo: bool,
    ) -> None:
        super().__init__(rows, naming, plans, active=active, shared=shared, now=now, worker=worker)
        self.blobs = blobs
        """Grows while the turn lasts: what is missing is fetched, and decided again."""
        self._may_undo = may_undo
        """Only for a value that has to be fetched first is anything decided twice."""
        self._own = rows
        self._post = post
        self._before: list[tuple[str, AnyRow | None, bool]] = []

    def rows(self, scope: str) -> Mapping[str, bytes]:
        return self._own.rows(scope)

    def read(self, scope: str) -> ScopeRows:  # noqa: ARG002
        return self._own.read()

    def job(self, scope: str) -> JobRow | None:  # noqa: ARG002
        return cast("JobRow | None", self._own.all.get("@job"))

    def row(self, scope: str, part: str) -> Row | None:  # noqa: ARG002
        return cast("Row | None", self._own.get(part))

    def arrival(self, scope: str, path: str, via: str) -> Row | None:  # noqa: ARG002
        return self._own.way(path, via)

    def keep_arrival(self, scope: str, path: str, via: str, row: Row) -> None:
        if self._may_undo:
            super().keep_arrival(scope, path, via, row)
        else:
            self._own.arrive(path, via, row)

    def spend(self, scope: str, path: str, here: Mapping[str, Row]) -> None:
        if self._may_undo:
            super().spend(scope, path, here)
        else:
            self._own.spend(path, {up: spent(row, self.now) for up, row in here.items()})

    def sweep(self, scope: str, rows: ScopeRows) -> None:
        if self._may_undo:
            super().sweep(scope, rows)
            return
        for path in rows.parked:
            self.drop(scope, f"{path}~")
        if rows.arrivals or rows.fired:
            self._own.clear_ways()

    def payload(self, parked: Parked) -> Payload:
        known = self._post.payloads.pop(parked.parent, None)
        return super().payload(parked) if known is None else known

    def put(self, scope: str, part: str, row: AnyRow, *, closing: bool = False) -> None:
        self._keep(scope, part, row, closing)

    def drop(self, scope: str, part: str) -> None:
        self._keep(scope, part, None)

    def do(self, action: Action) -> None:
        if isinstance(action, Keep):
            self._keep(self._own.scope, action.part, action.row, action.closing)
        elif isinstance(action, PutRow):
            data = action.data
            row = None if data is None else decode(action.part, data)
            self._keep(action.scope, action.part, row, data is not None and is_closing(data))
        else:
            self.actions.append(action)

    def _keep(self, scope: str, part: str, row: AnyRow | None, closing: bool = False) -> None:
        own = self._own
        was_closing = part in own.closing
        before = own.put(part, row, closing=closing)
        if self._may_undo:
            self._before.append((part, before, was_closing))
        if "~" not in part and _shows_in_gates(part, row):
            self._changes[scope] = self._changes.get(scope, 0) + 1

    def say_done(self, scope: str, event: Callable[[], Event]) -> None:  # noqa: ARG002
        self.actions.append(Over())

    def holds_gate(self, scope: str) -> bool:  # noqa: ARG002
        return self._own.has_gates

    def may_inline(self) -> bool:
        """Nothing here has to fit into one transaction."""
        return True

    def flow(self, plan: Plan, origin: Origin) -> Flow:
        return LocalFlow(
            plan, self.naming, origin, self.now,
            post=self._post, worker=self.worker, blobs=self.blobs, arrived=self._take,
        )  # fmt: skip

    def _take(self, delivery: Delivery) -> None:
        self.arrivals.append(delivery)

    def next_input(self) -> None:
        super().next_input()
        self._before.clear()

    def undo_input(self) -> None:
        for part, row, closing in reversed(self._before):
            self._own.put(part, row, closing=closing)
        super().undo_input()


def _shows_in_gates(part: str, row: AnyRow | None) -> bool:
    """Facts and parts that ended; not the keeper's own book-keeping, as companions are."""
    if part.startswith("@"):
        return part.startswith("@fact/")
    return row is None or cast(Row, row).status != "WAITING"
