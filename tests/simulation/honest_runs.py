"""A handful of real runs, each with its history: what the checker must let pass, and what the
mutants are made of. Every kind of part, of wait, of end and of trouble with the log is in one."""

import asyncio
import functools
import tempfile
from pathlib import Path

import msgspec

from streams.engine.messages import SUBMIT
from streams.outcome import Cancel, Fail, Retry, Route, Skip
from streams.policies import policy_of
from streams.testing.checker.decoding import laid_open
from streams.testing.faults import Fault
from streams.testing.history import Asked, History, Kept, Ran
from tests.simulation.recording import RecordingLog
from tests.unit.runtime.rig import NAMING, Rig

KEEPER, AGENT = "t.p.keeper.k", "t.p.pool-default.a"


class RecordedRig(Rig):
    """A rig whose log, callers and stages write down what happens."""

    def __init__(self, folder, *topologies, stages, partitions=2):
        super().__init__(folder, *topologies, stages=stages, partitions=partitions)
        self.log = RecordingLog.in_memory(self.clock)
        self.log.width = partitions
        self.began = self.clock.now()
        self.asked, self.calls = [], []

    def _noted(self, name, function):
        noted = super()._noted(name, function)

        async def run(ctx):
            began, raised = self.clock.now(), True
            try:
                result = await noted(ctx)
                raised = False
                return result
            finally:
                self.calls.append((ctx.event_id, ctx.attempt, began, self.clock.now(), raised))

        return run

    async def send(self, kind, job, id, body):
        await super().send(kind, job, id, body)
        asked = "submit" if kind == SUBMIT else body["kind"]
        self.asked.append(Asked(id=id, job=job, kind=asked, at=self.clock.now()))

    async def ends(self, *jobs):
        for job in jobs:
            await self.view_when(job, seconds=60)
        await self.pass_time(3)

    async def dumped(self):
        records, transactions, reads = await self.log.dump()
        attributes = [laid_open(record)[0] for record in records]
        events = {each.get("ce_id", b"").decode(): each for each in attributes}
        return History(
            naming=NAMING, partitions=self.partitions, plans=tuple(self.plans),
            records=records, transactions=transactions, asked=self.asked,
            ran=[self._ran(events[id], *more) for id, *more in self.calls if id in events],
            kept=[kept(keeper, p) for keeper in self.keepers for p in keeper.owned],
            read=reads,
            policies={
                part.path: policy_of(plan, part)
                for plan in self.plans for part in plan.parts if part.kind == "stage"
            },
            began=self.began, ended=self.clock.now(),
        )  # fmt: skip

    def _ran(self, event, attempt, began, ended, raised):
        def text(name):
            return event[f"ce_{name}"].decode()

        return Ran(
            worker="a", part=text("part"), scope=text("scope"), epoch=int(text("epoch")),
            turn=int(text("turn")), attempt=attempt, began=began, ended=ended, raised=raised,
        )  # fmt: skip


def kept(keeper, partition):
    table = keeper._states[partition].table
    rows = {scope: dict(table.rows(scope)) for scope in table.scopes()}
    return Kept(owner="k", partition=partition, position=table.position, rows=rows)


def ok(ctx):
    return {"of": ctx.stage_name}


def once(first):
    """A stage whose first call of each job ends like that."""
    seen = set()

    def stage(ctx):
        if (ctx.job_id, ctx.stage_name) in seen:
            return {"of": ctx.stage_name}
        seen.add((ctx.job_id, ctx.stage_name))
        return first()

    return stage


def breaks():
    raise ValueError("not this time")


LINE = """
stages:
  - {name: one, type: t}
  - {name: two, type: t, depends_on: [one]}
  - {name: three, type: t, depends_on: [two]}
"""


async def linear(rig):
    """Three stages, three jobs, on two partitions; one job is sent twice."""
    for job in ("a", "b", "c", "a"):
        await rig.submit(job)
    await rig.ends("a", "b", "c")


JOINED = """
stages:
  - {name: left, type: t}
  - {name: right, type: t}
  - {name: say, echo: "hello", depends_on: [left]}
  - {name: both, type: t, depends_on: [say, right]}
  - {name: last, type: viewed, depends_on: [both], if: "params.n != 1"}
"""


async def fan_in(rig):
    """Folded parts, a join, a part that is skipped."""
    for n, job in enumerate(("a", "b", "c")):
        await rig.submit(job, n=n)
    await rig.ends("a", "b", "c")


