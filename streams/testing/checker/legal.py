"""Rule `rows`: every change of a ledger row is a line of the table of transitions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from streams.engine.transitions import RowKind, State, is_legal, kind_of
from streams.testing.checker.decoding import Version, Writer
from streams.testing.checker.evidence import Evidence
from streams.testing.history import Violation

_is_legal = lru_cache(maxsize=4096)(is_legal)


def check(evidence: Evidence) -> Iterator[Violation]:
    for versions in evidence.by_row.values():
        yield from _row(evidence, versions)


def _row(evidence: Evidence, versions: list[Version]) -> Iterator[Violation]:
    kind: RowKind | None = None
    before: Version | None = None
    for version in versions:
        found = kind_of_row(evidence, version)
        kind = found or kind
        if found is None and version.row is not None:
            yield Violation("rows", version.where, "no plan has such a part")
            return
        if kind is None:
            continue  # A tombstone of what never was.
        standing = before if before is not None and before.row is not None else None
        change = _change(kind, standing, version)
        if change[:2] != (None, None) and not _is_legal(kind, *change):
            yield Violation("rows", version.where, _text(kind, *change))
        before = version


def kind_of_row(evidence: Evidence, version: Version) -> RowKind | None:
    """What kind of row it is, by the plan it names; None for a tombstone and where no plan fits."""
    if version.row is None:
        return None
    path = version.part.partition("~")[0]
    plan = evidence.plan_of(version)
    if plan is None:
        if not path.startswith("@") or not evidence.plans:
            return None
        plan = next(iter(evidence.plans.values()))
    if not path.startswith("@") and path not in plan.by_path:
        return None
    return kind_of(plan, version.part)


def _change(
    kind: RowKind, before: Version | None, after: Version
) -> tuple[State, State, bool, Writer | None]:
    rose = (
        before is not None
        and before.order is not None
        and after.order is not None
        and after.order[:2] > before.order[:2]
    )
    return _state(kind, before), _state(kind, after), rose, after.writer


def _state(kind: RowKind, version: Version | None) -> State:
    if version is None or version.row is None:
        return None
    if kind in ("input", "fact"):
        return "KEPT"
    status: State = getattr(version.row, "status", None)
    return status


def _text(kind: RowKind, before: State, after: State, rose: bool, writer: Writer | None) -> str:
    turn = " of a later turn" if rose else ""
    return f"{kind}: {before} → {after}{turn} by {writer or 'nobody'} is no line of the table"
