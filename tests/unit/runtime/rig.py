"""One pipeline on a log in memory: agents, keepers and workers as tasks, faults on demand.

Time is virtual by default (`ManualClock`) and moves on by itself whenever nothing else happens;
tests that need threads (blobs, sync stages) take the machine's clock.
"""

import asyncio
import contextlib
import textwrap

import msgspec

from streams.blobs import BlobStore
from streams.broker.local import LocalLog
from streams.broker.port import Outgoing
from streams.clock import ManualClock
from streams.codec import kafka
from streams.engine.messages import SIGNAL, SUBMIT
from streams.engine.rows import Address, decode, decode_job, head
from streams.engine.view import job_view
from streams.event import Event
from streams.ledger.table import LedgerTable
from streams.registry import StageRegistry
from streams.runtime.agent import Agent
from streams.runtime.control import ControlReader
from streams.runtime.execution import Execution
from streams.runtime.keeper import Keeper
from streams.runtime.setup import apply
from streams.runtime.worker import Worker
from streams.secrets import Secrets
from streams.stage import stage
from streams.testing.faults import FaultyLog
from streams.topology.check import check_text
from streams.topology.plan import Naming
from tests.unit.runtime.row_guard import SigningLog, judge_rows, read_all

NAMING = Naming("t", "p")
ENDED = {"succeeded", "skipped", "failed", "cancelled"}


