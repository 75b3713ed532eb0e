"""Reads topics that somebody else writes; each record is submitted to the pipeline.

One transaction: submissions in the intake, dead letters, and the position in the other's topic. A
record that is read again gives the same job, which the coordinator knows. A record that cannot be
read follows the policy of its source, and the partition goes on (unless the policy is `halt`). What
is lost by retention or with the group's position halts its partition, with both numbers, and no
other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from streams.blobs import BlobStore
from streams.broker.port import (
    Consumer,
    Log,
    Membership,
    Outgoing,
    Poll,
    Producer,
    Record,
    TopicPartition,
)
from streams.clock import Clock
from streams.codec import kafka
from streams.codec.foreign import Reading
from streams.codec.registry import RegistryAway
from streams.engine import intake
from streams.engine.frontier import Frontier
from streams.errors import LogUnavailable, OffsetLost, StreamsError
from streams.event import Event
from streams.observe.logs import get_logger
from streams.observe.metrics import Labels
from streams.runtime.comebacks import PASSING, Comebacks
from streams.runtime.commit import Encoder, partition_of, transaction
from streams.runtime.control import ControlReader
from streams.runtime.figures import Figures
from streams.runtime.group_commit import commit_surely
from streams.runtime.putting_away import put_away
from streams.runtime.source_starts import SourceStarts
from streams.runtime.source_topics import readable
from streams.runtime.standing import Pulse, Reason
from streams.topology.plan import Naming, SourceTopic

log = get_logger(__name__)

MOST_RECORDS = 500
MOST_BYTES = 4 * 1024 * 1024
"""Of one transaction (R3)."""
AGAIN = 2.0
"""Seconds until a registry that was away is asked again."""
IDLE = 0.5
SUBMITTED, SKIPPED, UNREADABLE = "submitted", "skipped", "unreadable"

EXPLANATIONS: dict[str, str] = {
    "K092": """\
**A partition of a source is halted at a record that cannot be read.** Its policy is
`on_error: halt`; the message has the record's place and what is wrong with it. Other partitions go
on; this one goes on with a new plan or a new start of the worker, at the same record.

