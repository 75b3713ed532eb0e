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
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import msgspec

from streams.broker.port import Record
from streams.engine import intake, keeping
from streams.engine import payload as payloads
from streams.engine.actions import Action, Publish, PutControl
from streams.engine.flow import Flow
from streams.engine.messages import INPUT, SIGNAL, SUBMIT, Delivery, SignalData, read
from streams.engine.payload import BLOB, INLINE_LIMIT, BlobMissing, blob_of, reference
from streams.engine.rows import InputRow, JobRow
from streams.engine.turn import Turn
from streams.engine.view import JobView, view_of
from streams.event import Event, encode_value
from streams.runtime.control import ControlTable
from streams.runtime.inprocess_flow import SOURCE, Begin, Keep, Over, Post
from streams.runtime.inprocess_rows import Rows, RunTurn
from streams.runtime.inprocess_runner import StageRunner
from streams.runtime.inprocess_stages import JSON, NAMESPACE, LocalExecution
from streams.runtime.runner import Job
from streams.topology.plan import Plan

if TYPE_CHECKING:
    from streams.runtime.inprocess_host import Host

WORKER = "in-process"
NULL = b"null"
GIVE_UP_ON = 9.0
"""Seconds that a stopped stage may go on before the run ends without it."""
MOST_AT_ONCE = 1_024
"""Results that the keeper takes in one input: joins are settled once for all of them."""

Decide = Callable[[Turn], None]


