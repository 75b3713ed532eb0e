"""C8: a hold ends once, for a reason that was true, and never before its time.

Each end of a gate or a sleep says why (passed, released, rejected, timed out, stopped); whichever
it says is looked up in the log. A condition is judged again, on what its keeper can have known: all
that keepers had written before in that scope, and of the rows of agents and the shared facts any
prefix, for these reach a keeper a little later. Expressions are evaluated by the engine's own
language: a condition has no other meaning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from streams.engine.holds import judge
from streams.engine.rows import JobRow, Row
from streams.engine.view import gate_names, read_rows
from streams.testing.checker.attempts import signal_kind
from streams.testing.checker.decoding import Version
from streams.testing.checker.evidence import Evidence
from streams.testing.checker.legal import kind_of_row
from streams.testing.history import Violation
from streams.topology.plan import Gate, Part, Plan

MOST_VIEWS = 200
"""Prefixes tried before a condition counts as never true."""


class Hold(msgspec.Struct):
    """One (epoch, turn) of a gate or a sleep."""

    plan: Plan
    part: Part
    waits: list[Version] = []
    ends: list[Version] = []


def check(evidence: Evidence) -> Iterator[Violation]:
    for versions in evidence.by_row.values():
        if kind_of_row(evidence, versions[0]) != "held":
            continue
        for hold in _holds(evidence, versions):
            yield from _hold(evidence, hold)


def _holds(evidence: Evidence, versions: list[Version]) -> Iterator[Hold]:
    holds: dict[tuple[int, int], Hold] = {}
    for version in versions:
        if version.row is None:
            yield from holds.values()
            holds = {}
            continue
        plan = evidence.plan_of(version)
        if plan is None or not isinstance(version.row, Row) or version.order is None:
            continue
        turn = version.order[:2]
        hold = holds.setdefault(turn, Hold(plan, plan.by_path[version.part]))
        (hold.ends if version.row.phase == 2 else hold.waits).append(version)
    yield from holds.values()


def _hold(evidence: Evidence, hold: Hold) -> Iterator[Violation]:
    if len(hold.ends) > 1:
        said = " and ".join(_reason(version) for version in hold.ends)
        yield Violation("C8", hold.ends[1].where, f"ends twice: {said}")
    gate = hold.part.gate
    dues = [wait.due for version in hold.waits if (wait := _row(version).wait) is not None]
    if any(due != dues[0] for due in dues):
        yield Violation("C8", hold.waits[-1].where, f"its deadline moves: {dues}")
    length = gate.timeout_ms if gate is not None else hold.part.sleep_ms or None
    if length is not None and hold.waits:
        yield from _deadline(evidence, hold.waits[0], length)
    for end in hold.ends:
        yield from _end(evidence, hold, end)


def _deadline(evidence: Evidence, first: Version, length: int) -> Iterator[Violation]:
    """It counts from the append of what arrived, and from no later than that of the row."""
    wait, skew = _row(first).wait, evidence.history.skew
    if wait is None or wait.due is None:
        yield Violation("C8", first.where, "is held without its deadline")
        return
    arrived = evidence.by_id.get(wait.event.parent)
    early = arrived[0].timestamp + length - wait.due if arrived else 0
    if early > skew:
        yield Violation("C8", first.where, f"its deadline is {early} ms too early")
    late = wait.due - first.timestamp - length
    if late > skew:
        yield Violation("C8", first.where, f"its deadline is {late} ms too late")


def _end(evidence: Evidence, hold: Hold, end: Version) -> Iterator[Violation]:
    row, gate = _row(end), hold.part.gate
    signals = _signals(evidence, end)
    if row.status == "CANCELLED":
        if not _job_is_stopping(evidence, end):
            yield Violation("C8", end.where, "is stopped, but its job is not")
    elif gate is not None and f"gate.{gate.name}.passed_at" in row.meta:
        if f"gate.{gate.name}.released_by" in row.meta:
            if "release" not in signals:
                yield Violation("C8", end.where, "is released, but nobody asked for it")
        elif not _was_true(evidence, hold, gate, end):
            yield Violation("C8", end.where, "passes, but its condition was not true")
    elif not hold.waits:
        if gate is not None and row.status == "SUCCESS":
            yield Violation("C8", end.where, "passes without having been judged")
    elif gate is not None and "reject" in signals:
        return
    elif gate is None and "release" in signals:
        return
    else:
        yield from _in_time(evidence, hold, end)


def _in_time(evidence: Evidence, hold: Hold, end: Version) -> Iterator[Violation]:
    """A deadline is never early, by the log's own time."""
    wait = _row(hold.waits[0]).wait
    if wait is None or wait.due is None:
        yield Violation("C8", end.where, "times out without a deadline")
        return
    early = wait.due - end.timestamp
    if early > evidence.history.skew:
        yield Violation("C8", end.where, f"its time comes {early} ms early")