GATED = """
gates:
  go: {after: one, until: facts.go}
  shared: {after: two, until: facts.open}
stages:
  - {name: one, type: t}
  - {name: two, type: t, depends_on: [one]}
  - {name: three, type: t, depends_on: [two]}
"""


async def gate_by_fact(rig):
    """A gate that a job's own fact opens, one that a shared fact opens, and a fact that is early."""
    await rig.signal("fact", "late", facts={"go": True})
    for job in ("a", "b", "late"):
        await rig.submit(job)
    await rig.pass_time(2)
    await rig.signal("fact", "a", facts={"other": 1})
    await rig.signal("fact", "a", facts={"go": True})
    await rig.pass_time(2)
    await rig.signal("fact", "b", facts={"go": True})
    await rig.signal("fact", "", facts={"open": True}, **{"global": True})
    await rig.ends("a", "b", "late")


TIMED = """
gates:
  fails: {after: one, until: facts.never, timeout: 5s}
  skips: {after: one, until: facts.never, timeout: 3s, on_timeout: skip}
  goes: {after: one, until: facts.never, timeout: 4s, on_timeout: continue}
stages:
  - {name: one, type: t}
  - {name: nap, sleep: 2s, depends_on: [one]}
  - {name: two, type: t, depends_on: [nap]}
"""


async def gate_by_time(rig):
    """Every end that time alone brings, and two gates that somebody opens or shuts before it."""
    for job in ("a", "b", "c"):
        await rig.submit(job)
    await rig.pass_time(1)
    await rig.signal("release", "b", gate="fails", by="me")
    await rig.signal("release", "b", part="nap", by="me")
    await rig.signal("reject", "c", gate="fails", by="me")
    await rig.ends("a", "b", "c")


RETRIED = """
policies: {mine: {max_attempts: 3, backoff: {strategy: linear, initial: 5, maximum: 9}}}
stages:
  - {name: one, type: t}
  - {name: two, type: breaks_once, policy: mine, depends_on: [one]}
  - {name: three, type: later_once, depends_on: [two]}
"""


async def retried(rig):
    """A failure and a `retry` verdict, both parked with the keeper; one is let go before its time."""
    for job in ("a", "b"):
        await rig.submit(job)
    await rig.pass_time(2)
    await rig.signal("release", "b", part="two", by="me")
    await rig.ends("a", "b")


async def retried_in_trouble(rig):
    """The same, with commits that fail."""
    faults = {(KEEPER, 6): Fault.ABORTED, (AGENT, 3): Fault.UNKNOWN, (KEEPER, 9): Fault.UNKNOWN}
    rig.log.choose = lambda name, number, _: faults.get((name, number))
    await retried(rig)


FAILING = """
stages:
  - {name: one, type: t}
  - {name: two, type: fails_once, depends_on: [one]}
  - {name: side, type: t, depends_on: [one]}
  - {name: three, type: t, depends_on: [two, side]}
"""


async def dead_letters(rig):
    """A part fails for good; its job is redriven, another one started anew from a part; one is left
    as it is. Beside them an id with another body, and a signal for nobody."""
    for job in ("a", "b", "c"):
        await rig.submit(job)
    await rig.ends("a", "b", "c")
    await rig.signal("retry", "a")
    await rig.signal("retry", "b", **{"from": "one"})
    await rig.submit("c", data={"other": "body"})
    await rig.signal("discard", "nobody")
    await rig.ends("a", "b")


CANCELLED = """
gates: {go: {after: side, until: facts.go}}
stages:
  - {name: one, type: slow}
  - {name: two, type: t, depends_on: [one]}
  - {name: side, type: t}
  - {name: own, type: cancels}
"""


async def cancelled(rig):
    """Jobs that are stopped while a stage runs and a gate holds, by a signal and by a stage."""
    await rig.submit("a", stop=False)
    await rig.submit("b", stop=True)
    await rig.pass_time(2)
    await rig.signal("cancel", "a")
    await rig.ends("a", "b")
    await rig.signal("retry", "a")
    await rig.pass_time(1)
    await rig.signal("fact", "a", facts={"go": True})
    await rig.ends("a")


async def slow(ctx):
    await asyncio.wait(
        [asyncio.ensure_future(ctx.wait_cancelled()), asyncio.ensure_future(ctx.clock.sleep(3))],
        return_when=asyncio.FIRST_COMPLETED,
    )
    return 1


