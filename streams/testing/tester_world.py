"""The world a tester plays in: a log in memory, virtual time, and worker processes as tasks.

Everything that decides is production's: `Worker` with its agents and its keeper, on a log that
keeps the promises of the port. What is swapped is what a test must own: time, threads, blobs.
The world knows nothing of the tester in front of it, so it goes when that one goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TypeVar

import msgspec

from streams.broker.port import TopicPartition, Transaction
from streams.client import Client
from streams.engine.rows import Address
from streams.errors import StreamsError
from streams.policies import policy_of
from streams.runtime.setup import apply
from streams.runtime.worker import Worker
from streams.secrets import Secrets
from streams.testing.faults import Fault
from streams.testing.simulated_log import SimulatedLog
from streams.testing.tester_blobs import MemoryBlobs
from streams.testing.tester_clock import LogClock, TesterClock
from streams.testing.tester_deadlines import Deadlines
from streams.testing.tester_execution import Faults, Notes, TesterExecution
from streams.testing.tester_inline import outside_of_any_loop
from streams.testing.tester_logs import quiet
from streams.testing.tester_sources import Sources
from streams.testing.virtual_time import VirtualLoop
from streams.topology.plan import USER_CODE, Naming, Plan

T = TypeVar("T")

NAMESPACE = "test"
SOURCE = "/streams/testing"
WORKERS = ("worker-1", "worker-2")
STEP = 0.02
"""Loop seconds between looks at whether anything still happens."""
LONG_STEP = 1.0
"""The same while a stage takes its time."""
QUIET = 1.1
"""So long (loop seconds) nothing may happen before it is believed that nothing will: longer than
any pause that workers make of their own accord."""
PAUSED_QUIET = 3.5
"""The same where a stage is paused, when it is not plain to see who waits and who works."""
PATIENCE = 600.0
"""Loop seconds in which everything has to come to rest, where no stage may take longer."""

EXPLANATIONS: dict[str, str] = {
    "U003": """\