Next: mend what the message names (the schema, the `id` expression), or apply the topology with
`on_error: dead`.""",
}


class _Step:
    """One transaction being put together."""

    def __init__(self, left: Collection[TopicPartition] = ()) -> None:
        self.left = set(left)
        """Partitions of which nothing more is taken in this round."""
        self.records: list[Outgoing] = []
        self.places: set[TopicPartition] = set()
        self.outcomes: Counter[Labels] = Counter()
        self.size = 0

    def add(self, record: Outgoing) -> None:
        """This becomes visible with it."""
        self.records.append(record)
        self.size += len(record.value or b"")

    def finished(self, place: TopicPartition, outcome: Labels) -> None:
        """A record is done with."""
        self.places.add(place)
        self.outcomes[outcome] += 1


class Source:
    """One member of the group that reads a pipeline's sources."""

    def __init__(
        self,
        source_log: Log,
        naming: Naming,
        control: ControlReader,
        clock: Clock,
        *,
        worker: str,
        partitions: int,
        blobs: BlobStore,
        registry: str,
        figures: Figures,
    ) -> None:
        self.pulse = Pulse(clock, "source")
        self.frontiers: dict[TopicPartition, Frontier] = {}
        """How far it is in each partition it owns."""
        self.halted: dict[TopicPartition, StreamsError] = {}
        """Partitions of which nothing more is read, and why."""
        self._log = source_log
        self._naming = naming
        self._control = control
        self._clock = clock
        self._worker = worker
        self._partitions = partitions
        self._blobs = blobs
        self._registry = registry
        self._figures = figures
        self._encoder = Encoder(naming, partitions)
        self._starts = SourceStarts(source_log, naming, control, clock)
        self._readings: dict[str, Reading] = {}
        self._sources: tuple[SourceTopic, ...] = ()
        self._membership: Membership | None = None
        self._waiting: dict[TopicPartition, float] = {}
        """Partitions whose registry is away → when it is asked again."""
        self._leaving = False

    async def run(self) -> None:
        """Works until `leave`; begins anew after anything that leaves doubt about what stands."""
        comebacks = Comebacks(self._clock, self.pulse.member)
        try:
            while not self._leaving:
                try:
                    await self._live()
                except PASSING as error:
                    self.pulse.troubled(error)
                    await comebacks.after(error)
        finally:
            await self._read_by(())

    def leave(self) -> None:
        """Takes nothing more."""
        self._leaving = True

    def reasons(self, pipeline: str) -> list[Reason]:
        """What keeps it from its work."""
        if not self._sources:
            return []
        found = self.pulse.reasons(pipeline)
        for place, error in sorted(self.halted.items()):
            where = f"{place.topic}/{place.partition}: {error.code}"
            found.append(Reason("source-halted", pipeline, self.pulse.member, where))
        return found

    async def _live(self) -> None:
        self._begin()
        while not self._leaving and not self._wanted:
            await self._clock.sleep(IDLE)
        group = self._naming.source_group
        consumer = self._log.consumer(group, self._worker)
        producer = await self._log.producer(f"{group}.{self._worker}")
        try:
            while not self._leaving and self._wanted:
                await self._follow_plan(consumer)
                await self._take(consumer, producer)
            await self._good_bye(producer)
        finally:
            await consumer.close()
            await producer.close()

    def _begin(self) -> None:
        self.pulse.began()
        self.frontiers.clear()
        self.halted.clear()
        self._waiting.clear()
        self._sources = ()
        self._membership = None

    # -- what is read -----------------------------------------------------------------------

    @property
    def _wanted(self) -> tuple[SourceTopic, ...]:
        """The sources of the plan that new jobs begin with."""
        plan = self._control.table.plans.get(self._control.table.active)
        return plan.sources if plan is not None else ()

    async def _follow_plan(self, consumer: Consumer) -> None:
        """Reads what the active plan names. What was halted is looked at again."""
        wanted = self._wanted
        if wanted == self._sources:
            return
        topics = {source.topic for source in wanted}
        if topics != {source.topic for source in self._sources}:
            await consumer.subscribe(sorted(topics))
        await self._read_by(wanted)
        consumer.resume(self.halted)
        self.halted.clear()

    async def _read_by(self, sources: tuple[SourceTopic, ...]) -> None:
        former, self._readings = self._readings, {}
        for reading in former.values():
            await reading.close()
        self._sources = sources
        self._readings = {each.topic: readable(each, self._registry) for each in sources}

    # -- one round --------------------------------------------------------------------------

    async def _take(self, consumer: Consumer, producer: Producer) -> None:
        self._ask_registries_again(consumer)
        try:
            poll = await consumer.poll(MOST_RECORDS, IDLE)
        except OffsetLost as error:
            await self._halt_lost(consumer, error)
            return
        fresh = await self._change_owned(poll, consumer, producer)
        self.pulse.went_round(assigned=self._membership is not None)
        # Of those that begin anew the poll may have given what lies before their beginning.
        step = _Step(fresh)
        for record in poll.records:
            if record.place in self.frontiers and record.place not in step.left:
                await self._read(record, step, consumer)
            if step.size >= MOST_BYTES:
                await self._commit(step, producer)
                step = _Step(step.left)
        await self._commit(step, producer)

    async def _read(self, record: Record, step: _Step, consumer: Consumer) -> None:
        """Adds what follows from a record, or leaves its partition at it."""
        place, source = record.place, self._readings[record.topic].source
        outcome = SUBMITTED
        try:
            event = await self._readings[record.topic].event(record)
            if event is None:
                outcome = SKIPPED
            else:
                step.add(await self._submission(event))
        except RegistryAway as error:
            self._leave_at(record, step, consumer)
            if place not in self._waiting:
                log.warning("source.waits", topic=place.topic, partition=place.partition,
                            code=error.code, error=error.message)  # fmt: skip
            self._waiting[place] = self._clock.monotonic() + AGAIN
            return
        except LogUnavailable:
            raise
        except StreamsError as error:
            if source.on_error == "halt":
                self._leave_at(record, step, consumer)
                self._halt(place, _halt_at(record, error))
                return
            outcome = UNREADABLE if source.on_error == "dead" else SKIPPED
            self._note_unreadable(record, error, source, step)
        if self.frontiers[place].start(record.offset):
            self.frontiers[place].finish(record.offset)
        step.finished(place, self._figures.finished(place.topic, outcome))

    def _note_unreadable(
        self, record: Record, error: StreamsError, source: SourceTopic, step: _Step
    ) -> None:
        place = record.place
        if source.on_error == "skip":
            log.warning(
                "source.skipped",
                topic=place.topic,
                partition=place.partition,
                offset=record.offset,
                code=error.code,
                error=error.message,
            )
            return
        log.warning(
            "event.dead",
            topic=place.topic,
            partition=place.partition,
            offset=record.offset,
            code=error.code,
            error=error.message,
        )
        now = record.timestamp if record.timestamp > 0 else self._clock.now()
        step.add(self._encoder.dead_record(record, error.code, error.message, now))

    async def _submission(self, event: Event) -> Outgoing:
        """The event in the intake, in the partition of the job's state."""
        job = intake.scope_of(event)
        prefix = f"{self._naming.namespace}/{self._naming.pipeline}/{job}"
        event = await put_away(event, self._blobs, prefix)
        value, headers = kafka.encode(event)
        partition = partition_of(job, self._partitions)
        return Outgoing(self._naming.intake, job.encode(), value, headers, partition)

    async def _commit(self, step: _Step, producer: Producer) -> None:
        if not step.places:
            return
        offsets = {place: self.frontiers[place].commit() for place in step.places}
        wanted = transaction(step.records, offsets, self._membership)
        await commit_surely(producer, wanted, self._clock)
        self._figures.committed(step.records, step.outcomes)

    # -- what stops a partition -------------------------------------------------------------

    def _leave_at(self, record: Record, step: _Step, consumer: Consumer) -> None:
        """Nothing more of the partition is taken in this round; it stands at this record."""
        step.left.add(record.place)
        consumer.pause([record.place])
        consumer.seek(record.place, record.offset)

    def _ask_registries_again(self, consumer: Consumer) -> None:
        now = self._clock.monotonic()
        due = [place for place, when in self._waiting.items() if when <= now]
        consumer.resume(due)
        if len(self._waiting) == len(due):
            self._waiting.clear()
        else:
            self._waiting = {p: when for p, when in self._waiting.items() if p not in due}

    def _halt(self, place: TopicPartition, error: StreamsError) -> None:
        self.halted[place] = error
        log.error("source.halted", topic=place.topic, partition=place.partition,
                  code=error.code, error=error.message)  # fmt: skip

    async def _halt_lost(self, consumer: Consumer, error: OffsetLost) -> None:
        """Halts the partitions whose next records are not in the log any more."""
        places = [place for place in self.frontiers if place not in self.halted]
        marks = await self._log.watermarks(places)
        stands = await consumer.committed(places)
        lost = []
        for place in places:
            at, mark = stands[place], marks[place]
            if at is None or mark.low <= at.offset <= mark.high:
                continue
            lost.append(place)
            why = OffsetLost(
                f"{self._naming.source_group} stands at {at.offset} of {place.topic}"
                f"/{place.partition}, which has {mark.low} to {mark.high}: what lies between was"
                " deleted before it was read",
                help="Stop the workers, then: `streams recover` shows what is lost, and sets the"
                " position with --apply.",
            )
            self._halt(place, why)
        if not lost:
            raise error
        consumer.pause(lost)

    # -- ownership --------------------------------------------------------------------------

    async def _change_owned(
        self, poll: Poll, consumer: Consumer, producer: Producer
    ) -> frozenset[TopicPartition]:
        """Between two polls nothing is in hand, so what goes needs no good-bye. Answers with what
        begins anew."""
        self._figures.rebalanced(poll, self.pulse.member)
        self._forget(poll.lost | poll.revoked)
        if poll.membership is not None:
            self._membership = poll.membership
        for place, at in poll.assigned.items():
            if at is not None:
                self.frontiers[place] = Frontier(*at)
        new = frozenset(place for place, at in poll.assigned.items() if at is None)
        if new:
            await self._begin_at(new, consumer, producer)
        return new

    async def _begin_at(
        self, places: Collection[TopicPartition], consumer: Consumer, producer: Producer
    ) -> None:
        """Commits where these begin, and only then reads them from there."""
        sources = {source.topic: source for source in self._sources}
        begun = await self._starts.of(places, sources)
        offsets = {place: Frontier(at).commit() for place, at in begun.positions.items()}
        if offsets:
            wanted = transaction(begun.notes, offsets, self._membership)
            await commit_surely(producer, wanted, self._clock)
        for place, at in begun.positions.items():
            log.info("source.begins", topic=place.topic, partition=place.partition, offset=at,
                     start=sources[place.topic].start)  # fmt: skip
            consumer.seek(place, at)
        for place, error in begun.lost.items():
            consumer.pause([place])
            self._halt(place, error)
        self.frontiers.update({place: Frontier(at) for place, at in begun.positions.items()})

    def _forget(self, places: Iterable[TopicPartition]) -> None:
        for place in places:
            self.frontiers.pop(place, None)
            self.halted.pop(place, None)
            self._waiting.pop(place, None)

    async def _good_bye(self, producer: Producer) -> None:
        """Says in the positions that it left in order."""
        offsets = {place: each.commit(clean=True) for place, each in self.frontiers.items()}
        if offsets:
            wanted = transaction([], offsets, self._membership)
            await commit_surely(producer, wanted, self._clock)


def _halt_at(record: Record, error: StreamsError) -> StreamsError:
    return StreamsError(
        f"{record.topic}/{record.partition} is halted at {record.offset}: {error.message}"
        f" ({error.code})",
        code="K092",
        help=error.help,
    )
