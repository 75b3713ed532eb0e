"""C6: versions of a row only rise, each turn ends once, and every reader saw a prefix."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise

from streams.engine.rows import JobRow
from streams.testing.checker.decoding import Version
from streams.testing.checker.evidence import Evidence
from streams.testing.history import Read, Violation


def check(evidence: Evidence) -> Iterator[Violation]:
    for versions in evidence.by_row.values():
        if len(versions) > 1:
            yield from _rises(versions)
    for read in evidence.history.read:
        yield from _prefix(evidence, read)


def _rises(versions: list[Version]) -> Iterator[Violation]:
    before: Version | None = None
    for version in versions:
        if before is not None and before.order is not None and version.order is not None:
            what = _fault(before, version)
            if what:
                yield Violation("C6", version.where, what)
        before = version


def _fault(before: Version, version: Version) -> str:
    old, new = before.order, version.order
    assert old is not None
    assert new is not None
    if new < old:
        return f"{_text(new)} after {_text(old)}"
    if new == old and new.phase != 1:
        return f"{_text(new)} twice"
    if old[:2] == new[:2] and old.phase == 2 and new.phase == 2 and _ends_again(before, version):
        return f"epoch {new.epoch} turn {new.turn} ends a second time"
    return ""


def _ends_again(before: Version, version: Version) -> bool:
    """A job's row may say more after its end (a signal that was answered), but no other end; facts
    have no end."""
    if isinstance(version.row, JobRow) and isinstance(before.row, JobRow):
        return version.row.status != before.row.status
    return not version.part.startswith("@")


def _text(order: tuple[int, ...]) -> str:
    return ".".join(map(str, order))


def _prefix(evidence: Evidence, read: Read) -> Iterator[Violation]:
    """Every committed record between the first and the last that it was given, once each."""
    offsets = read.offsets
    if not offsets:
        return
    visible = evidence.visible.get(read.place, [])
    first = bisect_left(visible, offsets[0])
    due = visible[first : bisect_right(visible, offsets[-1])]
    if list(offsets) == due:
        return
    where = f"{read.who} in {read.place.topic}/{read.place.partition}"
    hidden = evidence.hidden.get(read.place, set())
    removed = evidence.history.removed.get(read.place, frozenset())
    given = set(offsets)
    for before, after in pairwise(offsets):
        if after <= before:
            yield Violation("C6", where, f"was given {after} after {before}")
    for offset in due:
        if offset not in given and offset not in removed:
            yield Violation("C6", where, f"was never given {offset}, but {offsets[-1]}")
    for offset in sorted(given.difference(due)):
        if offset not in hidden:
            yield Violation("C6", where, f"was given {offset}, which is not in the log")