**It does not come to rest.** A stage of the test runs, or is tried again, longer than any limit it
has. Next: look at the jobs named; give the stage a `timeout`, or a stand-in that returns.""",
}


class Crash(msgspec.Struct, frozen=True):
    """A death that is to happen at a commit."""

    pipeline: str | None
    stage: str | None


class Process:
    """One worker process: a `Worker` for each pipeline, one execution for all of them."""

    def __init__(self, name: str, execution: TesterExecution, workers: dict[str, Worker]) -> None:
        self.name = name
        self.execution = execution
        self.workers = workers
        self.tasks = [asyncio.ensure_future(worker.run()) for worker in workers.values()]


class World:
    """Two workers and a log; a coroutine of this class runs by `run`."""

    def __init__(
        self,
        sources: Sources,
        *,
        partitions: int,
        seed: int,
        secrets: Mapping[str, str],
        start: int,
    ) -> None:
        quiet()
        self.loop = VirtualLoop()
        self.clock = TesterClock(self.loop, start=start, seed=seed)
        self.plans: dict[str, list[Plan]] = {}
        for plan in sources.plans:
            self.plans.setdefault(plan.pipeline, []).append(plan)
        self.faults = Faults()
        self.notes = Notes()
        self.blobs = MemoryBlobs()
        self.deadlines: dict[str, Deadlines] = {}
        self.crashes: list[Crash] = []
        self.died: list[str] = []
        """Worker of every crash so far."""
        self._registry = sources.registry
        self._secrets = Secrets(secrets)
        self._partitions = partitions
        self._log = SimulatedLog(LogClock(self.loop, self.clock), seed=seed, record=False)
        self._log.faults.commit = self._committing
        self._dying: str | None = None
        self._stopping = False
        """Whether a job is being stopped, for which time has to pass."""
        self._active = 0.0
        """Loop time at which something happened last."""
        self._processes: dict[str, Process] = {}
        self._gone: list[TesterExecution] = []
        self.client = Client(
            self._log, NAMESPACE, blobs=self.blobs, clock=self.clock, source=SOURCE
        )

    # -- life -------------------------------------------------------------------------------

    def run(self, work: Awaitable[T]) -> T:
        """What `work` gives, on this world's own loop."""
        with outside_of_any_loop():
            return self.loop.run_until_complete(work)

    def go(self, work: Awaitable[T]) -> T:
        """The same with the workers at work. At any other time they stand still, so that to ask
        for something, or to say something, sets nothing going."""
        return self.run(self._going(work))

    async def _going(self, work: Awaitable[T]) -> T:
        for name in self._processes:
            self._log.thaw(name)
        try:
            return await work
        finally:
            for name in self._processes:
                self._log.freeze(name)

    async def begin(self) -> None:
        """All pipelines are set up, and both workers own their share."""
        for name, plans in self.plans.items():
            naming = Naming(NAMESPACE, name)
            for plan in plans:
                await apply(self._log, naming, plan, self.clock, self._partitions)
            known = {plan.digest: plan for plan in plans}
            self.deadlines[name] = Deadlines(self._log, naming, known, self._partitions)
        for name in WORKERS:
            self._start(name)
        await self.settle()

    def close(self) -> None:
        """Everything has ended; a second call changes nothing."""
        if not self.loop.is_closed():
            with outside_of_any_loop():
                try:
                    self.loop.run_until_complete(self._end())
                finally:
                    self.loop.close()

    async def _end(self) -> None:
        for name in self._processes:
            self._log.thaw(name)
        for process in self._processes.values():
            for task in process.tasks:
                task.cancel()
            await asyncio.gather(*process.tasks, return_exceptions=True)
        executions = [process.execution for process in self._processes.values()]
        for execution in [*executions, *self._gone]:
            await execution.close()
        await self._log.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self.loop.shutdown_asyncgens()

    def _start(self, name: str) -> None:
        execution = TesterExecution(
            self._registry, self.blobs, self._secrets, self.clock, self.faults, self.notes,
            namespace=NAMESPACE,
        )  # fmt: skip
        log = self._log.process(name)
        workers = {
            pipeline: Worker(
                log, Naming(NAMESPACE, pipeline), execution, self.blobs, self.clock,
                name=name, partitions=self._partitions, pools=None,
            )
            for pipeline in self.plans
        }  # fmt: skip
        self._processes[name] = Process(name, execution, workers)

    # -- coming to rest ---------------------------------------------------------------------

    async def settle(self) -> None:
        """Returns when nothing happens any more unless wall-clock time passes, or somebody outside
        does something. Raises what a worker died of."""
        self.touched()
        patience = self._patience()
        end = self.loop.time() + patience
        step = STEP
        while True:
            await asyncio.sleep(step)
            step = min(step * 1.2, LONG_STEP) if self.notes.running else STEP
            if self._dying is not None:
                await self._replace(self._dying)
            self._raise_faults()
            if await self._at_rest():
                return
            if self.loop.time() > end:
                raise await self._restless(patience)

    def touched(self) -> None:
        """Something happens from outside."""
        self._active = self.loop.time()

    async def _at_rest(self) -> bool:
        if self._in_hand:
            return False
        if self._stopping:
            await self._read_ledgers()
        if not self._stopping:
            self.clock.stand()
        quiet = self.loop.time() - self._active
        if quiet < (PAUSED_QUIET if self._paused else QUIET) or not self._all_owned:
            return False
        await self._read_ledgers()
        if self._stopping:
            self.clock.go()
        return not self._stopping

    async def _read_ledgers(self) -> None:
        for deadlines in self.deadlines.values():
            await deadlines.read()
        self._stopping = any(deadlines.stopping for deadlines in self.deadlines.values())

    @property
    def _in_hand(self) -> bool:
        """Whether a stage runs or is about to be tried again; wall-clock time passes meanwhile."""
        if self.notes.running:
            return True
        agents = [a for w in self._workers for a in w.agents.values()]
        if self._paused or not any(agent.in_hand for agent in agents):
            return False
        self.clock.go()
        return True

    @property
    def _workers(self) -> list[Worker]:
        return [w for process in self._processes.values() for w in process.workers.values()]

    @property
    def _paused(self) -> bool:
        return any(worker.control.table.pauses for worker in self._workers)

    @property
    def _all_owned(self) -> bool:
        """Whether every partition of every topic has an owner who works on it."""
        return all(self._is_owned(name, plans) for name, plans in self.plans.items())

    def _is_owned(self, name: str, plans: list[Plan]) -> bool:
        naming = Naming(NAMESPACE, name)
        workers = [process.workers[name] for process in self._processes.values()]
        kept = {p for w in workers if w.keeper is not None for p in w.keeper.owned}
        served = {p for w in workers for agent in w.agents.values() for p in agent.owned}
        wanted = {
            TopicPartition(naming.stage(part.path), number)
            for plan in plans
            for part in plan.parts
            if part.kind in USER_CODE
            for number in range(self._partitions)
        }
        return len(kept) == self._partitions and wanted <= served

    def _raise_faults(self) -> None:
        for process in self._processes.values():
            for task in process.tasks:
                if task.done():
                    task.result()
                    raise StreamsError(f"{process.name} ended by itself")

    def _patience(self) -> float:
        """Longer than any stage may take."""
        limits = [
            (policy.timeout_seconds or 0.0) * policy.max_attempts
            for plans in self.plans.values()
            for plan in plans
            for part in plan.parts
            if part.kind in USER_CODE
            for policy in [policy_of(plan, part)]
        ]
        return PATIENCE + 2 * max(limits, default=0.0)

    async def _restless(self, patience: float) -> StreamsError:
        views = await self.client.jobs()
        open_jobs = [v for v in views if v.status in ("running", "queued", "retrying")]
        shown = ", ".join(f"{v.id} at {v.current_stage} ({v.status})" for v in open_jobs[:5])
        return StreamsError(
            f"no rest after {patience:g} s of virtual time: {shown or 'no job is running'}",
            code="U003",
            help="give the stage a time limit, or a stand-in that returns",
        )

    # -- time -------------------------------------------------------------------------------

    async def advance(self, ms: int) -> None:
        """That much wall-clock time has passed, deadline by deadline, with rest after each."""
        await self.settle()
        target = self.clock.now() + ms
        while True:
            now = self.clock.now()
            dues = [due for d in self.deadlines.values() if (due := d.next(now)) is not None]
            due = min(dues, default=target)
            if due >= target:
                break
            self.clock.leap((due - now) / 1000)
            await self.settle()
        if target > self.clock.now():
            self.clock.leap((target - self.clock.now()) / 1000)
        await self.settle()

    # -- crashes ----------------------------------------------------------------------------

    def _committing(self, producer: str, _: int, transaction: Transaction) -> Fault | None:
        """Sees every commit before it reaches the log."""
        if not transaction.records:
            return None
        self.touched()
        pipeline, _group, worker = producer.removeprefix(f"{NAMESPACE}.").split(".", 2)
        for crash in self.crashes:
            if self._dying is None and _is_meant(crash, pipeline, transaction):
                self.crashes.remove(crash)
                self._dying = worker
                self._log.kill(worker)
                break
        return None

    async def _replace(self, name: str) -> None:
        """The process is gone without a word, and another of its name comes up."""
        process = self._processes.pop(name)
        for task in process.tasks:
            task.cancel()
        await asyncio.wait(process.tasks)
        self._gone.append(process.execution)
        self.died.append(name)
        self._dying = None
        self._start(name)
        self.touched()


def _is_meant(crash: Crash, pipeline: str, transaction: Transaction) -> bool:
    """Whether this is the commit that is not to reach the log."""
    if crash.pipeline not in (None, pipeline):
        return False
    if crash.stage is None:
        return True
    ledger = Naming(NAMESPACE, pipeline).ledger
    return any(
        record.topic == ledger
        and record.key is not None
        and record.value is not None
        and Address.of(record.key).part.partition("~")[0] == crash.stage
        for record in transaction.records
    )
