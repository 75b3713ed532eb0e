"""A history, read once and sorted by what it tells: every rule looks here.

Only committed records are evidence; of the others nothing counts but that nobody may have seen
them. A `Step` is one committed transaction with everything that it did and all that it finished.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator

import msgspec

from streams.broker.port import TopicPartition
from streams.errors import LogError
from streams.testing.checker.decoding import (
    Letter,
    Message,
    Said,
    Version,
    Writer,
    id_in,
    letter,
    message,
    said,
    version,
)
from streams.testing.checker.marks import NOTHING, Mark, mark_of
from streams.testing.history import Appended, History, TransactionSeen, Violation
from streams.topology.plan import Part, Plan

RowKey = tuple[int, str, str]
"""Partition, scope, part."""


class Step(msgspec.Struct):
    """One committed transaction."""

    seen: TransactionSeen
    writer: Writer | None
    group: str
    versions: list[Version] = []
    messages: list[Message] = []
    letters: list[Letter] = []
    said: list[Said] = []
    finished: list[Message] = []
    """Inputs that its offsets count as finished, and its group did not before."""
    stood: dict[TopicPartition, Mark] = {}
    """Where the steps before it had brought its group, in the places of its offsets."""

    @property
    def where(self) -> str:
        return f"transaction {self.seen.id} of {self.seen.producer}"


class Evidence:
    """What the rules judge."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.naming = history.naming
        self.plans = {plan.digest: plan for plan in history.plans}
        self.unreadable: list[Violation] = []
        """What cannot be judged at all."""
        self.versions: list[Version] = []
        self.by_row: dict[RowKey, list[Version]] = defaultdict(list)
        self.by_scope: dict[str, list[Version]] = defaultdict(list)
        self.messages: list[Message] = []
        self.by_id: dict[str, list[Message]] = defaultdict(list)
        self.inputs: dict[TopicPartition, list[Message]] = defaultdict(list)
        """What can be read and finished, by offset."""
        self.letters: list[Letter] = []
        self.said: list[Said] = []
        self.stops: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """Root → (below which epoch, since when)."""
        self.undone: dict[str, Appended] = {}
        """Ids of events that were never committed."""
        self.visible: dict[TopicPartition, list[int]] = defaultdict(list)
        """Offsets of committed records."""
        self.hidden: dict[TopicPartition, set[int]] = defaultdict(set)
        """Offsets of the others."""
        self.lives: dict[int, int] = {}
        """Number of a message → how often its scope had been purged before."""
        self.final: dict[tuple[str, TopicPartition], Mark] = {}
        """Where each group stands at the end."""
        self._steps = {
            id: Step(seen, *self._writer_of(seen))
            for id, seen in history.transactions.items()
            if seen.outcome == "committed"
        }
        self._read(history)
        self.steps = sorted(self._steps.values(), key=lambda step: (step.seen.ended, step.seen.id))
        self._follow_offsets()

    # -- looking things up ------------------------------------------------------------------

    def step(self, transaction: int) -> Step | None:
        """The committed transaction of this number."""
        return self._steps.get(transaction)

    def part(self, digest: str, path: str) -> Part | None:
        """A part of a plan, if both are known."""
        plan = self.plans.get(digest)
        return plan.by_path.get(path) if plan is not None else None

    def plan_of(self, found: Version) -> Plan | None:
        """The plan that a row says it belongs to."""
        return self.plans.get(getattr(found.row, "plan", ""))

    def stopped(self, root: str, epoch: int, at: int) -> bool:
        """Whether nothing of this epoch was to run any more at that time."""
        return any(epoch < below and since <= at for below, since in self.stops.get(root, ()))

    # -- reading ----------------------------------------------------------------------------

    def _writer_of(self, seen: TransactionSeen) -> tuple[Writer | None, str]:
        group, _, _ = seen.producer.rpartition(".")
        if seen.membership is not None:
            group = seen.membership.group
        elif group.count(".") > self.naming.keeper_group.count("."):
            # The member's own name has dots.
            group = ".".join(group.split(".")[: self.naming.keeper_group.count(".") + 1])
        if group == self.naming.keeper_group:
            return "keeper", group
        return ("agent" if group.startswith(self.naming.pool_group("")) else None), group

    def _read(self, history: History) -> None:
        naming, transactions, steps = self.naming, history.transactions, self._steps
        ledger, dead, control = naming.ledger, naming.dead, naming.control
        purged: dict[str, int] = {}
        for number, record in enumerate(history.records):
            step = steps.get(record.transaction)
            if step is None and record.transaction:
                self._never(record, transactions.get(record.transaction))
                continue
            place = record.place
            self.visible[place].append(record.offset)
            if place.topic == ledger:
                self._row(number, record, step, purged)
            elif place.topic == control:
                self._control(number, record, step)
            elif place.topic == dead:
                found = letter(number, record)
                self.letters.append(found)
                if step is not None:
                    step.letters.append(found)
            else:
                self._event(number, record, step, purged)

    def _never(self, record: Appended, seen: TransactionSeen | None) -> None:
        self.hidden[record.place].add(record.offset)
        if seen is None:
            what = f"belongs to transaction {record.transaction}, of which nothing is known"
            self._cannot(record, "C7", what)
        if record.headers and (id := id_in(record)):
            self.undone[id] = record

    def _row(
        self, number: int, record: Appended, step: Step | None, purged: dict[str, int]
    ) -> None:
        try:
            found = version(number, record, step.writer if step is not None else None)
        except ValueError as error:
            self._cannot(record, "rows", str(error))
            return
        self.versions.append(found)
        self.by_row[found.partition, found.scope, found.part].append(found)
        self.by_scope[found.scope].append(found)
        if found.row is None and found.part == "@job":
            purged[found.scope] = purged.get(found.scope, 0) + 1
        if step is not None:
            step.versions.append(found)

    def _control(self, number: int, record: Appended, step: Step | None) -> None:
        found = said(number, record)
        self.said.append(found)
        if step is not None:
            step.said.append(found)
        if found.kind == "stop" and found.value is not None:
            below = int(msgspec.json.decode(found.value)["below"])
            self.stops[found.name].append((below, found.timestamp))

    def _event(
        self, number: int, record: Appended, step: Step | None, purged: dict[str, int]
    ) -> None:
        found = message(number, record, self.naming)
        self.messages.append(found)
        self.inputs[found.place].append(found)
        self.by_id[found.id].append(found)
        if found.scope in purged:
            self.lives[number] = purged[found.scope]
        if step is not None:
            step.messages.append(found)

    def _cannot(self, record: Appended, rule: str, what: str) -> None:
        where = f"{record.place.topic}/{record.place.partition}@{record.offset}"
        self.unreadable.append(Violation(rule, where, what))

    # -- offsets ----------------------------------------------------------------------------

    def _follow_offsets(self) -> None:
        """What each step finished: by its own offsets, after those of all steps before it."""
        moved = deque(self.history.moved)
        for step in self.steps:
            while moved and moved[0].at < step.seen.ended:
                each = moved.popleft()
                for place, position in each.positions.items():
                    self.final[each.group, place] = mark_of(position)
            for place, position in step.seen.offsets.items():
                key = (step.group, place)
                before = self.final.get(key)
                try:
                    after = mark_of(position)
                    if before is None:
                        before = mark_of(step.seen.before.get(place))
                except LogError as error:
                    self.unreadable.append(Violation("C7", step.where, error.message))
                    continue
                step.stood[place] = before
                step.finished += self._between(place, before, after)
                self.final[key] = after

    def _between(self, place: TopicPartition, before: Mark, after: Mark) -> Iterator[Message]:
        inputs = self.inputs.get(place)
        if not inputs:
            return
        first = bisect_left(inputs, before.offset, key=_offset)
        last = bisect_left(inputs, after.end, key=_offset)
        for found in inputs[first:last]:
            if after.has(found.offset) and not before.has(found.offset):
                yield found

    def unfinished(self, group: str, place: TopicPartition) -> Iterator[Message]:
        """What the group has not finished at the end, of a place that it reads."""
        mark = self.final.get((group, place), NOTHING)
        for found in self.inputs.get(place, ()):
            if not mark.has(found.offset):
                yield found


def _offset(found: Message) -> int:
    return found.offset
