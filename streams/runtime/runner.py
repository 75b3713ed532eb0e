"""From a delivery that may run to what follows from it: the stage's turn, in place again if need be.

The runner knows nothing of partitions and commits; it hands each finished job to `ended`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from streams.blobs import BlobError, BlobStore
from streams.broker.port import TopicPartition
from streams.clock import Clock
from streams.engine.flow import Flow
from streams.engine.frontier import Frontier
from streams.engine.messages import AnyDelivery, AnyEvent, StageEvent, origin_of
from streams.engine.payload import BlobMissing, BlobRef, JobIdentity, Payload
from streams.engine.retrying import IN_PLACE, delay_after
from streams.engine.routing import Answer, route, tried
from streams.engine.rows import Failure
from streams.engine.straight import Straight, straight_of
from streams.errors import ExpressionError
from streams.observe.metrics import ASKED, reason_of
from streams.outcome import Fail, Ok, Retry
from streams.runtime.control import ControlTable
from streams.runtime.execution import Call, CancelToken, Execution, Outcome
from streams.runtime.figures import Figures
from streams.topology.plan import Naming, Part, Plan


class Job(msgspec.Struct, eq=False):
    """A delivery in hand."""

    place: TopicPartition
    offset: int
    event: AnyEvent
    delivery: AnyDelivery
    plan: Plan
    part: Part
    payload: Payload
    cancel: CancelToken
    frontier: Frontier = msgspec.field(default_factory=Frontier)
    """Of the partition as it was owned when the job was taken: after a rebalance it is another."""
    started: int = 0
    shown: bool = False
    """It has a RUNNING row."""
    stopped_at: int = 0
    over: bool = False


class Runner:
    """Runs jobs: at once, in tasks, or in batches. Owns every task it starts."""

    def __init__(
        self,
        naming: Naming,
        control: ControlTable,
        execution: Execution,
        blobs: BlobStore,
        clock: Clock,
        worker: str,
        ended: Callable[[Job, Flow], None],
        figures: Figures | None = None,
        succeeded: Callable[[Job, StageEvent, Straight, Outcome], None] | None = None,
    ) -> None:
        self._naming = naming
        self._control = control
        self._execution = execution
        self._blobs = blobs
        self._clock = clock
        self._worker = worker
        self._ended = ended
        self._figures = figures
        self._succeeded = succeeded
        """Hears of plain successes, where it is given; `ended` of everything else."""
        self._straights: dict[tuple[str, str], Straight | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: dict[tuple[str, str], list[Job]] = {}
        self.running: dict[Job, None] = {}
        self.fault: BaseException | None = None
        """A fault of the runtime itself: the worker has to end, loudly."""

    def start(self, job: Job) -> None:
        """Runs it; `ended` hears of it, perhaps before this returns."""
        if self._execution.runs_inline(job.plan, job.part):
            self._run_inline(job)
            return
        job.started = self._clock.now()
        self.running[job] = None
        if self._execution.batch_of(job.plan, job.part) is not None:
            self._collect(job)
        else:
            self.spawn(self.run(job))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fault = self.fault or error

    async def settle_down(self, places: frozenset[TopicPartition], seconds: float) -> None:
        """Returns when nothing of these partitions runs, or time is up: less is done twice."""
        until = self._clock.monotonic() + seconds
        while any(job.place in places for job in self.running):
            if self._clock.monotonic() >= until:
                return
            await self._clock.sleep(0.01)

    async def abandon(self) -> None:
        """Ends every task, whatever it is at."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def flow(self, plan: Plan, delivery: AnyDelivery, blobs: dict[str, Any] | None = None) -> Flow:
        """An empty step for this delivery."""
        now = self._clock.now()
        return Flow(plan, self._naming, origin_of(delivery), now, worker=self._worker, blobs=blobs)

    # -- one by one -------------------------------------------------------------------------

    def _run_inline(self, job: Job) -> None:
        """The fast path: no task, no thread."""
        job.started = self._clock.now()
        try:
            if job.part.condition is not None:
                flow = self.flow(job.plan, job.delivery)
                if not self._wanted(job, flow):
                    self._end(job, flow)
                    return
            outcome = self._execution.run_inline(self._call(job))
            self._tell_called(job, outcome)
            if self._is_straight(job, outcome):
                return
            delay = self._delay(job, outcome)
            if delay is not None and delay <= IN_PLACE:
                self._count(job, outcome)
                self._go_on_in_task(job, delay)
                return
            flow = self.flow(job.plan, job.delivery)
            self._route(job, flow, outcome, delay)
        except BlobMissing:
            self._go_on_in_task(job)
            return
        self._end(job, flow)

    def _is_straight(self, job: Job, outcome: Outcome) -> bool:
        """Whether it was a plain success with nothing to decide: then what follows was told."""
        event = job.event
        if (
            type(outcome.verdict) is not Ok
            or outcome.cancelled
            or self._succeeded is None
            or not isinstance(event, StageEvent)
            or job.payload is not event.data
            or (self._control.stops and self._is_stopped(job))
        ):
            return False
        key = (event.digest, event.part)
        try:
            straight = self._straights[key]
        except KeyError:
            straight = self._straights[key] = straight_of(job.plan, self._naming, job.part)
        if straight is None or job.over:
            return False
        job.over = True
        self.running.pop(job, None)
        self._succeeded(job, event, straight, outcome)
        return True

    def _go_on_in_task(self, job: Job, wait: float = 0.0) -> None:
        self.running[job] = None
        self.spawn(self.run(job, wait))

    async def run(self, job: Job, wait: float = 0.0, outcome: Outcome | None = None) -> None:
        """Runs a job, again in place after short delays, until something follows from it. With an
        outcome it has been called already."""
        self.running[job] = None
        blobs: dict[str, Any] = {}
        while True:
            flow = self.flow(job.plan, job.delivery, blobs)
            try:
                if outcome is None:
                    if not self._wanted(job, flow):
                        break
                    if wait:
                        await self._wait(job, wait)
                    outcome = await self._execution.run(self._call(job))
                    self._tell_called(job, outcome)
                    if self._is_straight(job, outcome):
                        return
                delay = self._delay(job, outcome)
                if delay is not None and delay <= IN_PLACE and not job.cancel.cancelled:
                    self._count(job, outcome)
                    wait, outcome = delay, None
                    continue
                self._route(job, flow, outcome, delay)
                break
            except BlobMissing as missing:
                outcome = await self._fetched(missing.ref, blobs) or outcome
        self._end(job, flow)

    async def _fetched(self, ref: BlobRef, blobs: dict[str, Any]) -> Outcome | None:
        """The value is in `blobs` then; where it cannot be had, the outcome that this makes."""
        try:
            blobs[ref.url] = await self._blobs.value(ref)
        except BlobError as error:
            now = self._clock.now()
            return Outcome(
                verdict=Fail(error.message, error.code, error.retriable),
                error=Failure(error.code, error.message),
                started=now,
                ended=now,
            )
        return None

    async def _wait(self, job: Job, seconds: float) -> None:
        """Between attempts; a stop ends the wait."""
        stopped = asyncio.create_task(job.cancel.wait())
        passed = asyncio.create_task(self._clock.sleep(seconds))
        try:
            await asyncio.wait({stopped, passed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopped, passed):
                task.cancel()
            await asyncio.gather(stopped, passed, return_exceptions=True)

    def _call(self, job: Job) -> Call:
        d, plan = job.delivery, job.plan
        identity = JobIdentity(
            d.root, plan.pipeline, plan.version, d.scope, d.epoch, d.turn, d.attempt, d.tenant
        )
        return Call(plan, job.part, job.event, job.payload, identity, job.cancel)

    def _wanted(self, job: Job, flow: Flow) -> bool:
        """The part's `if`. When it says no, or cannot be judged, the flow holds what follows."""
        if job.part.condition is None:
            return True
        d = job.delivery
        try:
            if flow.wanted(job.part, job.payload):
                return True
        except ExpressionError as error:
            failure = Failure(error.code, error.message)
            flow.fail(job.part, job.event, job.payload, failure, turn=d.turn, attempt=d.attempt)
            return False
        flow.end(
            job.part, "SKIPPED", job.event.id, job.payload,
            turn=d.turn, attempt=d.attempt, reason="if is false",
        )  # fmt: skip
        return False

    def _delay(self, job: Job, outcome: Outcome) -> float | None:
        """Seconds until the next attempt, if there is to be one."""
        verdict = outcome.verdict
        if outcome.cancelled or type(verdict) is Ok:
            return None
        if isinstance(verdict, Retry):
            return verdict.after
        if not isinstance(verdict, Fail):
            return None
        return delay_after(
            self._execution.policies.of(job.plan, job.part),
            job.delivery.attempt,
            retriable=verdict.retriable,
            jitter=self._clock.random(),
        )

    def _count(self, job: Job, outcome: Outcome) -> None:
        """Spends the attempt; same turn, nothing is written. A `retry` verdict spends none."""
        self._tell_again(job, outcome)
        if not isinstance(outcome.verdict, Retry):
            job.payload = tried(job.delivery, job.payload, self._answer(job, outcome))
            job.delivery = msgspec.structs.replace(job.delivery, attempt=job.delivery.attempt + 1)

    def _answer(self, job: Job, outcome: Outcome) -> Answer:
        stopped = outcome.cancelled or (self._control.stops and self._is_stopped(job))
        return Answer(
            outcome.verdict, outcome.started, outcome.ended, outcome.out, outcome.meta,
            outcome.error, bool(stopped),
        )  # fmt: skip

    def _is_stopped(self, job: Job) -> bool:
        return self._control.stopped(job.delivery.root, job.delivery.epoch) is not None

    def _route(self, job: Job, flow: Flow, outcome: Outcome, delay: float | None) -> None:
        flow.now = outcome.ended
        answer = self._answer(job, outcome)
        route(flow, job.part, job.event, job.delivery, job.payload, answer, delay)
        if delay is not None and not answer.stopped:
            self._tell_again(job, outcome)

    def _tell_called(self, job: Job, outcome: Outcome) -> None:
        if self._figures is not None:
            self._figures.called(job.part.path, outcome.started, outcome.ended)

    def _tell_again(self, job: Job, outcome: Outcome) -> None:
        if self._figures is not None:
            verdict = outcome.verdict
            reason = reason_of(verdict.code) if isinstance(verdict, Fail) else ASKED
            self._figures.again(job.part.path, reason)

    def _end(self, job: Job, flow: Flow) -> None:
        self.running.pop(job, None)
        if not job.over:
            job.over = True
            self._ended(job, flow)

    # -- several in one call ----------------------------------------------------------------

    def _collect(self, job: Job) -> None:
        """Adds to its part's batch, which goes when it is full or has waited long enough."""
        key = (job.plan.digest, job.part.path)
        batch = self._batches.setdefault(key, [])
        batch.append(job)
        limits = self._execution.batch_of(job.plan, job.part)
        assert limits is not None
        if len(batch) >= limits.max_items:
            self._flush(key)
        elif len(batch) == 1:
            self.spawn(self._flush_later(key, batch, limits.max_wait))

    async def _flush_later(self, key: tuple[str, str], batch: list[Job], wait: float) -> None:
        await self._clock.sleep(wait)
        if self._batches.get(key) is batch:
            self._flush(key)

    def _flush(self, key: tuple[str, str]) -> None:
        self.spawn(self._run_batch(self._batches.pop(key)))

    async def _run_batch(self, jobs: list[Job]) -> None:
        ready: list[Job] = []
        for job in jobs:
            flow = self.flow(job.plan, job.delivery)
            try:
                if self._wanted(job, flow):
                    ready.append(job)
                else:
                    self._end(job, flow)
            except BlobMissing:
                self.spawn(self.run(job))
        calls = [self._call(job) for job in ready]
        outcomes = await self._execution.run_batch(calls)
        for job, outcome in zip(ready, outcomes, strict=True):
            self._tell_called(job, outcome)
            if self._is_straight(job, outcome):
                continue
            delay = self._delay(job, outcome)
            if delay is not None and delay <= IN_PLACE:
                self._count(job, outcome)
                self.spawn(self.run(job, delay))
                continue
            flow = self.flow(job.plan, job.delivery)
            try:
                self._route(job, flow, outcome, delay)
            except BlobMissing:
                self.spawn(self.run(job))
                continue
            self._end(job, flow)

    # -- stopping ---------------------------------------------------------------------------

    def stop(self, root: str) -> None:
        """Tells every running part of a job that it was stopped."""
        for job in self.running:
            if job.delivery.root == root and self._control.stopped(root, job.delivery.epoch):
                job.stopped_at = job.stopped_at or self._clock.now()
                job.cancel.set("the job was stopped")

    def let_go(self, job: Job) -> None:
        """The stage does not heed the stop: its lane goes on without it, its result is dropped."""
        d = job.delivery
        flow = self.flow(job.plan, d)
        flow.end(
            job.part, "CANCELLED", job.event.id, job.payload,
            turn=d.turn, attempt=d.attempt, reason="did not heed the stop",
        )  # fmt: skip
        self._end(job, flow)
