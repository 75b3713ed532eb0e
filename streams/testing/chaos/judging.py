"""A trial's history, made of nothing but what stands in the real topics, and what breaks a rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from streams.broker.port import Log, TopicPartition
from streams.ledger.table import LedgerTable
from streams.policies import policy_of
from streams.testing.chaos.capture import Capture
from streams.testing.chaos.load import CANARY
from streams.testing.chaos.transactions import attributed
from streams.testing.checker.check import check
from streams.testing.history import Asked, History, Kept, Moved
from streams.topology.plan import Naming, Plan

MOST_TOLD = 12
MOST_AT_ONCE = 20_000
SKEW = 5
"""Milliseconds: append times are whole ones of several threads of a broker."""


class Judged(msgspec.Struct, frozen=True):
    """What the checker says of a trial."""

    history: History
    violations: tuple[str, ...]

    @property
    def counted(self) -> str:
        """How much there was to judge, for the table."""
        seen = self.history.transactions.values()
        outcomes = Counter(each.outcome for each in seen)
        told = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
        return f"{len(self.history.records)} records; transactions: {told}"


async def judge(
    capture: Capture,
    log: Log,
    naming: Naming,
    *,
    asked: list[Asked],
    settled: bool,
    began: int,
    ended: int,
    logs: Iterable[Path],
    moved: Iterable[Moved] = (),
) -> Judged:
    """The rules of the checker on everything that was captured, and C14."""
    found = attributed(capture.records, capture.batches, f"{naming.prefix}.")
    plans = tuple(_plans(capture, naming))
    history = History(
        naming=naming,
        partitions=capture.width(naming.ledger),
        plans=plans,
        records=found.records,
        transactions=found.transactions,
        moved=list(moved),
        asked=asked,
        ran=[],
        kept=await rebuilt(log, naming, capture.width(naming.ledger)),
        read=capture.reads(),
        policies={
            part.path: policy_of(plans[0], part) for part in plans[0].parts if part.kind == "stage"
        },
        began=began,
        ended=ended,
        settled=settled,
        skew=SKEW,
    )
    said = [f"C7 {what}" for what in found.torn]
    said += [str(violation) for violation in check(history)]
    said += list(_canaries(capture, logs))
    return Judged(history, tuple(said))


async def rebuilt(log: Log, naming: Naming, partitions: int) -> list[Kept]:
    """The ledger as its next owner would have it: read by position to the end, by the same table."""
    places = [TopicPartition(naming.ledger, number) for number in range(partitions)]
    marks = await log.watermarks(places)
    reader = log.reader()
    tables = {place: LedgerTable() for place in places}
    try:
        reader.assign({place: marks[place].low for place in places})
        while any(reader.position(place) < marks[place].high for place in places):
            for record in await reader.poll(MOST_AT_ONCE, 1.0):
                if record.key is not None:
                    tables[record.place].read(record.key, record.value, record.offset)
    finally:
        await reader.close()
    kept = []
    for place, table in tables.items():
        rows = {scope: dict(table.rows(scope)) for scope in table.scopes()}
        table.close()
        kept.append(
            Kept(
                owner="a reader",
                partition=place.partition,
                position=marks[place].high,
                rows=rows,
            )
        )
    return kept


def _plans(capture: Capture, naming: Naming) -> Iterator[Plan]:
    for record in capture.records.get(TopicPartition(naming.control, 0), ()):
        if (record.key or b"").startswith(b"plan/") and record.value is not None:
            yield Plan.decode(record.value)


def _canaries(capture: Capture, logs: Iterable[Path]) -> Iterator[str]:
    """C14: the secret of the load stands nowhere."""
    secret = CANARY.encode()
    for place, records in capture.records.items():
        for record in records:
            values = [record.key, record.value, *(value for _, value in record.headers)]
            if any(value is not None and secret in value for value in values):
                yield f"C14 the secret stands in {place.topic}/{place.partition}@{record.offset}"
    for path in logs:
        if secret in path.read_bytes():
            yield f"C14 the secret stands in {path.name}"
