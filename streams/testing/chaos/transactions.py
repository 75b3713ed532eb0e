"""Which transaction each captured record came in, and what became of it.

The coordinator writes down every step of a transactional id, with the partitions it wrote to: that
is the list of transactions. A batch belongs to the transaction whose marker is the next one of its
producer in its partition; a marker to the one that was being ended when it was appended, for a
producer's transactions never overlap. Positions are records of such batches, too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import merge

import msgspec

from streams.broker.kafka_batches import Batch
from streams.broker.kafka_internals import (
    POSITIONS,
    TRANSACTIONS,
    TransactionState,
    position,
    transaction_state,
)
from streams.broker.port import Committed, Membership, Record, TopicPartition
from streams.testing.history import Appended, Outcome, TransactionSeen

Outcomes = Mapping[str, Outcome]
ENDING: Outcomes = {"committing": "committed", "aborting": "aborted"}


class Ended(msgspec.Struct):
    """A transaction of which the coordinator has decided."""

    number: int
    state: TransactionState
    outcome: Outcome
    ended: int
    """When its last marker was appended (ms)."""


class Ledger:
    """All transactions of the run by producer, in their order."""

    def __init__(self, records: Mapping[TopicPartition, list[Record]]) -> None:
        self._by_producer: dict[int, list[Ended]] = defaultdict(list)
        self._names: dict[int, str] = {}
        decided = []
        for place in sorted(place for place in records if place.topic == TRANSACTIONS):
            states = [state for record in records[place] if (state := transaction_state(record))]
            self._names.update({state.producer: state.name for state in states})
            decided += [state for state in states if state.status in ENDING]
        decided.sort(key=lambda state: state.changed)
        for number, state in enumerate(decided, start=1):
            ended = Ended(number, state, ENDING[state.status], state.changed)
            self._by_producer[state.producer].append(ended)
        self._next = len(decided) + 1
        self._open: dict[int, int] = {}

    def of_marker(self, batch: Batch) -> Ended | None:
        """The transaction that this marker ends."""
        known = self._by_producer.get(batch.producer, [])
        at = bisect_right(known, batch.timestamp, key=lambda each: each.state.changed) - 1
        if at < 0:
            return None
        known[at].ended = max(known[at].ended, batch.timestamp)
        return known[at]

    def unended(self, producer: int) -> int:
        """A number for what a producer wrote and nothing has ended yet."""
        if producer not in self._open:
            self._open[producer] = self._next
            self._next += 1
        return self._open[producer]

    def name(self, producer: int) -> str:
        """The transactional id of a producer."""
        return self._names.get(producer, f"producer-{producer}")

    def __iter__(self) -> Iterator[Ended]:
        return (each for some in self._by_producer.values() for each in some)

    def still_open(self) -> Iterator[tuple[int, int]]:
        """Number and producer of each that was never ended."""
        return ((number, producer) for producer, number in self._open.items())


class Attribution:
    """Offset → number of its transaction, for one partition; 0 for what has none."""

    def __init__(self, batches: Sequence[Batch], ledger: Ledger) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._numbers: list[int] = []
        self.torn: list[str] = []
        waiting: dict[int, list[int]] = defaultdict(list)
        for batch in batches:
            if batch.kind == "plain":
                continue
            if batch.kind == "transactional":
                waiting[batch.producer].append(len(self._firsts))
                self._firsts.append(batch.first)
                self._lasts.append(batch.last)
                self._numbers.append(0)
                continue
            ended = ledger.of_marker(batch)
            mine = waiting.pop(batch.producer, [])
            if ended is None:
                number = ledger.unended(batch.producer) if mine else 0
            else:
                number = ended.number
                if ended.outcome != ("committed" if batch.kind == "commit" else "aborted"):
                    self.torn.append(
                        f"offset {batch.first} says {batch.kind}, its coordinator {ended.outcome}"
                    )
            for index in mine:
                self._numbers[index] = number
        for producer, some in waiting.items():
            for index in some:
                self._numbers[index] = ledger.unended(producer)

    def of(self, offset: int) -> int:
        at = bisect_right(self._firsts, offset) - 1
        return self._numbers[at] if at >= 0 and offset <= self._lasts[at] else 0


class Attributed(msgspec.Struct):
    """A run's records with their transactions."""

    records: list[Appended]
    transactions: dict[int, TransactionSeen]
    torn: list[str]
    """Markers that say something else than the coordinator did."""


