"""Judging gates: a condition over the job's ledger view, and why it does not hold yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streams.errors import ExpressionError
from streams.topology.expressions import compile_expression, evaluate_bool
from streams.topology.plan import Clause, Gate

MISSING = object()


class ClauseFinding(msgspec.Struct, frozen=True):
    """One clause, looked at once."""

    text: str
    passed: bool
    actual: dict[str, Any] = {}
    """Names it reads → their values; a name that is not set is absent."""
    error: str = ""


class Judgement(msgspec.Struct, frozen=True):
    """A gate, looked at once. `seen` is what `changed` will compare with next time."""

    passed: bool
    applies: bool
    clauses: tuple[ClauseFinding, ...]
    seen: dict[str, Any] = {}


def judge(gate: Gate, names: Mapping[str, Any], seen: Mapping[str, Any]) -> Judgement:
    """Whether the gate lets its job through now. A name not set yet means no."""
    if gate.when is not None:
        when = _expression(gate.when, names)
        if not when.passed and not when.error:
            return Judgement(True, False, (when,))
    remembered = dict(seen)
    findings = [_expression(gate.until, names)] if gate.until is not None else []
    findings += [_clause(clause, names, remembered) for clause in gate.clauses]
    results = [finding.passed for finding in findings]
    passed = all(results) if gate.mode == "all" else any(results)
    return Judgement(passed, True, tuple(findings), remembered)


def _expression(text: str, names: Mapping[str, Any]) -> ClauseFinding:
    expression = compile_expression(text)
    actual = {
        str(read): value
        for read in expression.reads
        if (value := look_up(names, [read.root, *map(str, read.path)])) is not MISSING
    }
    try:
        return ClauseFinding(expression.source, evaluate_bool(expression, names), actual)
    except ExpressionError as error:
        return ClauseFinding(expression.source, False, actual, error.message)


def _clause(clause: Clause, names: Mapping[str, Any], seen: dict[str, Any]) -> ClauseFinding:
    value = field(names, clause.field)
    actual = {} if value is MISSING else {clause.field: value}
    if clause.operator == "exists":
        return ClauseFinding(
            f"{clause.field} exists", value is not MISSING and value is not None, actual
        )
    if clause.operator == "equals":
        text = f"{clause.field} == {msgspec.json.encode(clause.value).decode()}"
        return ClauseFinding(text, value is not MISSING and same(value, clause.value), actual)
    current = None if value is MISSING else value
    first = clause.field not in seen
    changed = not first and not same(seen[clause.field], current)
    if first:
        seen[clause.field] = current
    return ClauseFinding(f"{clause.field} changed", changed, actual)


def same(left: Any, right: Any) -> bool:
    """Equality without Python's `True == 1`."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def field(names: Mapping[str, Any], path: str) -> Any:
    """A field by its dotted path: in facts, then metadata, then the job's own; or `stages.x.y`."""
    first, *rest = path.split(".")
    if first in ("stages", "params", "facts") and rest:
        return look_up(names, [first, *rest])
    for root in ("facts", "metadata", "ledger"):
        table = names.get(root, {})
        if path in table:
            return table[path]
        value = look_up(table, [first, *rest])
        if value is not MISSING:
            return value
    return MISSING


def look_up(names: Any, path: list[str]) -> Any:
    """Walks mappings (and lists by index); `MISSING` where the path ends."""
    for step in path:
        if isinstance(names, Mapping) and step in names:
            names = names[step]
        elif isinstance(names, list) and step.isdigit() and int(step) < len(names):
            names = names[int(step)]
        else:
            return MISSING
    return names