class Rig:
    """`stages`: type → function of the context. `plans` are applied in order."""

    def __init__(self, folder, *topologies, stages=None, clock=None, partitions=1, inner=None):
        self.clock = clock or ManualClock()
        self.virtual = isinstance(self.clock, ManualClock)
        signed = SigningLog(inner or LocalLog.open(None, clock=self.clock))
        self.log = FaultyLog(signed, self.clock)
        self.folder = folder
        self.blobs = BlobStore(str(folder / "blobs"))
        self.partitions = partitions
        self.registry = StageRegistry()
        self.ran = []
        """(stage, job) of every call of user code."""
        for name, function in (stages or {}).items():
            self.registry.register(stage(type=name)(self._noted(name, function)))
        self.plans = [self.compiled(text) for text in topologies]
        self.tasks, self.agents, self.keepers = [], [], []
        self.executions = []
        self._ids = 0

    def _noted(self, name, function):
        async def run(ctx):
            self.ran.append((ctx.stage_name, ctx.job_id))
            result = function(ctx)
            return await result if asyncio.iscoroutine(result) else result

        return run

    def compiled(self, text):
        head = "" if "pipeline:" in text else "pipeline: p\n"
        plan, findings = check_text(head + textwrap.dedent(text), "p.yaml", self.registry)
        assert plan is not None, "\n".join(finding.render() for finding in findings)
        return plan

    async def __aenter__(self):
        for plan in self.plans:
            await self.apply(plan)
        return self

    async def __aexit__(self, failure, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for execution in self.executions:
            await execution.close()
        try:
            if failure is None:
                await judge_rows(self.log.inner, NAMING)
        finally:
            await self.log.close()

    async def apply(self, plan):
        await apply(self.log, NAMING, plan, self.clock, self.partitions)

    # -- who works --------------------------------------------------------------------------

    def execution(self):
        made = Execution(self.registry, self.blobs, Secrets(), self.clock, namespace="t", threads=4)
        self.executions.append(made)
        return made

    async def control(self):
        reader = ControlReader(self.log, NAMING, self.clock)
        await reader.start()
        return reader

    async def agent(self, name="a", *, pool="default", stages=None):
        control, execution = await self.control(), self.execution()
        for plan in control.table.plans.values():
            await execution.prepare(plan)
        return Agent(
            self.log, NAMING, control, execution, self.blobs, self.clock,
            pool=pool, worker=name, partitions=self.partitions, stages=stages,
        )  # fmt: skip

    async def keeper(self, name="k", **more):
        return Keeper(
            self.log, NAMING, await self.control(), self.clock,
            worker=name, partitions=self.partitions, blobs=self.blobs, **more,
        )  # fmt: skip

    def worker(self, name="w", **more):
        more = {"pools": None, **more}
        return Worker(
            self.log, NAMING, self.execution(), self.blobs, self.clock,
            name=name, partitions=self.partitions, **more,
        )  # fmt: skip

    def start(self, who):
        return self.start_task(who.run())

    def start_task(self, work):
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    async def start_both(self):
        self.keepers.append(await self.keeper())
        self.agents.append(await self.agent())
        self.start(self.keepers[0])
        self.start(self.agents[0])

    async def kill(self, task, *names):
        """The task is gone without a word: it commits nothing more and does not leave its group."""
        producers = {
            f"{group}.{name}"
            for name in names
            for group in (NAMING.keeper_group, NAMING.pool_group("default"))
        }
        self.log.killed |= set(names)
        self.log.stuck |= producers
        if task in self.tasks:
            self.tasks.remove(task)
        task.cancel()
        await self.during(asyncio.wait([task]))
        self.log.killed -= set(names)
        self.log.stuck -= producers

    # -- from outside -----------------------------------------------------------------------

    async def submit(self, job="j", *, data=None, **params):
        await self.send(SUBMIT, job, job, {"params": params, "data": data})

    async def signal(self, kind, job="j", **more):
        self._ids += 1
        await self.send(SIGNAL, job, f"s{self._ids}", {"kind": kind, **more})

    async def send(self, kind, job, id, body):
        event = Event(
            id=id, source="/test", type=kind, data=msgspec.json.encode(body),
            datacontenttype="application/json", extensions={"job": job} if job else {},
        )  # fmt: skip
        # Keyed by another's hash: the state is often another keeper's, so that it is forwarded.
        await self.publish(NAMING.intake, event, key=f"foreign {id}".encode())

    async def publish(self, topic, event, *, key=b"k", partition=None):
        value, headers = kafka.encode(event)
        await self.log.publish([Outgoing(topic, key, value, headers, partition)])

    # -- time -------------------------------------------------------------------------------

    async def breathe(self, turns=40):
        """Everything happens that can without time passing (threads apart)."""
        for _ in range(turns):
            await asyncio.sleep(0)
        if not self.virtual:
            await asyncio.sleep(0.002)

    async def until(self, look, *, seconds=20):
        """What `look` gives once it gives something. Tasks that died raise here."""
        end = self.clock.monotonic() + seconds
        while True:
            await self.breathe()
            for task in self.tasks:
                if task.done() and not task.cancelled():
                    task.result()
            found = look()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            assert self.clock.monotonic() < end, "it does not happen"
            self.tick()

    async def during(self, work):
        """What `work` gives, while time goes on."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await self.breathe()
            if not task.done():
                self.tick()
        return task.result()

    def tick(self):
        if self.virtual and (due := self.clock.next_due()) is not None:
            self.clock.advance(max(0.001, (due - self.clock.now()) / 1000))

    async def pass_time(self, seconds):
        """That much virtual time goes by, step by step; dead tasks are looked at by the test."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.breathe()
            self.tick()
        await self.breathe()

    async def view_when(self, job="j", status=None, *, seconds=20):
        async def fits():
            view = await self.view(job)
            if view is None:
                return None
            return view if view.status == status or (status is None and over(view)) else None

        try:
            return await self.until(fits, seconds=seconds)
        except AssertionError:
            raise AssertionError(f"{job} stands at {await self.view(job)}") from None

    # -- looking ----------------------------------------------------------------------------

    async def records(self, topic):
        """All that stands in a topic, in the order of its partitions."""
        return await read_all(self.log.inner, topic)

    async def rows(self, job="j"):
        table = LedgerTable()
        for record in await self.records(NAMING.ledger):
            table.read(record.key, record.value, record.offset)
        return dict(table.rows(job))

    async def view(self, job="j"):
        rows = await self.rows(job)
        if "@job" not in rows:
            return None
        plans = {plan.digest: plan for plan in self.plans}
        return job_view(job, plans[decode_job(rows["@job"]).plan], rows)

    async def history(self, job="j"):
        """(part, row) of every version in the ledger, oldest first."""
        found = []
        for record in await self.records(NAMING.ledger):
            scope, part = Address.of(record.key)
            if scope == job:
                found.append((part, decode(part, record.value) if record.value else None))
        return found

    async def ends(self, job="j"):
        """(part, epoch, turn) → how many versions in phase 2 the ledger has of it."""
        found = {}
        for record in await self.records(NAMING.ledger):
            scope, part = Address.of(record.key)
            if scope == job and not part.startswith("@") and "~" not in part and record.value:
                order = head(record.value)
                if order.phase == 2:
                    key = (part, order.epoch, order.turn)
                    found[key] = found.get(key, 0) + 1
        return found

    async def done(self):
        return [record.key.decode() for record in await self.records(NAMING.done)]

    async def dead(self):
        """Reason of each dead letter."""
        return [
            dict(r.headers)["streams-dlq-reason"].decode() for r in await self.records(NAMING.dead)
        ]


def over(view):
    return view.status in ENDED


@contextlib.asynccontextmanager
async def running(rig):
    async with rig:
        await rig.start_both()
        yield rig
