"""Which records were handled already, found out from what followed from them.

A group that has lost its position has left enough behind to tell: the rows of the ledger, newer
events of the same part, jobs that are there or have ended, dead letters that name their origin.
What says nothing of itself counts as not handled: nothing may be lost.
"""

from __future__ import annotations

import msgspec

from streams.broker.port import Log, Record, TopicPartition
from streams.codec import kafka
from streams.engine import intake
from streams.engine.arrivals import is_late
from streams.engine.messages import ARRIVE, DEAD, RETRY, SIGNAL, AnyDelivery, Delivery, read
from streams.engine.rows import Address, JobRow, Order, decode_job, head, is_row
from streams.engine.signals import read_signal
from streams.errors import EventError, StreamsError
from streams.event import Event
from streams.inspection.scan import scan
from streams.runtime.control import ControlTable
from streams.runtime.deliveries import opened
from streams.topology.plan import USER_CODE, Naming

Part = tuple[str, str]
"""Scope and part."""
NEVER = Order(0, 0, 0)
ENGINES = "interlock.hold."


class Jobs(msgspec.Struct):
    """What is known of a pipeline's jobs, wherever they stand."""

    rows: dict[str, JobRow] = {}
    ended: set[str] = set()
    """Jobs whose end was told; longer ago than their rows are kept."""
    forwarded: set[str] = set()
    """Jobs whose submission stands in the hold topic."""
    submitted: set[str] = set()
    """Jobs whose submission stands in the intake."""
    shared: dict[str, int] = {}
    """Key of a shared fact or pause → when it was last set (ms)."""
    letters: set[tuple[str, int, int]] = set()
    """Topic, partition and offset of what became a dead letter."""

    def knows(self, job: str) -> bool:
        """Whether the keeper has taken a submission of it."""
        return job in self.rows or job in self.ended or job in self.forwarded


class Partition(msgspec.Struct):
    """What is known of one partition of a pipeline's own topics."""

    orders: dict[Part, Order] = {}
    """Newest version of each row."""
    newest: dict[Part, tuple[int, int]] = {}
    """Epoch and turn of the newest event to each stage."""
    retries: set[tuple[str, str, int, int]] = set()
    """Scope, part, epoch, turn of what was handed to the keeper, to be offered again."""

    def order(self, scope: str, part: str) -> Order:
        return self.orders.get((scope, part), NEVER)


