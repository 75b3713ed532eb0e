"""Plays a scenario with the runtime that production runs: only log, clock and loop are others.

Three processes: two workers with agents and keepers, and a keeper alone; a fourth worker comes and
goes. What the log recorded and what the callers saw becomes a `History`, which the checker judges.
"""

import asyncio
import contextlib
import hashlib
import random

import msgspec

from streams.blobs import BlobStore
from streams.broker.port import Outgoing
from streams.codec import kafka
from streams.engine.messages import SIGNAL, SUBMIT
from streams.engine.rows import ENDED, head
from streams.errors import LogError, LogUnavailable, OutcomeUnknown
from streams.event import Event
from streams.inspection.recovery import apply as apply_recoveries
from streams.inspection.recovery import recoveries
from streams.policies import policy_of
from streams.runtime import state
from streams.runtime.execution import Execution
from streams.runtime.setup import apply
from streams.runtime.worker import Worker
from streams.secrets import Secrets
from streams.testing.faults import Fault
from streams.testing.history import Asked, History, Kept, Moved, Ran
from streams.testing.simulated_log import SimulatedLog
from streams.testing.tester_inline import OnTheSpot
from streams.testing.virtual_time import VirtualClock, virtual_loop
from streams.topology.plan import Naming
from tests.simulation.scenario import EVERYBODY, KEEPER
from tests.simulation.shapes import Bench, plan, registry

NAMING = Naming("t", "p")
BLOBS = BlobStore("memory://simulation")
LONGEST = 150.0
"""Virtual seconds after the last fault in which every job has to end."""
QUIET = 2.5
"""Virtual seconds for what is still under way when all jobs have ended."""
AT_HAND = (state.ENDED_AT_HAND, state.MOST_BYTES_AT_HAND)
LATENCY = {
    "poll": 0.002, "reader": 0.002, "commit": 0.02, "publish": 0.01, "producer": 0.01, "admin": 0.005,
}  # fmt: skip
"""The most that each call takes (virtual seconds)."""


def play(scenario):
    """What happened."""
    # In half of the runs nothing stays at hand that need not: every job is brought back.
    state.ENDED_AT_HAND, state.MOST_BYTES_AT_HAND = AT_HAND if scenario.seed % 2 else (1, 0)
    try:
        with virtual_loop() as loop:
            return loop.run(Play(loop, scenario).run())
    finally:
        state.ENDED_AT_HAND, state.MOST_BYTES_AT_HAND = AT_HAND


def trace(history):
    """A short name of everything that happened, in its order."""
    seen = hashlib.sha256()
    for record in history.records:
        seen.update(msgspec.msgpack.encode(record))
    for each in (*history.ran, *history.asked):
        seen.update(msgspec.msgpack.encode(each))
    return seen.hexdigest()[:16]


class Noting(Execution):
    """Writes down every call of user code."""

    def __init__(self, process, *given, **more):
        super().__init__(*given, **more)
        self.process = process

    async def run(self, call):
        play = self.process.play
        began = play.clock.now()
        outcome = None
        try:
            outcome = await super().run(call)
        finally:
            job = call.job
            play.ran.append(
                Ran(
                    worker=self.process.name,
                    part=call.part.path,
                    scope=job.scope,
                    epoch=job.epoch,
                    turn=job.turn,
                    attempt=job.attempt,
                    began=began,
                    ended=play.clock.now(),
                    raised=outcome is None or outcome.error is not None,
                )
            )
        return outcome


