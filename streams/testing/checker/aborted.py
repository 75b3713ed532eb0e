"""C3: what was never committed has no children, and nobody was given it."""

from __future__ import annotations

from collections.abc import Iterator

from streams.testing.checker.evidence import Evidence
from streams.testing.history import Violation


def check(evidence: Evidence) -> Iterator[Violation]:
    for message in evidence.messages:
        parents = evidence.by_id.get(message.parent) if message.parent else None
        if parents:
            if parents[0].number >= message.number:
                what = f"follows from {message.parent}, which was committed only later"
                yield Violation("C3", message.where, what)
        elif message.parent in evidence.undone:
            what = f"follows from {message.parent}, which was never committed"
            yield Violation("C3", message.where, what)
    for read in evidence.history.read:
        hidden = evidence.hidden.get(read.place, ())
        for offset in read.offsets:
            if offset in hidden:
                where = f"{read.place.topic}/{read.place.partition}@{offset}"
                yield Violation("C3", where, f"{read.who} was given it; it was never committed")