def cancels(ctx):
    return Cancel("enough") if ctx.snapshot.params["stop"] else 1


ROUTED = """
gates:
  check: {after: one, until: facts.go, timeout: 2s, on_timeout: aside}
stages:
  - {name: one, type: t}
  - {name: way, type: routes, depends_on: [one]}
  - {name: here, type: t, depends_on: [way]}
  - {name: there, type: skips, depends_on: [way]}
  - {name: aside, type: t}
  - {name: stops, raise: "no further", depends_on: [there], if: "params.bad"}
"""


async def routed(rig):
    """Ways that are not taken, a part that skips, a `raise`, a gate that leads aside."""
    for n, job in enumerate(("a", "b", "c")):
        await rig.submit(job, n=n, bad=n == 2)
    await rig.ends("a", "b", "c")


def routes(ctx):
    return Route("here" if ctx.snapshot.params["n"] == 0 else "there")


async def in_trouble(rig):
    """Commits that are aborted, unknown (committed or not) and fenced, of keeper and agents."""
    faults = {
        (KEEPER, 4): Fault.ABORTED, (KEEPER, 6): Fault.UNKNOWN, (KEEPER, 9): Fault.FENCED,
        (KEEPER, 12): Fault.UNKNOWN_COMMITTED, (AGENT, 3): Fault.ABORTED,
        (AGENT, 4): Fault.UNKNOWN_COMMITTED, (AGENT, 7): Fault.UNKNOWN, (AGENT, 9): Fault.ABORTED,
    }  # fmt: skip
    rig.log.choose = lambda name, number, _: faults.get((name, number))
    for job in ("a", "b", "c"):
        await rig.submit(job, n=0)
        await rig.pass_time(1)
    await rig.ends("a", "b", "c")


async def taken_over(rig):
    """Two agents and two keepers; one of each is gone in the middle of its work, without a word."""
    second = rig.start(await rig.during(rig.agent("a2")))
    rig.keepers.append(await rig.during(rig.keeper("k2")))
    heir = rig.start(rig.keepers[1])
    await rig.until(lambda: rig.keepers[1].owned)
    for n in range(6):
        await rig.submit(f"j{n}", stop=False)
    await rig.pass_time(0.5)
    rig.keepers.pop()
    await rig.kill(heir, "k2")
    await rig.kill(second, "a2")
    for n in range(6):
        await rig.signal("fact", f"j{n}", facts={"go": True})
    await rig.ends(*(f"j{n}" for n in range(6)))


RUNS = {
    "linear": (linear, LINE),
    "fan_in": (fan_in, JOINED),
    "gate_by_fact": (gate_by_fact, GATED),
    "gate_by_time": (gate_by_time, TIMED),
    "retried": (retried, RETRIED),
    "retried_in_trouble": (retried_in_trouble, RETRIED),
    "dead_letters": (dead_letters, FAILING),
    "cancelled": (cancelled, CANCELLED),
    "routed": (routed, ROUTED),
    "in_trouble": (in_trouble, JOINED),
    "trouble_in_line": (in_trouble, LINE),
    "taken_over": (taken_over, CANCELLED),
}


def stages():
    """Anew for each run: some remember what they were asked before."""
    return {
        "t": ok, "viewed": ok, "slow": slow, "cancels": cancels, "routes": routes,
        "skips": lambda _: Skip("no need"), "breaks_once": once(breaks),
        "later_once": once(lambda: Retry(4, "not yet")),
        "fails_once": once(lambda: Fail("no", "U001", retriable=False)),
    }  # fmt: skip


@functools.cache
def honest(name):
    """The history of a run, made once."""
    return asyncio.run(played(*RUNS[name]))


async def played(run, topology):
    """The history of `run`, played on that topology."""
    with tempfile.TemporaryDirectory() as folder:
        async with RecordedRig(Path(folder), topology, stages=stages()) as rig:
            await rig.during(rig.start_both())
            await run(rig)
            return await rig.dumped()


def copied(history):
    """A history of its own, to be spoilt."""
    return msgspec.structs.replace(
        history, records=list(history.records), transactions=dict(history.transactions),
        asked=list(history.asked), ran=list(history.ran), kept=list(history.kept),
        read=list(history.read),
    )  # fmt: skip
