"""C4: deliveries of one address (scope and part) are done one after another, in their order."""

from __future__ import annotations

from collections.abc import Iterator

from streams.engine.rows import Row
from streams.testing.checker.decoding import Message
from streams.testing.checker.evidence import Evidence
from streams.testing.history import Violation

Address = tuple[str, str]


def check(evidence: Evidence) -> Iterator[Violation]:
    yield from _effects(evidence)
    yield from _calls(evidence)


def _effects(evidence: Evidence) -> Iterator[Violation]:
    """Rows in the ledger's order against deliveries in their topic's."""
    last: dict[Address, Message] = {}
    deliveries = {
        (m.scope, m.part, m.epoch, m.turn): m for step in evidence.steps for m in step.finished
    }
    for version in evidence.versions:
        row = version.row
        if version.writer != "agent" or not isinstance(row, Row) or row.phase != 2:
            continue
        address = (version.scope, version.part)
        delivery = deliveries.get((*address, row.epoch, row.turn))
        if delivery is None:
            continue
        before = last.get(address)
        if before is not None and before.place == delivery.place:
            if before.offset >= delivery.offset and before is not delivery:
                yield Violation("C4", version.where, f"{delivery.where} after {before.where}")
        last[address] = delivery


def _calls(evidence: Evidence) -> Iterator[Violation]:
    """User code of one address, as one worker called it: a turn never comes after a later one."""
    last: dict[tuple[str, str, str], tuple[int, int]] = {}
    for ran in sorted(evidence.history.ran, key=lambda ran: ran.began):
        key = (ran.worker, ran.scope, ran.part)
        now = (ran.epoch, ran.turn)
        before = last.get(key, now)
        if now < before:
            where = f"{ran.worker}: {ran.scope}|{ran.part}"
            yield Violation("C4", where, f"ran turn {now} after {before}")
        last[key] = now
