"""The ledger of one run in memory: rows as bytes, and sorted for whoever decides by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.engine.actions import PutRow
from streams.engine.rows import Row
from streams.engine.turn import Turn
from streams.engine.view import ScopeRows, read_rows
from streams.runtime.holds import HoldIndex
from streams.topology.plan import Plan

_NO_ROWS: Mapping[str, bytes] = {}


class Rows:
    """The ledger of one scope."""

    def __init__(self, scope: str, plans: Mapping[str, Plan], quiet: frozenset[str]) -> None:
        self.scope = scope
        self.holds = HoldIndex(plans)
        self.all: dict[str, bytes] = {}
        self.view = View()
        self._quiet = quiet
        """Parts that never wait: their rows are none of the index's business."""

    def rows(self, scope: str) -> Mapping[str, bytes]:
        return self.all if scope == self.scope else _NO_ROWS

    def put(self, part: str, data: bytes | None, *, viewed: bool) -> None:
        """The row stands. `viewed`: the view has it since it was decided."""
        before = self.all.get(part)
        if data is None:
            self.all.pop(part, None)
        else:
            self.all[part] = data
        if not viewed:
            self.view.change(part, data)
        if part not in self._quiet:
            self.holds.changed(self.scope, part, before, data)

    def look_anew(self, rows: Mapping[str, bytes]) -> None:
        """The view is that of `rows`, whatever it was told before."""
        self.view = View()
        for part, data in rows.items():
            self.view.change(part, data)


class View:
    """The rows of a scope, sorted, and only what has changed read anew. What `read` gave before is
    left as it was: decisions hold on to it while they change rows."""

    def __init__(self) -> None:
        self._rows = read_rows({})
        self._changed: dict[str, bytes | None] = {}

    def change(self, part: str, data: bytes | None) -> None:
        self._changed[part] = data

    def read(self) -> ScopeRows:
        if self._changed:
            changed, self._changed = self._changed, {}
            self._rows = _merged(self._rows, changed)
        return self._rows


def _merged(rows: ScopeRows, changed: Mapping[str, bytes | None]) -> ScopeRows:
    fresh = read_rows({part: data for part, data in changed.items() if data is not None})
    old = ScopeRows(
        rows.job, rows.input, dict(rows.stages), dict(rows.parked), dict(rows.arrivals),
        dict(rows.fired), dict(rows.dead), dict(rows.facts),
    )  # fmt: skip
    for joins in (old.arrivals, old.fired):
        for path in {part.partition("~")[0] for part in changed} & joins.keys():
            left = {up: row for up, row in joins[path].items() if f"{path}~{up}" not in changed}
            joins[path] = left
            if not left:
                del joins[path]
    for part in changed:
        path, _, kind = part.partition("~")
        if kind == "dead":
            old.dead.pop(path, None)
        elif part.endswith("~"):
            old.parked.pop(path, None)
        else:
            old.stages.pop(part, None)
    return ScopeRows(
        fresh.job or old.job,
        fresh.input if "@input" in changed else old.input,
        {**old.stages, **fresh.stages},
        {**old.parked, **fresh.parked},
        _joined(old.arrivals, fresh.arrivals),
        _joined(old.fired, fresh.fired),
        {**old.dead, **fresh.dead},
        {**old.facts, **fresh.facts},
    )


def _joined(
    old: dict[str, dict[str, Row]], fresh: dict[str, dict[str, Row]]
) -> dict[str, dict[str, Row]]:
    return {**old, **{path: {**old.get(path, {}), **rows} for path, rows in fresh.items()}}


class RunTurn(Turn):
    """The keeper's turn over one scope in memory, which need not decode its rows again and again."""

    def __init__(self, rows: Rows, *arguments: Any, **options: Any) -> None:
        super().__init__(rows, *arguments, **options)
        self._own = rows

    def read(self, scope: str) -> ScopeRows:
        return self._own.view.read() if scope == self._own.scope else super().read(scope)

    def _put(self, action: PutRow) -> None:
        super()._put(action)
        if action.scope == self._own.scope:
            self._own.view.change(action.part, action.data)

    def undo_input(self) -> None:
        super().undo_input()
        self._own.look_anew(self.rows(self._own.scope))