class Process:
    """One worker process: it can die at any moment, and come back under its name."""

    def __init__(self, play, name):
        self.play = play
        self.name = name
        self.offset = 0
        """How far its wall clock is off (ms)."""
        self.lives = 0
        self.worker = None
        self.task = None

    def up(self):
        self.lives += 1
        play = self.play
        self.clock = VirtualClock(
            play.loop, seed=hash_of(play.scenario.seed, self.name, self.lives)
        )
        self.clock.offset = self.offset
        self.log = play.log.process(self.name)
        execution = Noting(
            self,
            registry(),
            BLOBS,
            Secrets(),
            self.clock,
            namespace="t",
            threads=OnTheSpot(self.clock),
        )
        pools = () if self.name == KEEPER else None
        self.worker = Worker(
            self.log, NAMING, execution, BLOBS, self.clock,
            name=self.name, partitions=play.partitions, pools=pools,
        )  # fmt: skip
        self.task = asyncio.ensure_future(self.worker.run())
        self.task.add_done_callback(self.ended)

    def ended(self, task):
        """Who ends by himself does so loudly, and whoever watches over processes starts him anew."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, LogError):
            self.play.faults.append(error)
        self.play.later(self.play.back(self, 1.0))

    @property
    def alive(self):
        return self.task is not None and not self.task.done()

    async def die(self):
        """Gone without a word: nothing it had under way ever ends."""
        self.play.log.kill(self.name)
        self.play.armed.pop(self.name, None)
        self.task.cancel()
        await asyncio.wait([self.task])

    async def leave(self):
        """Drains and goes."""
        self.worker.leave()
        await asyncio.wait([self.task], timeout=40)
        if not self.task.done():
            raise AssertionError(f"{self.name} does not leave")

    def set_clock(self, ms):
        self.offset += ms
        self.clock.offset += ms


class Play:
    """One run."""

    def __init__(self, loop, scenario):
        self.loop = loop
        self.scenario = scenario
        self.partitions = scenario.partitions
        self.clock = VirtualClock(loop, seed=scenario.seed)
        self.log = SimulatedLog(self.clock, seed=scenario.seed)
        self.outside = self.log.process("outside")
        self.processes = {name: Process(self, name) for name in (*EVERYBODY, "w4")}
        self.chance = random.Random(scenario.seed)
        self.failing, self.armed, self.lagging = {}, {}, {}
        """Process → faults of its next commits; point at which it dies and for how long; until
        when its readers lag."""
        faults = self.log.faults
        faults.commit, faults.latency = self.fault_of, self.latency_of
        faults.crash_point, faults.lag = self.reached, self.lag_of
        self.asked, self.ran = [], []
        self.moved = []
        self.blackout = False
        """Nobody may come back."""
        self.faults = []
        """What ended a process and never may."""
        self.errands = set()
        """Everything that is to happen later: comebacks, thaws, askings."""
        Bench.seed = scenario.seed

    async def run(self):
        began = self.clock.now()
        the_plan = plan(self.scenario.shape)
        await apply(self.outside, NAMING, the_plan, self.clock, self.partitions)
        for name in EVERYBODY:
            self.processes[name].up()
        for step in self.scenario.steps:
            await self.clock.sleep(max(0.0, step.at - self.loop.time()))
            await getattr(self, f"do_{step.do}")(step)
        await self.heal()
        settled = await self.all_over()
        await self.clock.sleep(QUIET)
        history = self.history(began, settled)
        for process in self.processes.values():
            if process.alive:
                process.task.cancel()
        if self.faults:
            raise self.faults[0]
        return history

    # -- steps ------------------------------------------------------------------------------

    async def do_submit(self, step):
        params = {"n": int(step.who[1:])}
        self.later(self.ask(SUBMIT, step.who, step.who, {"params": params, "data": None}))

    async def do_signal(self, step):
        kind, _, name = step.what.partition(" ")
        body = {"kind": kind, "facts": {name: True}} if name else {"kind": kind}
        if kind in ("release", "reject"):
            gates = [p.gate.name for p in plan(self.scenario.shape).parts if p.gate]
            if not gates:
                return
            body["gate"] = gates[0]
        self.later(self.ask(SIGNAL, step.who, f"s{step.at}", body))

    async def do_share(self, step):
        body = {"kind": "fact", "facts": {step.what: True}, "global": True}
        self.later(self.ask(SIGNAL, "", f"g{step.at}", body))

    async def do_kill(self, step):
        process = self.processes[step.who]
        if process.alive:
            await process.die()
            self.later(self.back(process, step.seconds))

    async def do_crash(self, step):
        """Dies the next time that it gets to that point of a transaction."""
        self.armed[step.who] = (step.what, step.seconds)

    async def do_fault(self, step):
        self.failing.setdefault(step.who, []).append(Fault[step.what])

    async def do_freeze(self, step):
        if self.processes[step.who].alive:
            self.log.freeze(step.who)
            self.later(self.thaw(step.who, step.seconds))

    async def do_leave(self, step):
        process = self.processes[step.who]
        if process.alive:
            self.later(self.away(process, step.seconds))

    async def do_join(self, step):
        process = self.processes[step.who]
        if not process.alive:
            process.up()
            self.later(self.away(process, step.seconds, back=False))

    async def do_clock(self, step):
        self.processes[step.who].set_clock(round(step.seconds * 1000))

    async def do_lag(self, step):
        self.lagging[step.who] = self.loop.time() + step.seconds

    async def do_down(self, step):
        self.log.faults.down = True
        self.later(self.lights_on(step.seconds))

    async def do_compact(self, step):
        with contextlib.suppress(LogUnavailable):
            await self.log.maintain()

    async def do_forget(self, step):
        """Everybody is killed; positions of groups are deleted, found out anew, and set."""
        self.blackout = True
        try:
            fallen = [process for process in self.processes.values() if process.alive]
            for process in fallen:
                await process.die()
            agents, keeper = NAMING.pool_group("default"), NAMING.keeper_group
            groups = {"agents": [agents], "keeper": [keeper], "both": [agents, keeper]}[step.what]
            while not await self.forgotten(groups):
                await self.clock.sleep(0.5)
        finally:
            self.blackout = False
        for process in fallen:
            self.later(self.back(process, step.seconds))

    async def forgotten(self, groups):
        """Whether it is done; not as long as somebody has a seat, or the log is down."""
        try:
            await self.log.delete_groups(groups)
            found = await recoveries(self.log, NAMING, self.clock.now())
            await apply_recoveries(self.log, found)
        except LogError as error:
            if error.code != "K027" and not isinstance(error, LogUnavailable):
                raise
            return False
        for group in groups:
            positions = await self.log.positions(group)
            self.moved.append(Moved(at=self.clock.now(), group=group, positions=positions))
        return True

    # -- what the log is told ----------------------------------------------------------------

    def fault_of(self, producer, number, transaction):
        left = self.failing.get(producer.rpartition(".")[2])
        return left.pop(0) if left else None

    def latency_of(self, call, process):
        return LATENCY[call] * self.chance.random() if process else 0.0

    def reached(self, point, name, producer):
        wanted = self.armed.get(name)
        if wanted is not None and wanted[0] == point:
            del self.armed[name]
            self.log.kill(name)
            self.later(self.fall(self.processes[name], wanted[1]))

    def lag_of(self, process, place):
        return 5 if self.lagging.get(process, 0.0) > self.loop.time() else 0

    # -- what follows later -----------------------------------------------------------------

    def later(self, work):
        task = asyncio.ensure_future(work)
        self.errands.add(task)

    async def back(self, process, seconds):
        await self.clock.sleep(seconds)
        while self.blackout:
            await self.clock.sleep(0.5)
        if not process.alive:
            process.up()

    async def fall(self, process, seconds):
        if process.alive:
            await process.die()
        await self.back(process, seconds)

    async def away(self, process, seconds, *, back=True):
        if not back:
            await self.clock.sleep(seconds)
        if process.alive:
            await process.leave()
        if back:
            await self.back(process, seconds)

    async def thaw(self, name, seconds):
        await self.clock.sleep(seconds)
        self.log.thaw(name)

    async def lights_on(self, seconds):
        await self.clock.sleep(seconds)
        self.log.faults.down = False

    async def ask(self, kind, job, id, body):
        """Asks until there is an answer, as a client does: the id makes it one."""
        answered = "failed"
        event = Event(
            id=id, source="/test", type=kind, data=msgspec.json.encode(body),
            datacontenttype="application/json", extensions={"job": job} if job else {},
        )  # fmt: skip
        value, headers = kafka.encode(event)
        while answered != "ok":
            try:
                await self.outside.publish(
                    [Outgoing(NAMING.intake, f"by {id}".encode(), value, headers)]
                )
                answered = "ok"
            except OutcomeUnknown:
                answered = "unknown"
            except LogError:
                await self.clock.sleep(0.5)
            self.asked.append(
                Asked(
                    id=id,
                    job=job,
                    kind=body.get("kind", "submit"),
                    at=self.clock.now(),
                    answered=answered,
                )
            )

    # -- the end ----------------------------------------------------------------------------

    async def heal(self):
        """No fault any more, everybody is there, every gate is let open."""
        self.failing.clear()
        self.armed.clear()
        while waiting := [task for task in self.errands if not task.done()]:
            await asyncio.wait(waiting)
        for task in self.errands:
            task.result()
        for name in EVERYBODY:
            if not self.processes[name].alive:
                self.processes[name].up()
        for number, job in enumerate(self.scenario.jobs):
            facts = {"go": True, "soon": True}
            await self.ask(SIGNAL, job, f"heal{number}", {"kind": "fact", "facts": facts})
        facts = {"kind": "fact", "facts": {"open": True}, "global": True}
        await self.ask(SIGNAL, "", "heal", facts)

    async def all_over(self):
        """Whether all jobs ended in time."""
        until = self.loop.time() + LONGEST
        while self.loop.time() < until:
            if all(self.ended(job) for job in self.scenario.jobs) and await self.caught_up():
                return True
            await self.clock.sleep(0.25)
        return False

    async def caught_up(self):
        """Whether everything that was asked for from outside has been taken in."""
        positions = await self.log.positions(NAMING.keeper_group)
        last = {r.place: r.offset for r in self.log.history_records()}
        return all(
            place in positions and positions[place].offset > offset
            for place, offset in last.items()
            if place.topic == NAMING.intake
        )

    def keepers(self):
        for process in self.processes.values():
            if process.alive and process.worker.keeper is not None:
                yield process.name, process.worker.keeper

    def ended(self, job):
        for _, keeper in self.keepers():
            for owned in keeper._states.values():
                data = owned.table.rows(job).get("@job")
                if data is not None and head(data).status in ENDED:
                    return True
        return False

    def history(self, began, settled):
        the_plan = plan(self.scenario.shape)
        return History(
            naming=NAMING,
            partitions=self.partitions,
            plans=(the_plan,),
            records=self.log.history_records(),
            transactions=self.log.transactions_seen(),
            moved=self.moved,
            asked=self.asked,
            ran=self.ran,
            kept=[
                Kept(
                    owner=name,
                    partition=number,
                    position=state.table.position,
                    rows={scope: dict(state.table.rows(scope)) for scope in state.table.scopes()},
                )
                for name, keeper in self.keepers()
                for number, state in keeper._states.items()
            ],
            read=self.log.reads(),
            removed=self.log.removed(),
            policies={
                part.path: policy_of(the_plan, part)
                for part in the_plan.parts
                if part.kind == "stage"
            },
            began=began,
            ended=self.clock.now(),
            settled=settled,
        )


def hash_of(*parts):
    """A number that is the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6])
