"""Settle: which parts are over, which can never start, and whether a join or the job is complete.

- A part is *ended* by its row, *dead* if it has no row and all its ways in are dead, else *open*.
- A way u→v is *live* if u ended with v in `taken`, *dead* if u is dead or ended without it,
  else *open*.
- A join fires when no way in is open, at least one is live, and each live one has arrived.
- A scope is complete when no part is open; it failed if a part failed.

Rows below a part's floor (the highest epoch among the restart points that reach it) do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from streams.engine.rows import ENDED, Row
from streams.topology.plan import Plan

PartState = Literal["ended", "dead", "open"]

WIDE = 8
"""From so many ways on, asking whether one was taken needs a set: a thousand ways have a million
pairs."""


class Settled(msgspec.Struct, frozen=True):
    """The state of every part of a scope."""

    states: dict[str, PartState]
    failed: tuple[str, ...]
    cancelled: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return "open" not in self.states.values()

    @property
    def open(self) -> tuple[str, ...]:
        return tuple(path for path, state in self.states.items() if state == "open")


def floors(plan: Plan, restarts: Mapping[str, int]) -> dict[str, int]:
    """Part → lowest epoch whose rows count."""
    found: dict[str, int] = {}
    for point, epoch in restarts.items():
        for path in plan.reach.get(point, ()):
            found[path] = max(found.get(path, 0), epoch)
    return found


def settle(plan: Plan, rows: Mapping[str, Row], floor: Mapping[str, int]) -> Settled:
    """Judges all parts of one scope by the rows at hand."""
    states: dict[str, PartState] = {}
    failed: list[str] = []
    cancelled: list[str] = []
    taken: dict[str, frozenset[str]] = {}
    for path in plan.order:
        row = rows.get(path)
        if row is not None and row.status in ENDED:
            if not floor or row.epoch >= floor.get(path, 0):
                states[path] = "ended"
                if row.status == "FAILED":
                    failed.append(path)
                elif row.status == "CANCELLED":
                    cancelled.append(path)
                continue
        ways = plan.incoming[path]
        states[path] = "dead" if ways else "open"
        for up, _ in ways:
            if states[up] == "ended" and up not in taken:
                taken[up] = frozenset(rows[up].taken)
            if states[up] == "open" or (states[up] == "ended" and path in taken[up]):
                states[path] = "open"
                break
    return Settled(states, tuple(failed), tuple(cancelled))


def way(
    source: str, to: str, states: Mapping[str, PartState], rows: Mapping[str, Row]
) -> Literal["live", "dead", "open"]:
    """The state of the way from `source` to `to`."""
    if states[source] == "ended":
        return "live" if to in rows[source].taken else "dead"
    return "dead" if states[source] == "dead" else "open"


def join_is_ready(
    plan: Plan,
    path: str,
    settled: Settled,
    rows: Mapping[str, Row],
    arrived: frozenset[str],
) -> bool:
    """Whether the part with several ways in may start now."""
    if settled.states[path] != "open":
        return False
    reached = False
    for up, _ in plan.incoming[path]:
        state = way(up, path, settled.states, rows)
        if state == "open" or (state == "live" and up not in arrived):
            return False
        reached |= state == "live"
    return reached


def is_closing(plan: Plan, path: str, row: Row) -> bool:
    """Whether this row may complete a join or the job, so that the keeper has to settle."""
    if row.status in ("FAILED", "CANCELLED"):
        return True
    if not row.ended:
        return False
    edges = plan.by_path[path].edges
    taken = row.taken if len(edges) < WIDE else frozenset(row.taken)
    for edge in edges:
        if edge.to not in taken:
            return True
    return not edges
