"""C5: the ledger is the fold of its records, in memory as in the log, whole or compacted."""

from __future__ import annotations

from collections.abc import Iterator

from streams.testing.checker.decoding import Version
from streams.testing.checker.evidence import Evidence
from streams.testing.history import Kept, Violation


def check(evidence: Evidence) -> Iterator[Violation]:
    for (partition, scope, part), versions in evidence.by_row.items():
        whole = folded(versions)
        if not _same(whole, versions[-1]):
            where = f"{scope}|{part} of partition {partition}"
            yield Violation("C5", where, "compaction leaves another version than the fold")
    for kept in evidence.history.kept:
        yield from _live(evidence, kept)


def folded(versions: list[Version]) -> Version | None:
    """The version that stands after all of these; None for no row."""
    standing: Version | None = None
    for version in versions:
        if version.order is None:
            standing = None
        elif standing is None or standing.order is None or version.order > standing.order:
            standing = version
    return standing


def _same(standing: Version | None, last: Version) -> bool:
    """Equal bytes, or the same version said twice (RUNNING, by whoever took the turn over)."""
    if standing is None or last.order is None:
        return standing is None and last.order is None
    return standing.data == last.data or standing.order == last.order


def _live(evidence: Evidence, kept: Kept) -> Iterator[Violation]:
    named = f"{kept.owner}'s table of partition {kept.partition}"
    known = set()
    for (partition, scope, part), versions in evidence.by_row.items():
        if partition != kept.partition:
            continue
        known.add((scope, part))
        data = kept.rows.get(scope, {}).get(part)
        read = [version for version in versions if version.offset < kept.position]
        standing = folded(read)
        if data == (standing.data if standing is not None else None):
            continue
        if not _is_allowed(data, standing, versions, kept.position):
            yield Violation("C5", f"{named}, {scope}|{part}", "is not what the log says")
    for scope, parts in kept.rows.items():
        for part in parts:
            if (scope, part) not in known:
                yield Violation("C5", f"{named}, {scope}|{part}", "is not in the log at all")


def _is_allowed(
    data: bytes | None, standing: Version | None, versions: list[Version], position: int
) -> bool:
    """The owner's own rows are in its table before it reads them back; and of a version that was
    said twice either form may stand."""
    return any(
        version.data == data
        and (
            (version.offset >= position and version.writer == "keeper")
            or (
                version.offset < position
                and standing is not None
                and version.order == standing.order
            )
        )
        for version in versions
    )