class Ended:
    """A job that is over. Its rows are read when they are looked at."""

    def __init__(
        self, job: str, plan: Plan, ledger: Rows, outputs: Mapping[str, bytes], at: int
    ) -> None:
        self.job = job
        self.outputs = outputs
        """Part → what it returned last, as JSON and whole; it counts if the part succeeded."""
        self._plan = plan
        self._ledger = ledger
        self._at = at

    @property
    def end(self) -> JobRow:
        """The job's own row."""
        return cast(JobRow, self._ledger.all["@job"])

    @property
    def rows(self) -> Mapping[str, bytes]:
        """All rows, as a log would have them."""
        return self._ledger.rows(self.job)

    @cached_property
    def view(self) -> JobView:
        return view_of(self.job, self._plan, self._ledger.read(), now=self._at)


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
        self._post = Post(job, plan.digest)
        self._rows = Rows(job, plan, host.quiet)
        self._runner = StageRunner(
            plan, self._post, host.naming, self._control, execution, host.blobs, host.clock, WORKER,
            self._ended,
        )  # fmt: skip
        self._runner.wake, self._runner.idle = self._wake, self._keep_now
        self._arrived: deque[Delivery | Event] = deque()
        """For the keeper: results, and signals."""
        self._to_start: list[Begin] = []
        """For the stages, of the step that is being applied."""
        self._look = False
        self._look_closing = False
        self._due = False
        self._keeper_called = False
        self.stopped = False
        """Running stages were told to stop."""
        self._last_moments: asyncio.Task[None] | None = None
        self._sleeper: asyncio.Task[None] | None = None
        self._sleeps_until: int | None = None
        self._loaded: dict[str, Any] = {}
        self._time = 0
        self._done = False
        self._fault: BaseException | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

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
            await self._over
        except asyncio.CancelledError:
            self._over = asyncio.get_running_loop().create_future()
            self._signal(SignalData("cancel", reason="the run was cancelled", by=WORKER))
            self._wake()
            await self._over
            raise
        fault = self._fault or self._runner.fault
        if fault is not None:
            raise fault

    async def _leave(self) -> None:
        self._done = True
        if self._runner.busy:
            await self._runner.abandon()
        for task in (self._sleeper, self._last_moments):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._blobs.forget(self._prefix)
        self._runner.detach()

    def _wake(self) -> None:
        """Lets `run` look whether there is anything left to wait for."""
        failed = self._fault is not None or self._runner.fault is not None
        over = failed or (self._done and not self._runner.busy)
        if over and not self._over.done():
            self._over.set_result(None)

    def _end(self) -> Ended:
        outputs = self._runner.outputs
        if self._runner.references:
            outputs = {path: self._whole(out) for path, out in outputs.items()}
        return Ended(self.job, self._plan, self._rows, outputs, self._now())

    def _whole(self, out: bytes) -> bytes:
        ref = blob_of(msgspec.Raw(out))
        return out if ref is None else self._blobs.get_now(ref)

    # -- what comes from outside ------------------------------------------------------------

    def _submit(self, params: Mapping[str, Any], data: Any, deadline: int | None) -> None:
        snapshot = self._snapshot(params, data)
        parent = self._post.new_id()
        self._decide_now(
            lambda turn: intake.begin(
                turn, self._plan, self.job, snapshot, parent, deadline=deadline
            )
        )

    def _snapshot(self, params: Mapping[str, Any], data: Any) -> InputRow:
        """What the job starts from: what JSON makes of it, as if it had been sent."""
        content = NULL if data is None else encode_value(data, JSON)
        raw = msgspec.Raw(content)
        if len(content) > INLINE_LIMIT:
            raw = reference(self._blobs.put_now(self._prefix, content))
        self._runner.references = content.startswith(BLOB) or len(content) > INLINE_LIMIT
        given = msgspec.json.decode(encode_value(dict(params), JSON)) if params else {}
        return InputRow(intake.bound(self._plan, given), raw, SUBMIT, SOURCE)

    def _signal(self, signal: SignalData) -> None:
        event = Event(
            self._post.new_id(), SOURCE, SIGNAL, encode_value(signal, JSON), JSON,
            extensions={"job": self.job},
        )  # fmt: skip
        self._decide_now(lambda turn: keeping.came_in(turn, event, self.job))

    def _decide_now(self, decide: Decide) -> None:
        """A turn of its own for something from outside."""
        turn = self._new_turn()
        self._decide(turn, decide)
        self._apply(turn.actions)

    # -- the keeper's part ------------------------------------------------------------------

    def _new_turn(self) -> Turn:
        return RunTurn(
            self._rows, self._post, self._naming, self._control.plans, self._control.active,
            self._control.facts, self._now(), WORKER, self._loaded,
            may_undo=self._runner.references,
        )  # fmt: skip

    def _now(self) -> int:
        """Never falls."""
        self._time = max(self._time, self._clock.now())
        return self._time

    def _call_keeper(self) -> None:
        if not self._keeper_called and not self._done:
            self._keeper_called = True
            asyncio.get_running_loop().call_soon(self._keep)

    def _keep_now(self) -> None:
        """Every stage that could begin has: nothing is gained by waiting for the loop."""
        if self._keeper_called:
            self._keep()

    def _keep(self) -> None:
        """One turn of the keeper: rows first, then what arrived, then what is due."""
        if self._done or not self._keeper_called:
            return
        self._keeper_called = False
        try:
            turn = self._new_turn()
            if self._look:
                closing, self._look, self._look_closing = self._look_closing, False, False
                holds = self._rows.has_gates
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
        first = self._arrived.popleft()
        if isinstance(first, Event):
            return lambda turn: keeping.came_in(turn, first, self.job)
        several = [first]
        while self._arrived and len(several) < MOST_AT_ONCE:
            if isinstance(self._arrived[0], Event):
                break
            several.append(cast(Delivery, self._arrived.popleft()))

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
        self._apply(flow.actions)
        if self._done:
            self._wake()

    def _apply(self, actions: Iterable[Action]) -> None:
        """Makes the actions of one step visible, all at once. Rows among them are a stage's: those
        of the keeper stand since it decided."""
        rows = self._rows
        for action in actions:
            if isinstance(action, Begin):
                self._begin(action)
            elif isinstance(action, Keep):
                rows.put(action.part, action.row, closing=action.closing)
                if action.closing:
                    self._look = self._look_closing = True
                elif rows.index is not None and rows.has_gates:
                    self._look = True
            elif isinstance(action, Over):
                self._done = True
                self._wake()
            elif isinstance(action, Publish):
                self._publish(action)
            elif isinstance(action, PutControl):
                self._set_control(action)
        if self._arrived or self._look:
            self._call_keeper()
        if rows.index is not None:
            self._arm()
        if self._to_start:
            self._start_stages()

    def _begin(self, action: Begin) -> None:
        if action.delivery.type == INPUT:
            self._to_start.append(action)
        else:
            self._arrived.append(action.delivery)

    def _publish(self, action: Publish) -> None:
        event = action.event
        if isinstance(event, Event) and event.type == SIGNAL:
            self._arrived.append(event)
        else:
            delivery = read(event)
            self._begin(Begin(delivery, payloads.decode(delivery.data)))

    def _set_control(self, action: PutControl) -> None:
        key = action.key.encode()
        self._control.apply(Record(self._naming.control, 0, 0, self._now(), key, action.data, ()))
        if action.key == f"stop/{self.job}":
            self.stopped = True
            self._runner.stop(self.job)
            if self._runner.busy:
                self._last_moments = asyncio.create_task(self._let_go(), name="graph.stopping")

    def _start_stages(self) -> None:
        """Starts what may run."""
        for begin in self._to_start:
            delivery = begin.delivery
            if self._control.stopped(delivery.root, delivery.epoch) is None:
                self._runner.begin(begin)
        self._to_start.clear()

    # -- time -------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Sees to it that the keeper is called when the next thing is due."""
        due = None if self._done else self._rows.next_due()
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
