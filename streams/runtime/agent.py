"""The heart: one worker's loop for the stages of one pool.

A delivery's journey, top to bottom: taken from the log, skipped if it was finished before, read,
queued in the lane of its address, run (`runner`), turned into records, gathered, and committed
together with its offset (`group_commit`). While one transaction is under way the work goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

import msgspec

from streams.blobs import BlobStore
from streams.broker.port import (
    Committed,
    Consumer,
    Log,
    Poll,
    Producer,
    Record,
    TopicPartition,
    Watermarks,
)
from streams.clock import Clock
from streams.engine.flow import Flow
from streams.engine.frontier import Frontier
from streams.engine.lanes import Lanes
from streams.engine.messages import AnyDelivery, AnyEvent, StageEvent
from streams.engine.payload import Payload
from streams.engine.priority import LOW
from streams.engine.routing import park
from streams.engine.rows import Failure, Row
from streams.engine.straight import Straight
from streams.errors import EventError, StreamsError
from streams.observe.logs import get_logger
from streams.observe.metrics import Metrics
from streams.runtime.comebacks import PASSING, Comebacks
from streams.runtime.commit import Encoder
from streams.runtime.control import ControlReader
from streams.runtime.deliveries import opened
from streams.runtime.execution import NOT_HERE, CancelToken, Execution, Outcome
from streams.runtime.figures import DROPPED, PARKED, SUCCEEDED, UNREADABLE, Figures
from streams.runtime.first_positions import FirstPositions
from streams.runtime.group_commit import GroupCommit, Said
from streams.runtime.runner import Job, Runner
from streams.runtime.scout import Scout
from streams.runtime.standing import Pulse
from streams.runtime.trimming import Trimming
from streams.topology.plan import USER_CODE, Naming, Part, Plan

log = get_logger(__name__)

SHOW_RUNNING = 1_000
"""A stage that runs longer than this (ms) gets a RUNNING row."""
GIVE_UP_ON = 9_000
"""How long (ms) stopped work may go on before its lane goes on without it."""
LAST_MOMENTS = 2.0
"""Seconds that running work gets to end when its partition goes to another worker."""
MOST_IN_HAND = 1_000
"""Deliveries of one partition in memory, above which no more are taken."""
AT_ONCE = 500
"""Records of one poll."""


class Agent:
    """One member of a pool's group."""

    def __init__(
        self,
        source: Log,
        naming: Naming,
        control: ControlReader,
        execution: Execution,
        blobs: BlobStore,
        clock: Clock,
        *,
        pool: str,
        worker: str,
        partitions: int,
        stages: frozenset[str] | None = None,
        echo: Callable[[str, str, str], None] | None = None,
        figures: Figures | None = None,
    ) -> None:
        self._log = source
        self._naming = naming
        self._control = control
        self._clock = clock
        self._figures = figures or Figures(Metrics(), naming, clock)
        self.pulse = Pulse(clock, f"pool {pool}")
        self._pool = pool
        self._worker = worker
        self._group = naming.pool_group(pool)
        self._first = FirstPositions(naming, control, clock, self._group)
        self._stages = stages
        self._echo = echo
        self._encoder = Encoder(naming, partitions)
        self._execution = execution
        self._blobs = blobs
        self._leaving = False
        self._leave_by = 0.0
        self._said: dict[TopicPartition, Said] = {}
        """Outlives a new beginning: what this process wrote itself is no sign of a death."""
        self._begin()

    def _begin(self) -> None:
        self._out = GroupCommit(self._clock, self._dispatch, self._said, self._figures)
        self._runner = Runner(
            self._naming,
            self._control.table,
            self._execution,
            self._blobs,
            self._clock,
            self._worker,
            self._ended,
            self._figures,
            self._succeeded,
        )
        self._lanes: Lanes[Job] = Lanes(
            attrgetter("part.path"),
            attrgetter("delivery.scope", "part.path"),
            self._limit,
            attrgetter("delivery.priority"),
        )
        self._more_waits = False
        frontiers = self._out.frontiers
        self._scout = Scout(
            self._log, self._clock, frontiers, self._behind, self._receive, self._dispatch
        )
        self._dispatching = False
        self._alone = asyncio.Lock()
        self._limits: dict[Any, int] = {}
        """Of each part, until the plans change: it is asked for with every delivery."""
        self._plans_changed = False
        self._trimming = Trimming(
            self._log,
            self._naming,
            self._control.table,
            self._clock,
            pool=self._pool,
            committed_offset=self._out.committed_offset,
        )

    # -- life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Works until `leave`; starts anew after anything that leaves doubt about what stands."""
        comebacks = Comebacks(self._clock, self.pulse.member)
        listeners = self._control.table.listeners
        listeners.append(self._control_changed)
        try:
            while not self._leaving:
                try:
                    await self._live()
                except PASSING as error:
                    self.pulse.troubled(error)
                    await comebacks.after(error)
        finally:
            listeners.remove(self._control_changed)

    def leave(self, seconds: float = 30.0) -> None:
        """Takes nothing more; `run` returns when what runs has been committed, or after that long:
        what runs still is left to the next owner, in order."""
        self._leave_by = self._clock.monotonic() + seconds
        self._leaving = True

    @property
    def owned(self) -> frozenset[TopicPartition]:
        return frozenset(self._out.frontiers)

    @property
    def frontiers(self) -> Mapping[TopicPartition, Frontier]:
        """How far it is in each partition it owns."""
        return self._out.frontiers

    @property
    def in_hand(self) -> int:
        return len(self._runner.running) + self._lanes.waiting

    async def _live(self) -> None:
        self._begin()
        self.pulse.began()
        self._apply_pauses()
        consumer = self._log.consumer(self._group, self._worker)
        producer = await self._log.producer(f"{self._group}.{self._worker}")
        beside = [
            asyncio.create_task(self._watch(), name="agent.watch"),
            asyncio.create_task(self._out.run(producer), name="agent.commits"),
            asyncio.create_task(self._scout.run(), name="agent.scout"),
        ]
        try:
            await consumer.subscribe(self._topics())
            while not self._may_leave:
                await self._take(consumer, producer)
                self._raise_faults(beside)
            await self._out.give_up(producer, frozenset(self._out.frontiers))
        finally:
            for task in beside:
                task.cancel()
            await self._runner.abandon()
            await asyncio.gather(*beside, return_exceptions=True)
            await consumer.close()
            await producer.close()

    @property
    def _may_leave(self) -> bool:
        late = self._clock.monotonic() >= self._leave_by
        return self._leaving and (late or not self._runner.running)

    def _raise_faults(self, beside: Iterable[asyncio.Task[None]]) -> None:
        """A fault of the runtime always ends the agent, loudly."""
        for task in beside:
            if task.done():
                task.result()
        if self._runner.fault is not None:
            raise self._runner.fault

    # -- taking -----------------------------------------------------------------------------

    async def _take(self, consumer: Consumer, producer: Producer) -> None:
        """One poll: changes of ownership first, then records."""
        if self._plans_changed:
            self._plans_changed = False
            await consumer.subscribe(self._topics())
            self._apply_pauses()
        full = self._full()
        consumer.pause(full)
        consumer.resume([place for place in self._out.frontiers if place not in full])
        poll = await consumer.poll(AT_ONCE, 0.25)
        self._more_waits = len(poll.records) >= AT_ONCE
        await self._change_owned(poll, producer)
        self.pulse.went_round(assigned=self._out.membership is not None)
        self._receive_all(poll.records)
        self._dispatch()
        await self._trimming.trim(self._out.frontiers)

    def _behind(self) -> set[TopicPartition]:
        """Partitions in which more events wait than were taken, as far as can be told."""
        return set(self._out.frontiers) if self._more_waits else self._full()

    def _full(self) -> set[TopicPartition]:
        """Partitions to take nothing more from for now. Judged one by one: the backlog of a slow
        stage must not keep the others from their events."""
        return {
            place
            for place, frontier in self._out.frontiers.items()
            if self._leaving or frontier.full or frontier.in_hand >= MOST_IN_HAND
        }

    async def _change_owned(self, poll: Poll, producer: Producer) -> None:
        self._figures.rebalanced(poll, self.pulse.member)
        if poll.lost:
            self._forget(poll.lost)
        if poll.revoked:
            self._lanes.forget(lambda job: job.place in poll.revoked)
            await self._runner.settle_down(poll.revoked, LAST_MOMENTS)
            await self._out.give_up(producer, poll.revoked)
            self._forget(poll.revoked)
        if poll.membership is not None:
            self._out.membership = poll.membership
        if poll.assigned:
            marks = await self._log.watermarks(poll.assigned)
            notes = await self._first.notes(poll.assigned, marks)
            taken = {
                place: self._taken_over(place, committed, marks[place])
                for place, committed in poll.assigned.items()
            }
            await self._out.own(producer, taken, notes)

    def _taken_over(
        self, place: TopicPartition, committed: Committed | None, marks: Watermarks
    ) -> Frontier:
        """The frontier of a new partition. Its former owner's death is counted, unless that was
        this very process, which began anew after trouble with the log."""
        position = committed or Committed(marks.low)
        frontier = Frontier(*position)
        said = self._said.get(place)
        if said is not None and not frontier.clean and committed in (said.known, said.tried):
            frontier.suspect = None
            frontier.trouble_until = marks.high if frontier.deaths else 0
        else:
            frontier.take_over(marks.high)
        self._said[place] = Said(position)
        return frontier

    def _forget(self, places: frozenset[TopicPartition]) -> None:
        """Whatever is in hand for these partitions belongs to somebody else now."""
        self._out.forget(places)
        self._lanes.forget(lambda job: job.place in places)
        for job in self._runner.running:
            if job.place in places:
                job.cancel.set("the partition went to another worker")

    def _receive_all(self, records: Iterable[Record]) -> None:
        """Queues what is not finished; records of one partition come together."""
        frontiers = self._out.frontiers
        place, frontier = TopicPartition("", 0), None
        for record in records:
            if record.partition != place.partition or record.topic != place.topic:
                place = record.place
                frontier = frontiers.get(place)
            if frontier is not None and frontier.start(record.offset):
                self._receive(record, place, frontier)

    def _receive(self, record: Record, place: TopicPartition, frontier: Frontier) -> None:
        """Reads one record and queues it; what cannot be read goes to the dead letters."""
        try:
            event, delivery, payload = opened(record)
        except (StreamsError, msgspec.MsgspecError) as error:
            self._bury(record, error)
            return
        table = self._control.table
        plan = table.plans.get(delivery.digest)
        if plan is None:
            self._not_here(record, event, delivery, payload)
            return
        part = plan.by_path.get(delivery.part)
        if part is None:
            reason = f"version {plan.version} has no {delivery.part}"
            self._bury(record, EventError(reason, code="V047", field="part"))
            return
        stopped = table.stops and table.stopped(delivery.root, delivery.epoch)
        if stopped or not self._is_mine(part):
            counted = self._figures.finished(record.topic, DROPPED, part.path)
            self._out.gather(place, record.offset, [], counted)
            return
        job = Job(
            place, record.offset, event, delivery, plan, part, payload,
            CancelToken(), frontier,
        )  # fmt: skip
        if delivery.priority == LOW:
            self._scout.saw_low(place)
        if not self._is_deadly(frontier, job):
            self._lanes.add(job)

    def _bury(self, record: Record, error: Exception) -> None:
        code = error.code if isinstance(error, StreamsError) else "V048"
        log.warning(
            "event.dead",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            code=code,
            error=str(error),
        )
        letter = self._encoder.dead_record(record, code, str(error), self._clock.now())
        counted = self._figures.finished(record.topic, UNREADABLE)
        self._out.gather(record.place, record.offset, [letter], counted)

    def _not_here(
        self, record: Record, event: AnyEvent, delivery: AnyDelivery, payload: Payload
    ) -> None:
        """A plan this worker has not read yet: offered again later, never a dead letter."""
        flow = self._runner.flow(Plan(self._naming.pipeline, "0", ()), delivery)
        park(
            flow, delivery.part, event, delivery, payload, NOT_HERE,
            attempt=delivery.attempt, reason="no-capable-worker",
        )  # fmt: skip
        counted = self._figures.finished(record.topic, PARKED, delivery.part)
        self._out.gather(record.place, record.offset, self._encoder.records(flow.actions), counted)

    def _is_deadly(self, frontier: Frontier, job: Job) -> bool:
        """An event that has taken workers down with it is not run again for ever."""
        if frontier.suspect != job.offset:
            return False
        if frontier.deaths < max(2, self._execution.policies.of(job.plan, job.part).max_attempts):
            return False
        flow = self._runner.flow(job.plan, job.delivery)
        failure = Failure("S041", f"worker-died: {frontier.deaths} workers died while they ran it")
        d = job.delivery
        flow.fail(job.part, job.event, job.payload, failure, turn=d.turn, attempt=d.attempt)
        counted = self._figures.ended(job.place.topic, job.part.path, flow)
        self._out.gather(job.place, job.offset, self._encoder.records(flow.actions), counted)
        frontier.suspect, frontier.deaths = None, 0
        return True

    # -- running ----------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Starts whatever may run now. What ends at once makes room for more: the same goes on."""
        if self._dispatching:
            return
        self._dispatching = True
        try:
            self._start_ready()
        finally:
            self._dispatching = False

    def _start_ready(self) -> None:
        table = self._control.table
        while not self._leaving and (job := self._lanes.next()) is not None:
            frontier = job.frontier
            if not self._owns(job):
                self._lanes.done(job)
            elif table.stops and table.stopped(job.delivery.root, job.delivery.epoch):
                self._lanes.done(job)
                counted = self._figures.finished(job.place.topic, DROPPED, job.part.path)
                self._out.gather(job.place, job.offset, [], counted)
            elif frontier.deaths >= 2:
                self._runner.spawn(self._run_alone(job, frontier))
            else:
                self._runner.start(job)

    async def _run_alone(self, job: Job, frontier: Frontier) -> None:
        """After deaths: one at a time, its offset committed first, so that the next owner knows."""
        async with self._alone:
            frontier.suspect = job.offset
            if not (self._owns(job) and await self._out.say(job.place)):
                self._lanes.done(job)
                return
            job.started = self._clock.now()
            await self._runner.run(job)
            frontier.suspect = None

    def _owns(self, job: Job) -> bool:
        """Whether the partition is still held as it was when the job was taken."""
        return self._out.frontiers.get(job.place) is job.frontier

    def _ended(self, job: Job, flow: Flow) -> None:
        """What follows from a job waits for the next transaction."""
        if self._echo is not None:
            for path, text in flow.echoes:
                self._echo(job.delivery.root, path, text)
        self._lanes.done(job)
        if self._owns(job):
            records = self._encoder.records(flow.actions, job)
            counted = self._figures.ended(job.place.topic, job.part.path, flow)
            self._out.gather(job.place, job.offset, records, counted)
        if not self._dispatching:
            self._dispatch()

    def _succeeded(self, job: Job, event: StageEvent, straight: Straight, outcome: Outcome) -> None:
        """The same of a plain success."""
        self._lanes.done(job)
        if self._owns(job):
            records = self._encoder.success(straight, event, outcome, self._worker)
            counted = self._figures.finished(job.place.topic, SUCCEEDED, straight.path)
            self._out.gather(job.place, job.offset, records, counted)
        if not self._dispatching:
            self._dispatch()

    # -- what changes from outside ------------------------------------------------------------

    def _control_changed(self, key: str) -> None:
        if key.startswith("plan/"):
            self._plans_changed = True
            self._limits.clear()
        elif key.startswith("pause/"):
            self._apply_pauses()
            self._dispatch()
        elif key.startswith("stop/"):
            self._runner.stop(key[5:])

    def _apply_pauses(self) -> None:
        table = self._control.table
        paths = {part.path for plan in table.plans.values() for part in plan.parts}
        self._lanes.paused = {path for path in paths if table.is_paused(path)}

    def _topics(self) -> list[str]:
        """Stage topics of every plan that gives the stage to this pool."""
        parts = (part for plan in self._control.table.plans.values() for part in plan.parts)
        mine = {p.path for p in parts if p.kind in USER_CODE and self._is_mine(p)}
        return sorted(self._naming.stage(path) for path in mine)

    def _is_mine(self, part: Part) -> bool:
        return part.pool == self._pool and (self._stages is None or part.path in self._stages)

    def _limit(self, path: Any) -> int:
        limit = self._limits.get(path)
        if limit is None:
            plans = self._control.table.plans.values()
            limit = max(
                (p.by_path[path].concurrency for p in plans if path in p.by_path), default=1
            )
            self._limits[path] = limit
        return limit

    async def _watch(self) -> None:
        """Shows what runs long, and lets go of what does not heed a stop."""
        while True:
            await self._clock.sleep(0.25)
            now = self._clock.now()
            for job in list(self._runner.running):
                if not job.shown and now - job.started > SHOW_RUNNING:
                    self._show_running(job)
                if job.stopped_at and now - job.stopped_at > GIVE_UP_ON:
                    log.warning("stage.does_not_stop", job=job.delivery.root, stage=job.part.path)
                    self._runner.let_go(job)

    def _show_running(self, job: Job) -> None:
        job.shown = True
        d = job.delivery
        flow = self._runner.flow(job.plan, d)
        row = Row(
            "RUNNING", epoch=d.epoch, turn=d.turn, attempt=d.attempt, phase=1, plan=d.digest,
            root=d.root, worker=self._worker, at=job.started, times=job.payload.tries,
        )  # fmt: skip
        flow.put(job.part.path, row)
        if self._owns(job):
            self._out.gather(job.place, None, self._encoder.records(flow.actions))
