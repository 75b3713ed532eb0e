"""The life of every kind of ledger row, as one table.

Rules beside the table: each row has one writer at a time; versions rise in (epoch, turn, phase, n);
a row that has ended in one (epoch, turn) changes no more in it; only a purge deletes another's row.
"""

from __future__ import annotations

from collections.abc import Mapping
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
ANY_END: frozenset[State] = frozenset(cast("frozenset[State]", ENDED))
ANY: frozenset[State] = ANY_END | WAITING | RUNNING | {"RETRYING"}
AGENT: frozenset[Writer] = frozenset({"agent"})
KEEPER: frozenset[Writer] = frozenset({"keeper"})
BOTH = AGENT | KEEPER


class Transition(NamedTuple):
    """One line. `lower`: also from any version of a lower (epoch, turn)."""

    row: RowKind
    before: frozenset[State]
    lower: bool
    trigger: str
    after: frozenset[State]
    writer: frozenset[Writer]


TRANSITIONS: tuple[Transition, ...] = (
    # A part with user code. RUNNING may be said again by whoever takes the turn over.
    Transition("stage", NONE | RUNNING, True, "ran over 1 s", RUNNING, AGENT),
    Transition(
        "stage", NONE | RUNNING, True, "verdict, stop seen",
        ANY_END | {"RETRYING"}, AGENT,
    ),
    Transition("stage", ANY, False, "purge", NONE, KEEPER),
    # A part without user code and with one way in: by whoever does the step before it.
    Transition(
        "folded", NONE, True, "reached",
        frozenset({"SUCCESS", "SKIPPED", "FAILED"}), BOTH,
    ),
    Transition("folded", ANY_END, False, "purge", NONE, KEEPER),
    # A gate or a sleep.
    Transition("held", NONE, True, "arrive", WAITING, KEEPER),
    Transition("held", WAITING, False, "looked at again", WAITING, KEEPER),
    Transition(
        "held", NONE | WAITING, True, "true, due, released, rejected, `if` is false",
        frozenset({"SUCCESS", "SKIPPED", "FAILED"}), KEEPER,
    ),
    Transition("held", WAITING, False, "stop", frozenset({"CANCELLED"}), KEEPER),
    Transition("held", ANY_END, False, "purge", NONE, KEEPER),
    # Companions: `part~`, `part~upstream`, `part~dead`.
    Transition("delayed", NONE, False, "retry", WAITING, KEEPER),
    Transition("delayed", WAITING, False, "due, release, stop", NONE, KEEPER),
    Transition("arrival", NONE, True, "arrive", WAITING, KEEPER),
    Transition("arrival", WAITING, False, "fired", frozenset({"SUCCESS"}), KEEPER),
    Transition("arrival", WAITING | {"SUCCESS"}, False, "swept", NONE, KEEPER),
    Transition("dead", NONE, True, "dead", WAITING, KEEPER),
    Transition("dead", WAITING, False, "redriven, discarded, purge", NONE, KEEPER),
    # The job.
    Transition("job", NONE, False, "submit", RUNNING, KEEPER),
    Transition("job", RUNNING, False, "signal, stopping", RUNNING, KEEPER),
    Transition("job", RUNNING, False, "settled, stopped", ANY_END, KEEPER),
    *(
        Transition("job", frozenset({end}), False, "signal answered", frozenset({end}), KEEPER)
        for end in cast("list[State]", sorted(ENDED))
    ),
    Transition("job", frozenset(), True, "retry", RUNNING, KEEPER),
    Transition("job", ANY_END, False, "retention over", NONE, KEEPER),
    Transition("input", NONE, False, "submit", frozenset({"KEPT"}), KEEPER),
    Transition("input", frozenset({"KEPT"}), False, "purge", NONE, KEEPER),
    Transition("fact", NONE | {"KEPT"}, False, "set", frozenset({"KEPT"}), KEEPER),
    Transition("fact", frozenset({"KEPT"}), False, "purge", NONE, KEEPER),
    Transition("early", NONE, False, "signal before submit", WAITING, KEEPER),
    Transition("early", WAITING, False, "submit, an hour over", NONE, KEEPER),
)  # fmt: skip


def is_legal(
    kind: RowKind,
    before: State,
    after: State,
    higher_order: bool,
    writer: Writer | None = None,
) -> bool:
    """Whether the table knows this change. `higher_order`: its (epoch, turn) is a higher one."""
    return any(
        line.row == kind
        and after in line.after
        and (writer is None or writer in line.writer)
        and (before in line.before or (line.lower and higher_order and before is not None))
        for line in TRANSITIONS
    )


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