class Finished:
    """Answers for one pipeline, from one reading of its topics."""

    def __init__(self, naming: Naming, table: ControlTable, partitions: int) -> None:
        self._naming = naming
        self.table = table
        self._partitions = partitions
        self._known: dict[int, Partition] = {}
        self.jobs = Jobs()
        keeper = naming.keeper_group
        self._has_keeper = any(name.startswith(f"{keeper}/") for name in table.begun)

    async def learn(self, log: Log) -> None:
        """Reads what tells of finished work. Events first, rows after them: whatever is done
        meanwhile is seen as done."""
        names, places = self._naming, range(self._partitions)
        known = {number: Partition() for number in places}
        for topic in sorted(self._stages & (await log.topics()).keys()):
            async for record in scan(log, [TopicPartition(topic, n) for n in places]):
                delivery = _delivery(record)
                if delivery is not None:
                    part, turn = (delivery.scope, delivery.part), (delivery.epoch, delivery.turn)
                    newest = known[record.partition].newest
                    newest[part] = max(turn, newest.get(part, (0, 0)))
        async for record in scan(log, [TopicPartition(names.hold, n) for n in places]):
            self._learn_held(known[record.partition], record)
        async for record in scan(log, [TopicPartition(names.intake, n) for n in places]):
            self.jobs.submitted.update(_submitted(record))
        async for record in scan(log, [TopicPartition(names.control, 0)]):
            self.jobs.shared[(record.key or b"").decode(errors="replace")] = record.timestamp
        async for record in scan(log, [TopicPartition(names.dead, n) for n in places]):
            self._learn_letter(record)
        async for record in scan(log, [TopicPartition(names.done, n) for n in places]):
            self.jobs.ended.add((record.key or b"").decode(errors="replace"))
        async for record in scan(log, [TopicPartition(names.ledger, n) for n in places]):
            self._learn_row(known[record.partition], record)
        self._known = known

    @property
    def _stages(self) -> set[str]:
        parts = (part for plan in self.table.plans.values() for part in plan.parts)
        return {self._naming.stage(part.path) for part in parts if part.kind in USER_CODE}

    def _learn_held(self, known: Partition, record: Record) -> None:
        self.jobs.forwarded.update(_submitted(record))
        delivery = _held(record)
        if delivery is not None and delivery.type == RETRY:
            known.retries.add((delivery.scope, delivery.part, delivery.epoch, delivery.turn))

    def _learn_letter(self, record: Record) -> None:
        said = {name: value or b"" for name, value in record.headers}
        topic, partition, offset = (
            said.get(f"streams-dlq-{name}", b"") for name in ("topic", "partition", "offset")
        )
        if topic and partition.isdigit() and offset.isdigit():
            self.jobs.letters.add((topic.decode(), int(partition), int(offset)))

    def _learn_row(self, known: Partition, record: Record) -> None:
        address = Address.of(record.key or b"")
        if record.value is None:
            known.orders.pop(address, None)
            if address.part == "@job":
                self.jobs.rows.pop(address.scope, None)
        elif is_row(record.value):
            order = head(record.value).order
            if order >= known.orders.get(address, NEVER):
                known.orders[address] = order
                if address.part == "@job":
                    self.jobs.rows[address.scope] = decode_job(record.value)

    # -- stages -----------------------------------------------------------------------------

    def of_stage(self, record: Record, group: str) -> bool:
        """Whether this group has nothing more to do with an event to a stage."""
        if self.is_letter(record):
            return True
        delivery = _delivery(record)
        if delivery is None:
            return False
        plan = self.table.plans.get(delivery.digest)
        part = plan.by_path.get(delivery.part) if plan is not None else None
        if part is not None and self._naming.pool_group(part.pool) != group:
            return True
        if self.table.stopped(delivery.root, delivery.epoch) or self._is_purged(delivery):
            return True
        known = self._known.get(record.partition, Partition())
        scope, path, turn = delivery.scope, delivery.part, (delivery.epoch, delivery.turn)
        return (
            known.order(scope, path) >= (*turn, 2)
            or known.order(scope, f"{path}~")[:2] > turn
            or known.newest.get((scope, path), turn) > turn
            or (scope, path, *turn) in known.retries
        )

    def _is_purged(self, delivery: AnyDelivery) -> bool:
        """Every event of a job is written with or after its `@job` row; where keepers look after
        the jobs, one without it is over."""
        return self._has_keeper and delivery.root not in self.jobs.rows

    # -- the keeper -------------------------------------------------------------------------

    def of_keeper(self, record: Record) -> bool:
        """Whether the keeper has taken what came in, or was handed to it."""
        if self.is_letter(record):
            return True
        delivery = _held(record) if record.topic == self._naming.hold else None
        if delivery is not None:
            return self._is_decided(record.partition, delivery)
        try:
            event = kafka.decode(record.value, record.headers)
            scope = intake.scope_of(event)
        except StreamsError:
            return False
        if event.type == SIGNAL:
            return self._is_heard(record, event, scope)
        if record.topic == self._naming.hold:
            return scope in self.jobs.rows or scope in self.jobs.ended
        return self.jobs.knows(scope)

    def _is_heard(self, record: Record, event: Event, scope: str) -> bool:
        """Whether a signal was carried out. One that left no trace is carried out again: the
        keeper knows the last 32 of each job, and acts only on what a signal names."""
        job = self.jobs.rows.get(scope)
        if job is not None:
            return event.id in job.signals
        if not scope.startswith("@"):
            return scope in self.jobs.ended
        data = read_signal(event)
        key = f"pause/{data.stage or '*'}" if data.kind in ("pause", "resume") else ""
        keys = [key] if key else [f"fact/{name}" for name in data.facts]
        return all(self.jobs.shared.get(each, -1) >= record.timestamp for each in keys)

    def _is_decided(self, partition: int, delivery: Delivery) -> bool:
        """Whether the row, or the event, that follows from a hold event is there."""
        scope, path, epoch = delivery.scope, delivery.part, delivery.epoch
        known = self._known.get(partition, Partition())
        job = self.jobs.rows.get(scope)
        plan = self.table.plans.get(delivery.digest)
        if delivery.type == DEAD:
            kept = known.order(scope, f"{path}~dead").epoch >= epoch
            return kept or job is None or job.epoch > epoch
        if plan is None or path not in plan.by_path or is_late(delivery, job, plan):
            return plan is not None
        if delivery.type == RETRY:
            turn = (epoch, delivery.turn)
            return (
                known.order(scope, f"{path}~")[:2] > turn
                or known.order(scope, path)[:2] > turn
                or known.newest.get((scope, path), turn) > turn
            )
        return delivery.type == ARRIVE and (
            known.order(scope, path).epoch >= epoch
            or known.order(scope, f"{path}~{delivery.via}").epoch >= epoch
            or known.newest.get((scope, path), (0, 0))[0] >= epoch
        )

    def is_letter(self, record: Record) -> bool:
        """Whether it became a dead letter."""
        return (*record.place, record.offset) in self.jobs.letters


def _delivery(record: Record) -> AnyDelivery | None:
    """What a record of a stage's topic says, if it says anything to a stage."""
    try:
        return opened(record)[1]
    except (StreamsError, msgspec.MsgspecError):
        return None


def _held(record: Record) -> Delivery | None:
    """The engine's event in a record of the hold topic; None for what was forwarded there."""
    try:
        event = kafka.decode(record.value, record.headers)
        return read(event) if event.type.startswith(ENGINES) else None
    except StreamsError:
        return None


def _submitted(record: Record) -> set[str]:
    """The job that a record submits, if it does."""
    try:
        event = kafka.decode(record.value, record.headers)
        if event.type == SIGNAL or event.type.startswith(ENGINES):
            return set()
        return {intake.scope_of(event)}
    except EventError:
        return set()
