"""The worker's runner for one run in memory: one task runs stage after stage while none waits."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any, NamedTuple, TypeVar

import msgspec

from streams.authoring.context import CancelToken
from streams.broker.port import TopicPartition
from streams.engine import routing
from streams.engine.flow import Flow
from streams.engine.frontier import Frontier
from streams.engine.messages import AnyDelivery
from streams.engine.payload import BLOB, INLINE_LIMIT, BlobMissing
from streams.outcome import Ok
from streams.runtime.call_preparation import Prepared
from streams.runtime.call_values import Answer, Call, Outcome, Raised
from streams.runtime.execution import GRACE
from streams.runtime.inprocess_flow import Begin, LocalFlow, Post, own_payload
from streams.runtime.inprocess_stages import LazyContext, LocalExecution
from streams.runtime.runner import Job, Runner
from streams.topology.plan import Plan

Result = TypeVar("Result")

NOWHERE = TopicPartition("", 0)
"""The place of a delivery that came from no log."""
NO_FRONTIER = Frontier()
MOST_IN_A_ROW = 256
LONGEST_IN_A_ROW = 5
"""Stages, and ms, that one task runs before it lets others have a turn: few of them wait."""


def _nobody(*_: object) -> None:
    """Hears of it."""


class Begun(NamedTuple):
    """Work of a stage that waits already."""

    run: Callable[..., Any]
    """Gives it context variables of its own."""
    awaited: Any
    """What it waits for."""
    task: asyncio.Task[Any]
    """Is cancelled by a stop; work that never waits cannot be stopped, and needs no ear for it."""
    stop: CancelToken


class StageRunner(Runner):
    """The worker's runner. It says when something is wrong and keeps outputs of any size.

    Stages are run by a driver, a task that takes one after another off the queue. Where a stage
    waits for something, the driver stays with it, for it is the task that the stage knows as its
    own, and another driver goes on with the queue. So a stage has a task to itself exactly if it
    needs one.
    """

    _execution: LocalExecution
    wake: Callable[[], None]
    idle: Callable[[], None]
    """Called when nothing is left in the queue."""

    def __init__(self, plan: Plan, post: Post, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.outputs: dict[str, bytes] = {}
        """Part → what it returned last, or a reference to it."""
        self.references = False
        """Whether values of this run may be references to the blob store."""
        self._plan = plan
        self._post = post
        self._queue: deque[Begin] = deque()
        self._step: Flow | None = None
        self._driver: object | None = None
        """Who sees to the queue; None while every driver is held up by its stage."""

    @property
    def busy(self) -> bool:
        """Whether something runs, or is about to."""
        return bool(self.running or self._queue)

    def begin(self, begin: Begin) -> None:
        """The stage is run when its turn comes."""
        if begin.delivery.part in self._execution.batches:
            self.start(self._job(begin))
            return
        self._queue.append(begin)
        if self._driver is None:
            self._begin_driver()

    def _job(self, begin: Begin) -> Job:
        delivery = begin.delivery
        job = Job(
            NOWHERE, 0, self._post.event(delivery), delivery, self._plan,
            self._plan.by_path[delivery.part], begin.payload, CancelToken(), NO_FRONTIER,
        )  # fmt: skip
        if self._control.stops and self._control.stopped(delivery.root, delivery.epoch):
            job.stopped_at = self._clock.now()
            job.cancel.set("the job was stopped")
        return job

    def _shows(self, job: Job) -> None:
        """The run waits for it, unless it was let go."""
        if not job.over:
            self.running[job] = None

    def _begin_driver(self) -> None:
        self._driver = driver = object()
        self._tasks.add(asyncio.create_task(self._drive(driver)))

    async def _drive(self, driver: object) -> None:
        """Runs what is in the queue, until it is empty or somebody else has taken over."""
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._run_queue(task, driver)
        except Exception as error:  # noqa: BLE001 - a fault of the runtime: told by the run
            self.fault = self.fault or error
            self.wake()
        finally:
            self._tasks.discard(task)

    async def _run_queue(self, task: asyncio.Task[Any], driver: object) -> None:
        queue, direct = self._queue, self._execution.direct
        count, since = 0, self._clock.now()
        while queue and self._driver is driver:
            job = self._job(queue.popleft())
            job.started = self._clock.now()
            prepared = direct.get(job.part.path)
            if prepared is None or job.part.condition is not None:
                await self._watched(self.run(job), driver)
            else:
                rest = self._run_directly(job, prepared, task, driver)
                if rest is not None:
                    await rest
            count += 1
            if count >= MOST_IN_A_ROW or job.started - since >= LONGEST_IN_A_ROW:
                await self._clock.sleep(0)
                count, since = 0, self._clock.now()
        if self._driver is driver:
            self._driver = None
            self.idle()

    def _run_directly(
        self, job: Job, prepared: Prepared, task: asyncio.Task[Any], driver: object
    ) -> Awaitable[None] | None:
        """As `run`, for a stage that is just called. Gives what there is to wait for, if anything:
        a stage that waits, or an end that is not a plain success and goes the long way."""
        ctx = LazyContext.of(self, self._execution, job)
        if job.cancel.cancelled:
            return self._judge(job, ctx, Raised(asyncio.CancelledError()), driver)
        before = task.cancelling()
        work = self._execution.answer(prepared, ctx, may_lack=self.references)
        run = copy_context().run
        try:
            awaited = run(work.send, None)
        except StopIteration as end:
            given: Answer | Raised = end.value
        else:
            wait = self._watched(work, driver, Begun(run, awaited, task, job.cancel))
            return self._waited(job, ctx, wait, task, before, driver)
        if task.cancelling() > before:
            return self._calmed(job, ctx, given, task, before, driver)
        return self._go_on(job, ctx, given, driver)

    async def _waited(
        self,
        job: Job,
        ctx: LazyContext,
        wait: Awaitable[Answer | Raised],
        task: asyncio.Task[Any],
        before: int,
        driver: object,
    ) -> None:
        """Goes on once the stage, which waits for something, has answered."""
        self._shows(job)
        await self._calmed(job, ctx, await wait, task, before, driver)

    async def _calmed(
        self,
        job: Job,
        ctx: LazyContext,
        given: Answer | Raised,
        task: asyncio.Task[Any],
        before: int,
        driver: object,
    ) -> None:
        """Goes on once no cancellation of the task is left that was meant for the stage."""
        self._shows(job)
        if task.cancelling() > before:
            await self._execution.calm(task, before)
        rest = self._go_on(job, ctx, given, driver)
        if rest is not None:
            await rest

    def _go_on(
        self, job: Job, ctx: LazyContext, given: Answer | Raised, driver: object
    ) -> Awaitable[None] | None:
        """What follows from a plain success, at once. Of all else: what there is to wait for."""
        if (
            isinstance(given, Answer)
            and isinstance(given.verdict, Ok)
            and len(given.data) <= INLINE_LIMIT
            and not job.cancel.cancelled
        ):
            flow = self._next_step(job)
            answer = routing.Answer(
                given.verdict, job.started, flow.now, msgspec.Raw(given.data), given.meta
            )
            try:
                routing.route(flow, job.part, job.event, job.delivery, job.payload, answer, None)
            except BlobMissing:
                self._step = None
            else:
                self._keep_output(job, given.data)
                self._end(job, flow)
                flow.actions.clear()
                flow.echoes.clear()
                return None
        return self._judge(job, ctx, given, driver)

    def _next_step(self, job: Job) -> Flow:
        """An empty step. It is carried out before the next one begins, so one will do for all."""
        step = self._step
        if step is None or step.origin.epoch != job.delivery.epoch:
            self._step = step = self.flow(job.plan, job.delivery)
        else:
            step.now = self._clock.now()
        return step

    async def _judge(
        self, job: Job, ctx: LazyContext, given: Answer | Raised, driver: object
    ) -> None:
        await self._watched(self._run_judged(job, ctx, given), driver)

    async def _run_judged(self, job: Job, ctx: LazyContext, given: Answer | Raised) -> None:
        self._shows(job)
        await self.run(job, outcome=await self._execution.judged(job.started, ctx, given))

    @types.coroutine
    def _watched(
        self, work: Coroutine[Any, Any, Result], driver: object, begun: Begun | None = None
    ) -> Generator[Any, Any, Result]:
        """Does the work. While it waits, another driver sees to the queue."""
        step: Callable[[Any], Any] = work.send
        value: Any = None
        forget: Callable[[], None] | None = None
        try:
            while True:
                if begun is not None and forget is None:
                    awaited = begun.awaited
                    forget = begun.stop.on_set(begun.task.cancel)
                else:
                    try:
                        awaited = step(value) if begun is None else begun.run(step, value)
                    except StopIteration as end:
                        result: Result = end.value
                        return result
                if self._driver is driver:
                    self._driver = None
                    if self._queue:
                        self._begin_driver()
                try:
                    step, value = work.send, (yield awaited)
                except BaseException as error:  # noqa: BLE001 - it is for the work
                    step, value = work.throw, error
                if self._driver is None:
                    self._driver = driver
        finally:
            if forget is not None:
                forget()

    def flow(self, plan: Plan, delivery: AnyDelivery, blobs: dict[str, Any] | None = None) -> Flow:
        return LocalFlow(
            plan, self._naming, self._post.origin(delivery), self._clock.now(),
            post=self._post, worker=self._worker, blobs=blobs,
        )  # fmt: skip

    def call_of(self, job: Job) -> Call:
        return self._call(job)

    def _call(self, job: Job) -> Call:
        call = super()._call(job)
        payload = own_payload(call.payload)
        return call if payload is call.payload else msgspec.structs.replace(call, payload=payload)

    def _route(self, job: Job, flow: Flow, outcome: Outcome, delay: float | None) -> None:
        super()._route(job, flow, outcome, delay)
        self._keep_output(job, bytes(outcome.out))

    def _keep_output(self, job: Job, data: bytes) -> None:
        self.outputs[job.part.path] = data
        if data.startswith(BLOB):
            self.references = True

    async def abandon(self) -> None:
        """Ends every task, but does not wait for ever for those that will not."""
        self._queue.clear()
        for job in self.running:
            job.cancel.set("the run is over")
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE)

    def detach(self) -> None:
        """Nobody hears of anything any more. Whoever was to hear of it holds this runner: without
        the circle a run is gone when it is over, not when the garbage collector comes by."""
        self.wake = self.idle = _nobody
        self._ended = _nobody

    def _task_done(self, task: asyncio.Task[None]) -> None:
        super()._task_done(task)
        if self.fault is not None:
            self.wake()
