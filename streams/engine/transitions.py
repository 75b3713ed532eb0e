"""The life of every kind of ledger row, as one table.

Rules beside the table: each row has one writer at a time; versions rise in (epoch, turn, phase, n);
a row that has ended in one (epoch, turn) changes no more in it; only a purge deletes another's row.

The diagrams of docs/ledger.md are drawn from it. Every line can happen: a suite makes each of them
happen, and holds whatever else is written, in any test, against the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, cast

from streams.engine.rows import ENDED, Status, head
from streams.topology.plan import KEEPER_RUN, USER_CODE, Plan

RowKind = Literal[
    "stage", "folded", "held", "delayed", "arrival", "dead", "job", "input", "fact", "early"
]
Writer = Literal["agent", "keeper"]
State = Status | Literal["KEPT"] | None
"""What a row says; KEPT for rows without a status, None where there is no row."""

NONE: frozenset[State] = frozenset({None})
WAITING: frozenset[State] = frozenset({"WAITING"})
RUNNING: frozenset[State] = frozenset({"RUNNING"})
KEPT: frozenset[State] = frozenset({"KEPT"})
RAN: frozenset[State] = frozenset({"SUCCESS", "SKIPPED", "FAILED"})
ANY_END: frozenset[State] = frozenset(cast("frozenset[State]", ENDED))
AGENT: frozenset[Writer] = frozenset({"agent"})
KEEPER: frozenset[Writer] = frozenset({"keeper"})
BOTH = AGENT | KEEPER


class Change(NamedTuple):
    """What happened to one row. `higher`: the new version is of a higher (epoch, turn)."""

    row: RowKind
    before: State
    after: State
    higher: bool
    writer: Writer | None = None


class Transition(NamedTuple):
    """One line. `lower`: also from any version of a lower (epoch, turn)."""

    row: RowKind
    before: frozenset[State]
    lower: bool
    trigger: str
    after: State
    writer: frozenset[Writer]

    def allows(self, change: Change) -> bool:
        """Whether this line is what happened."""
        return (
            self.row == change.row
            and self.after == change.after
            and (change.writer is None or change.writer in self.writer)
            and (
                change.before in self.before
                or (self.lower and change.higher and change.before is not None)
            )
        )

    def changes(self) -> Iterator[Change]:
        """Every way in which this line can happen, one of them for each writer; whatever stood in
        a lower turn counts as one: SUCCESS stands for it."""
        for writer in sorted(self.writer):
            for before in sorted(self.before, key=str):
                yield Change(self.row, before, self.after, higher=False, writer=writer)
            if self.lower:
                yield Change(self.row, "SUCCESS", self.after, higher=True, writer=writer)


TRANSITIONS: tuple[Transition, ...] = (
    # A part with user code. RUNNING may be said again by whoever takes the turn over.
    Transition("stage", NONE | RUNNING, True, "ran over 1 s", "RUNNING", AGENT),
    Transition("stage", NONE | RUNNING, True, "ok", "SUCCESS", AGENT),
    Transition("stage", NONE | RUNNING, True, "skip, `if` is false", "SKIPPED", AGENT),
    Transition("stage", NONE | RUNNING, True, "retry, fail with attempts left", "RETRYING", AGENT),
    Transition("stage", NONE | RUNNING, True, "last fail", "FAILED", AGENT),
    Transition("stage", NONE | RUNNING, True, "cancel, stop seen", "CANCELLED", AGENT),
    Transition("stage", ANY_END | RUNNING | {"RETRYING"}, False, "purge", None, KEEPER),
    # A part without user code and with one way in: by whoever does the step before it.
    Transition("folded", NONE, True, "reached", "SUCCESS", BOTH),
    Transition("folded", NONE, True, "`if` is false", "SKIPPED", BOTH),
    Transition("folded", NONE, True, "raise, fault in an expression", "FAILED", BOTH),
    Transition("folded", RAN, False, "purge", None, KEEPER),
    # A gate or a sleep.
    Transition("held", NONE, True, "arrive", "WAITING", KEEPER),
    Transition("held", WAITING, False, "looked at again", "WAITING", KEEPER),
    Transition("held", NONE | WAITING, True, "true, due, released", "SUCCESS", KEEPER),
    Transition("held", NONE | WAITING, True, "`if` is false, timeout skips", "SKIPPED", KEEPER),
    Transition("held", NONE | WAITING, True, "fault, timeout, rejected", "FAILED", KEEPER),
    Transition("held", WAITING, False, "stop", "CANCELLED", KEEPER),
    Transition("held", ANY_END, False, "purge", None, KEEPER),
    # Companions: `part~`, `part~upstream`, `part~dead`.
    Transition("delayed", NONE, False, "retry", "WAITING", KEEPER),
    Transition("delayed", WAITING, False, "due, released, stop", None, KEEPER),
    Transition("arrival", NONE, False, "arrive", "WAITING", KEEPER),
    Transition("arrival", WAITING, False, "fired", "SUCCESS", KEEPER),
    Transition("arrival", WAITING | {"SUCCESS"}, False, "job over", None, KEEPER),
    Transition("dead", NONE, False, "dead", "WAITING", KEEPER),
    Transition("dead", WAITING, False, "redriven, discarded, purge", None, KEEPER),
    # The job.
    Transition("job", NONE, False, "submit", "RUNNING", KEEPER),
    Transition("job", RUNNING, False, "signal, stopping", "RUNNING", KEEPER),
    Transition("job", RUNNING, False, "settled", "SUCCESS", KEEPER),
    Transition("job", RUNNING, False, "settled, all of it skipped", "SKIPPED", KEEPER),
    Transition("job", RUNNING, False, "settled or stopped, a part failed", "FAILED", KEEPER),
    Transition("job", RUNNING, False, "stopped: cancel, deadline", "CANCELLED", KEEPER),
    *(
        Transition("job", frozenset({end}), False, "signal answered", end, KEEPER)
        for end in cast("list[State]", sorted(ENDED))
    ),
    Transition("job", frozenset(), True, "retry", "RUNNING", KEEPER),
    Transition("job", ANY_END, False, "retention over", None, KEEPER),
    Transition("input", NONE, False, "submit", "KEPT", KEEPER),
    Transition("input", KEPT, False, "purge", None, KEEPER),
    Transition("fact", NONE | KEPT, False, "set", "KEPT", KEEPER),
    Transition("fact", KEPT, False, "purge", None, KEEPER),
    Transition("early", NONE, False, "signal before submit", "WAITING", KEEPER),
    Transition("early", WAITING, False, "submit, an hour over", None, KEEPER),
)


def is_legal(
    kind: RowKind,
    before: State,
    after: State,
    higher_order: bool,
    writer: Writer | None = None,
    *,
    table: Iterable[Transition] = TRANSITIONS,
) -> bool:
    """Whether the table knows this change. `higher_order`: its (epoch, turn) is a higher one."""
    change = Change(kind, before, after, higher_order, writer)
    return any(line.allows(change) for line in table)


def kind_of(plan: Plan, part: str) -> RowKind:
    """What kind of row stands under this name."""
    fixed: Mapping[str, RowKind] = {"@job": "job", "@input": "input"}
    if part in fixed:
        return fixed[part]
    if part.startswith("@"):
        return "fact" if part.startswith("@fact/") else "early"
    path, companion, upstream = part.partition("~")
    if companion:
        return {"": "delayed", "dead": "dead"}.get(upstream, "arrival")  # type: ignore[return-value]
    kind = plan.by_path[path].kind
    if kind in USER_CODE:
        return "stage"
    return "held" if kind in KEEPER_RUN else "folded"


def state_of(kind: RowKind, data: bytes | None) -> State:
    """What a version of a row says."""
    if data is None:
        return None
    return "KEPT" if kind in ("input", "fact") else cast("Status", head(data).status)


def turn_rose(before: bytes | None, after: bytes | None) -> bool:
    """Whether the new version belongs to a later (epoch, turn) than the old one."""
    if before is None or after is None:
        return False
    return head(after).order[:2] > head(before).order[:2]


def change_of(
    plan: Plan, part: str, before: bytes | None, after: bytes | None, writer: Writer | None = None
) -> Change:
    """What happened to a row, by its versions before and after."""
    kind = kind_of(plan, part)
    higher = turn_rose(before, after)
    return Change(kind, state_of(kind, before), state_of(kind, after), higher, writer)