def _row(version: Version) -> Row:
    assert isinstance(version.row, Row)
    return version.row


def _reason(version: Version) -> str:
    row = _row(version)
    return f"{row.status} ({row.reason or 'passed'})"


def _signals(evidence: Evidence, end: Version) -> set[str]:
    """Kinds of the signals for this scope that the end's own transaction carries out."""
    step = evidence.step(end.transaction)
    finished = step.finished if step is not None else ()
    return {signal_kind(m.value) for m in finished if m.scope == end.scope and not m.epoch}


def _job_is_stopping(evidence: Evidence, end: Version) -> bool:
    step = evidence.step(end.transaction)
    return any(
        isinstance(version.row, JobRow)
        and version.scope == end.scope
        and (version.row.stopping is not None or version.row.ended)
        for version in (step.versions if step is not None else ())
    )


# -- conditions ---------------------------------------------------------------------------------


def _was_true(evidence: Evidence, hold: Hold, gate: Gate, end: Version) -> bool:
    wait = _row(hold.waits[-1]).wait if hold.waits else None
    seen = wait.seen if wait is not None else {}
    root = _row(end).root or end.scope
    for rows, shared in islice(_views(evidence, end), MOST_VIEWS):
        names = gate_names(root, hold.plan, read_rows(rows), shared)
        if judge(gate, names, seen).passed:
            return True
    return False


def _views(evidence: Evidence, end: Version) -> Iterator[tuple[dict[str, bytes], dict[str, Any]]]:
    """What the keeper can have seen, the likeliest first: all, then less of the agents' rows, then
    less of the shared facts."""
    before = [v for v in evidence.by_scope[end.scope] if v.number < end.number]
    shared = _shared_facts(evidence, end.number)
    agents = [v.number for v in before if v.writer != "keeper"]
    for facts in reversed(shared):
        for since in [end.number, *reversed(agents)]:
            yield _rows_without(before, since), facts


def _rows_without(before: list[Version], since: int) -> dict[str, bytes]:
    """The scope's rows, agents' rows from `since` on left out."""
    rows: dict[str, bytes] = {}
    orders: dict[str, tuple[int, ...]] = defaultdict(tuple)
    for version in before:
        if version.number >= since and version.writer != "keeper":
            continue
        if version.data is None or version.order is None:
            rows.pop(version.part, None)
            orders.pop(version.part, None)
        elif version.order > orders[version.part]:
            rows[version.part], orders[version.part] = version.data, version.order
    return rows


def _shared_facts(evidence: Evidence, number: int) -> list[dict[str, Any]]:
    """The shared facts after each of their changes before this record."""
    found: list[dict[str, Any]] = [{}]
    for said in evidence.said:
        if said.number >= number:
            break
        if said.kind == "fact":
            facts = dict(found[-1])
            if said.value is None:
                facts.pop(said.name, None)
            else:
                facts[said.name] = msgspec.json.decode(said.value)["value"]
            found.append(facts)
    return found
