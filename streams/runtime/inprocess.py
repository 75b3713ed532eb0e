"""One job of a plan in this process: keeper and agents in one object, rows in memory.

Every decision is the engine's, and every stage is run by the worker's own runner and execution, so
a plan does here what it does on a log. Only the log is missing: what a step asks for is applied at
once instead of being committed, and nothing outlives the run.

The keeper's part is done once for all that happened in one pass of the event loop. What it decides
depends on what the rows say, not on how often they are looked at; so a thousand stages that end
together are judged once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec

from streams.authoring.context import CancelToken, ContextSnapshot
from streams.broker.port import Record, TopicPartition
from streams.clock import Clock
from streams.engine import keeping
from streams.engine import payload as payloads
from streams.engine.actions import Action, Publish, PutControl, PutRow
from streams.engine.flow import Flow
from streams.engine.frontier import Frontier
from streams.engine.intake import check_job_id
from streams.engine.messages import SIGNAL, SUBMIT, SignalData, SubmitData, read
from streams.engine.payload import INLINE_LIMIT, BlobMissing, blob_of, reference
from streams.engine.rows import JobRow, decode_job, is_closing
from streams.engine.turn import INLINE_ARRIVALS, Turn
from streams.engine.view import JobView, job_view
from streams.errors import UserError
from streams.event import Event, encode_value
from streams.registry import StageRegistry
from streams.runtime.call_preparation import Prepared, prepare
from streams.runtime.control import ControlTable
from streams.runtime.execution import GRACE, Outcome
from streams.runtime.inprocess_rows import Rows, RunTurn
from streams.runtime.inprocess_stages import (
    JSON,
    NAMESPACE,
    LocalExecution,
    MemoryBlobs,
    leaves_something,
)
from streams.runtime.runner import Job, Runner
from streams.secrets import Secrets
from streams.topology.plan import KEEPER_RUN, USER_CODE, Naming, Plan

SOURCE = "/streams/inprocess"
WORKER = "in-process"
NOWHERE = TopicPartition("", 0)
"""The place of a delivery that came from no log."""
NO_FRONTIER = Frontier()
GIVE_UP_ON = 9.0
"""Seconds that a stopped stage may go on before the run ends without it."""
MOST_IN_A_ROW = 64
"""Stages one task runs before it lets others have a turn: few of them wait for anything."""

Decide = Callable[[Turn], None]


class StageRunner(Runner):
    """The worker's runner. It says when something is wrong, keeps outputs of any size, and goes on
    to the next stage in the same task where one ends and another begins."""

    wake: Callable[[], None]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.outputs: dict[str, msgspec.Raw] = {}
        self._in_task: set[Job] = set()
        self._takes_next = False
        self._next: Job | None = None

    def start(self, job: Job) -> None:
        """Runs it: next in the task that calls, if that is about to be free."""
        if (
            not self._takes_next
            or self._next is not None
            or self._execution.runs_inline(job.plan, job.part)
            or self._execution.batch_of(job.plan, job.part) is not None
        ):
            super().start(job)
            return
        job.started = self._clock.now()
        self.running[job] = None
        self._next = job

    async def run(self, job: Job, wait: float = 0.0) -> None:
        """Runs a job, and those that follow from it one after another."""
        for count in itertools.count(1):
            self._in_task.add(job)
            await super().run(job, wait)
            self._in_task.discard(job)
            following, self._next = self._next, None
            if following is None:
                return
            if count % MOST_IN_A_ROW == 0:
                await self._clock.sleep(0)
            job, wait = following, 0.0

    def _end(self, job: Job, flow: Flow) -> None:
        before = self._takes_next
        self._takes_next = before or job in self._in_task
        try:
            super()._end(job, flow)
        finally:
            self._takes_next = before

    def _route(self, job: Job, flow: Flow, outcome: Outcome, delay: float | None) -> None:
        super()._route(job, flow, outcome, delay)
        self.outputs[job.part.path] = outcome.out

    def let_go(self, job: Job) -> None:
        """The stage does not heed the stop: the run goes on without it, and without its task."""
        self._in_task.discard(job)
        super().let_go(job)

    async def abandon(self) -> None:
        """Ends every task, but does not wait for ever for those that will not."""
        for job in self.running:
            job.cancel.set("the run is over")
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=GRACE)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        super()._task_done(task)
        if self.fault is not None:
            self.wake()


@dataclass(frozen=True)
class Ended:
    """A job that is over. Its rows are read when they are looked at."""

    job: str
    plan: Plan
    rows: Mapping[str, bytes]
    outputs: Mapping[str, bytes]
    """Part → what it returned last, as JSON and whole; it counts if the part succeeded."""
    at: int

    @cached_property
    def end(self) -> JobRow:
        """The job's own row."""
        return decode_job(self.rows["@job"])

    @cached_property
    def view(self) -> JobView:
        return job_view(self.job, self.plan, self.rows, now=self.at)