def attributed(
    records: Mapping[TopicPartition, list[Record]],
    batches: Mapping[TopicPartition, list[Batch]],
    prefix: str,
) -> Attributed:
    """The captured topics that begin with `prefix`, in the order of appending."""
    ledger = Ledger(records)
    by_place = {
        place: Attribution(batches.get(place, ()), ledger)
        for place in sorted(records)
        if place.topic != TRANSACTIONS
    }
    partitions = [
        [_appended(record, by_place[place]) for record in some]
        for place, some in sorted(records.items())
        if place.topic.startswith(prefix)
    ]
    # The broker's clock orders partitions among each other, the coordinator those of one moment.
    found = list(merge(*partitions, key=lambda record: (record.timestamp, record.transaction)))
    torn = [
        f"{place.topic}/{place.partition}: {what}"
        for place, each in by_place.items()
        for what in each.torn
    ]
    committed = {each.number for each in ledger if each.outcome == "committed"}
    offsets, before, groups = _positions(records, by_place, prefix, committed)
    used = {record.transaction for record in found} | offsets.keys()
    seen = {
        each.number: _seen(each, ledger, offsets, before, groups)
        for each in ledger
        if each.number in used
    }
    for number, producer in ledger.still_open():
        if number in used:
            seen[number] = TransactionSeen(
                id=number, producer=ledger.name(producer), outcome="open", began=0, ended=0
            )
    return Attributed(found, seen, torn)


def _appended(record: Record, numbers: Attribution) -> Appended:
    return Appended(
        place=record.place,
        offset=record.offset,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=record.headers,
        transaction=numbers.of(record.offset),
    )


def _seen(
    each: Ended,
    ledger: Ledger,
    offsets: Mapping[int, dict[TopicPartition, Committed]],
    before: Mapping[int, dict[TopicPartition, Committed | None]],
    groups: Mapping[int, str],
) -> TransactionSeen:
    name = ledger.name(each.state.producer)
    group = groups.get(each.number)
    member = name.removeprefix(f"{group}.") if group else ""
    return TransactionSeen(
        id=each.number,
        producer=name,
        outcome=each.outcome,
        offsets=offsets.get(each.number, {}),
        before=before.get(each.number, {}),
        # Which generation it was is between the member and the broker, which refuses a wrong one.
        membership=Membership(group, member, 0) if group else None,
        began=each.state.started,
        ended=each.ended,
    )


Positions = tuple[
    dict[int, dict[TopicPartition, Committed]],
    dict[int, dict[TopicPartition, Committed | None]],
    dict[int, str],
]


def _positions(
    records: Mapping[TopicPartition, list[Record]],
    by_place: Mapping[TopicPartition, Attribution],
    prefix: str,
    committed: Collection[int],
) -> Positions:
    """Transaction → positions it wrote, where its group stood before, and the group."""
    offsets: dict[int, dict[TopicPartition, Committed]] = defaultdict(dict)
    before: dict[int, dict[TopicPartition, Committed | None]] = defaultdict(dict)
    groups: dict[int, str] = {}
    stood: dict[tuple[str, TopicPartition], Committed | None] = {}
    for place in sorted(place for place in records if place.topic == POSITIONS):
        for record in records[place]:
            found = position(record)
            if found is None or not found.group.startswith(prefix):
                continue
            key = (found.group, found.place)
            number = by_place[place].of(record.offset)
            if not number:
                stood[key] = found.position
            elif found.position is not None:
                groups[number] = found.group
                before[number].setdefault(found.place, stood.get(key))
                offsets[number][found.place] = found.position
                if number in committed:
                    stood[key] = found.position
    return offsets, before, groups


def renewed_after(records: Mapping[TopicPartition, list[Record]], worker: str, since: int) -> bool:
    """Whether the worker's next transaction after that moment had a new epoch: another producer."""
    states = [
        state
        for place, some in records.items()
        if place.topic == TRANSACTIONS
        for record in some
        if (state := transaction_state(record)) and state.name.endswith(f".pool-default.{worker}")
    ]
    before = [state.epoch for state in states if state.changed <= since]
    after = [state.epoch for state in states if state.started > since]
    return bool(before and after) and min(after) > before[-1]