class InProcess:
    """One run of a plan; `run` gives its end."""

    def __init__(self, host: Host, execution: LocalExecution, job: str) -> None:
        plan = host.plan
        self.job = job
        self._plan = plan
        self._naming = host.naming
        self._clock = host.clock
        self._blobs = host.blobs
        self._prefix = f"{NAMESPACE}/{plan.pipeline}/{job}"
        self._control = ControlTable()
        self._control.plans = {plan.digest: plan}
        self._control.active = plan.digest
        self._rows = Rows(job, self._control.plans, host.quiet)
        self._runner = StageRunner(
            host.naming, self._control, execution, host.blobs, host.clock, WORKER, self._ended
        )
        self._runner.wake = self._wake
        self._arrived: deque[Event] = deque()
        """For the keeper."""
        self._to_start: deque[Event] = deque()
        """For the stages."""
        self._starting = False
        self._look = False
        self._look_closing = False
        self._due = False
        self._keeper_called = False
        self._inputs = itertools.count()
        self.stopped = False
        """Running stages were told to stop."""
        self._last_moments: asyncio.Task[None] | None = None
        self._sleeper: asyncio.Task[None] | None = None
        self._sleeps_until: int | None = None
        self._loaded: dict[str, Any] = {}
        self._time = 0
        self._done = False
        self._fault: BaseException | None = None
        self._over = asyncio.Event()

    # -- life -------------------------------------------------------------------------------

    async def run(
        self,
        params: Mapping[str, Any],
        data: Any,
        *,
        facts: Mapping[str, Any] | None = None,
        deadline: int | None = None,
    ) -> Ended:
        """The job's end. Raises what is wrong with the submission. Cancelled from outside, it
        stops the stages, waits for them, and passes the cancellation on."""
        try:
            if facts:
                self._signal(SignalData("fact", dict(facts), by=WORKER))
            self._submit(params, data, deadline)
            await self._wait()
            return self._end()
        finally:
            await self._leave()

    async def _wait(self) -> None:
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            self._signal(SignalData("cancel", reason="the run was cancelled", by=WORKER))
            await self._over.wait()
            raise
        fault = self._fault or self._runner.fault
        if fault is not None:
            raise fault

    async def _leave(self) -> None:
        self._done = True
        if self._runner.running:
            await self._runner.abandon()
        for task in (self._sleeper, self._last_moments):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._blobs.forget(self._prefix)

    def _wake(self) -> None:
        """Lets `run` look whether there is anything left to wait for."""
        failed = self._fault is not None or self._runner.fault is not None
        if failed or (self._done and not self._runner.running):
            self._over.set()

    def _end(self) -> Ended:
        outputs = {path: self._whole(out) for path, out in self._runner.outputs.items()}
        return Ended(self.job, self._plan, self._rows.all, outputs, self._now())

    def _whole(self, out: msgspec.Raw) -> bytes:
        ref = blob_of(out)
        return bytes(out) if ref is None else self._blobs.get_now(ref)

    # -- what comes from outside ------------------------------------------------------------

    def _submit(self, params: Mapping[str, Any], data: Any, deadline: int | None) -> None:
        content = encode_value(data, JSON)
        raw = msgspec.Raw(content)
        if len(content) > INLINE_LIMIT:
            raw = reference(self._blobs.put_now(self._prefix, content))
        self._take_in(SUBMIT, SubmitData(dict(params), raw, deadline))

    def _signal(self, signal: SignalData) -> None:
        self._take_in(SIGNAL, signal)

    def _take_in(self, kind: str, value: object) -> None:
        event = Event(
            id=f"{self.job}:{next(self._inputs)}",
            source=SOURCE,
            type=kind,
            data=encode_value(value, JSON),
            datacontenttype=JSON,
            extensions={"job": self.job},
        )
        turn = self._new_turn()
        self._decide(turn, lambda turn: keeping.came_in(turn, event, self.job))
        self._apply(turn.actions)

    # -- the keeper's part ------------------------------------------------------------------

    def _new_turn(self) -> Turn:
        return RunTurn(
            self._rows, self._naming, self._control.plans, active=self._control.active,
            shared=self._control.facts, now=self._now(), worker=WORKER, blobs=self._loaded,
        )  # fmt: skip

    def _now(self) -> int:
        """Never falls."""
        self._time = max(self._time, self._clock.now())
        return self._time

    def _call_keeper(self) -> None:
        if not self._keeper_called and not self._done:
            self._keeper_called = True
            asyncio.get_running_loop().call_soon(self._keep)

    def _keep(self) -> None:
        """One turn of the keeper: rows first, then what arrived, then what is due."""
        self._keeper_called = False
        if self._done:
            return
        try:
            turn = self._new_turn()
            if self._look:
                closing, self._look, self._look_closing = self._look_closing, False, False
                holds = self._rows.holds.has_gates(self.job)
                self._decide(
                    turn,
                    lambda turn: keeping.row_seen(turn, self.job, closing=closing, holds=holds),
                )
            while self._arrived:
                self._decide(turn, self._arrivals())
            if self._due:
                self._due = False
                self._look_at_timers(turn)
            self._apply(turn.actions)
        except BaseException as error:  # noqa: BLE001 - a call back of the loop: told by `run`
            self._fault = error
            self._wake()

    def _arrivals(self) -> Decide:
        """The next signal, or as many results as the engine takes in one input: joins are settled
        once for all of them."""
        event = self._arrived.popleft()
        if event.type == SIGNAL:
            return lambda turn: keeping.came_in(turn, event, self.job)
        several = [read(event)]
        while self._arrived and self._arrived[0].type != SIGNAL and len(several) < INLINE_ARRIVALS:
            several.append(read(self._arrived.popleft()))

        def decide(turn: Turn) -> None:
            turn.arrivals.extend(several[:-1])
            keeping.arrived(turn, several[-1])

        return decide

    def _look_at_timers(self, turn: Turn) -> None:
        holds, now = self._rows.holds, self._now()
        for scope, part in holds.pop_due(now, 1_000):
            again: list[int | None] = []
            self._decide(
                turn,
                lambda turn: again.append(keeping.time_came(turn, scope, part)),  # noqa: B023
            )
            if again[-1] is not None:
                holds.schedule(scope, part, max(again[-1], now + 50))

    def _decide(self, turn: Turn, decide: Decide) -> None:
        """Decides; where that needs a large value, reads it and decides again."""
        while True:
            turn.next_input()
            try:
                decide(turn)
            except BlobMissing as missing:
                turn.undo_input()
                self._loaded[missing.ref.url] = self._blobs.value_now(missing.ref)
            else:
                return

    async def _let_go(self) -> None:
        """Goes on without stages that do not heed the stop."""
        await self._clock.sleep(GIVE_UP_ON)
        for job in list(self._runner.running):
            self._runner.let_go(job)

    # -- what follows from decisions --------------------------------------------------------

    def _ended(self, _: Job, flow: Flow) -> None:
        """A stage is over, in this turn of it."""
        self._apply(flow.actions, from_stage=True)
        if self._done:
            self._wake()

    def _apply(self, actions: Iterable[Action], *, from_stage: bool = False) -> None:
        """Makes the actions of one step visible, all at once."""
        for action in actions:
            if isinstance(action, PutRow):
                self._rows.put(action.part, action.data, viewed=not from_stage)
                if from_stage and action.data is not None:
                    self._row_seen(action.data)
            elif isinstance(action, Publish):
                self._publish(action)
            elif isinstance(action, PutControl):
                self._set_control(action)
        if self._arrived or self._look:
            self._call_keeper()
        self._arm()
        self._start_stages()

    def _row_seen(self, data: bytes) -> None:
        if is_closing(data):
            self._look = self._look_closing = True
        elif self._rows.holds.has_gates(self.job):
            self._look = True

    def _publish(self, action: Publish) -> None:
        if action.topic == self._naming.hold:
            self._arrived.append(action.event)
        elif action.topic == self._naming.done:
            self._done = True
            self._wake()
        else:
            self._to_start.append(action.event)

    def _set_control(self, action: PutControl) -> None:
        key = action.key.encode()
        self._control.apply(Record(self._naming.control, 0, 0, self._now(), key, action.data, ()))
        if action.key == f"stop/{self.job}":
            self.stopped = True
            self._runner.stop(self.job)
            if self._runner.running:
                self._last_moments = asyncio.create_task(self._let_go(), name="graph.stopping")

    def _start_stages(self) -> None:
        """Starts what may run. One that is done at once adds to the queue, not to the stack."""
        if self._starting:
            return
        self._starting = True
        try:
            while self._to_start:
                event = self._to_start.popleft()
                delivery = read(event)
                if self._control.stopped(delivery.root, delivery.epoch):
                    continue
                self._runner.start(
                    Job(
                        NOWHERE,
                        0,
                        event,
                        delivery,
                        self._plan,
                        self._plan.by_path[delivery.part],
                        payloads.decode(delivery.data),
                        CancelToken(),
                        NO_FRONTIER,
                    )
                )
        finally:
            self._starting = False

    # -- time -------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Sees to it that the keeper is called when the next thing is due."""
        due = None if self._done else self._rows.holds.next_due()
        if due == self._sleeps_until:
            return
        self._sleeps_until = due
        if self._sleeper is not None:
            self._sleeper.cancel()
            self._sleeper = None
        if due is not None:
            self._sleeper = asyncio.create_task(self._sleep(due), name="graph.timer")

    async def _sleep(self, due: int) -> None:
        await self._clock.sleep((due - self._now()) / 1000)
        self._sleeps_until, self._sleeper = None, None
        self._due = True
        self._call_keeper()


class Host:
    """The stages of a plan, built once and shared by all runs of it.

    They are opened for the first run and closed after the last one that is under way; somebody who
    runs often holds the host open meanwhile. Stages that need no opening, no closing and no thread
    cost nothing between runs. A host belongs to one event loop at a time.
    """

    def __init__(
        self, plan: Plan, registry: StageRegistry, clock: Clock, secrets: Secrets | None = None
    ) -> None:
        self.plan = plan
        self.naming = Naming(NAMESPACE, plan.pipeline)
        self.quiet = frozenset(part.path for part in plan.parts if part.kind not in KEEPER_RUN)
        self.clock = clock
        self.blobs = MemoryBlobs()
        self._registry = registry
        self._secrets = secrets or Secrets()
        self._ready: dict[tuple[str, str], Prepared] | None = None
        self._leaves_something = True
        self._execution: LocalExecution | None = None
        self._users = 0
        self._jobs: set[str] = set()
        self._interrupted = False
        self._closing: asyncio.Task[None] | None = None

    async def run(
        self,
        params: Mapping[str, Any],
        data: Any,
        *,
        facts: Mapping[str, Any] | None = None,
        deadline: int | None = None,
        job: str | None = None,
        snapshot: ContextSnapshot | None = None,
    ) -> Ended:
        """A job of the plan, to its end. See `InProcess.run`."""
        job = job or self.clock.new_id()
        check_job_id(job)
        if job in self._jobs:
            raise UserError(f"job {job} is being run by this graph", code="J105")
        self._jobs.add(job)
        stopped = False
        try:
            execution = await self.enter()
            try:
                if snapshot is not None:
                    execution.snapshots[job] = _with_run_id(snapshot, job)
                run = InProcess(self, execution, job)
                try:
                    return await run.run(params, data, facts=facts, deadline=deadline)
                finally:
                    stopped = run.stopped
            finally:
                execution.snapshots.pop(job, None)
                await self.leave(stopped=stopped)
        finally:
            self._jobs.discard(job)

    async def enter(self) -> LocalExecution:
        """What runs the stages; to be followed by `leave`."""
        while self._closing is not None:
            await asyncio.shield(self._closing)
        self._users += 1
        if self._execution is None:
            self._execution = LocalExecution(
                self._registry, self.blobs, self._secrets, self.clock, self._stages()
            )
        return self._execution

    async def leave(self, *, stopped: bool = False) -> None:
        """Closes the stages and ends their threads, if nobody else is using them. `stopped`: calls
        were interrupted, which takes a timer."""
        self._users -= 1
        self._interrupted |= stopped
        if self._users or self._execution is None:
            return
        if not (self._leaves_something or self._interrupted):
            return
        self._interrupted = False
        closing = asyncio.create_task(self._execution.close(), name="graph.close")
        self._execution, self._closing = None, closing
        closing.add_done_callback(self._closed)
        await asyncio.shield(closing)

    def _closed(self, _: asyncio.Task[None]) -> None:
        self._closing = None

    def _stages(self) -> Mapping[tuple[str, str], Prepared]:
        """Built in the calling thread: what takes long belongs into a stage's `open`. One that
        cannot be built is left to the execution, which makes a failed stage of it."""
        if self._ready is None:
            parts = [part for part in self.plan.parts if part.kind in USER_CODE]
            self._ready = {}
            for part in parts:
                with contextlib.suppress(Exception):
                    self._ready[self.plan.digest, part.path] = prepare(
                        self.plan, part, self._registry, self._secrets
                    )
            self._leaves_something = len(self._ready) < len(parts) or any(
                map(leaves_something, self._ready.values())
            )
        return {key: replace(prepared) for key, prepared in self._ready.items()}


def _with_run_id(snapshot: ContextSnapshot, job: str) -> ContextSnapshot:
    run = snapshot.run_id
    if run.pipeline_run_id is not None:
        return snapshot
    return replace(snapshot, run_id=replace(run, pipeline_run_id=job))
