"""Transactions that fail, at every commit of a pipeline: the outcome stays the same."""

import asyncio
import random

import pytest

from streams.broker.local import LocalLog
from streams.broker.port import Outgoing, TopicPartition
from streams.clock import ManualClock
from streams.engine.frontier import Frontier
from streams.errors import Fenced, OutcomeUnknown
from streams.runtime.group_commit import GroupCommit
from streams.testing.faults import Fault
from tests.unit.runtime.rig import Rig

BRANCHED = """
gates: {go: {after: one, until: facts.go}}
stages:
  - {name: one, type: t}
  - {name: left, type: t, depends_on: [one]}
  - {name: right, type: t, depends_on: [one]}
  - {name: both, type: t, depends_on: [left, right]}
"""
AGENT, KEEPER = "t.p.pool-default.a", "t.p.keeper.k"
KINDS = {
    "aborted-once": (Fault.ABORTED, 1),
    "aborted-ten-times": (Fault.ABORTED, 10),
    "unknown-committed": (Fault.UNKNOWN_COMMITTED, 1),
    "unknown-not-committed": (Fault.UNKNOWN, 1),
    "fenced": (Fault.FENCED, 1),
}


async def flow_with(tmp_path, choose):
    """Two jobs pass the pipeline while commits fail; the rig as it is afterwards."""
    rig = Rig(tmp_path, BRANCHED, stages={"t": lambda ctx: {"of": ctx.stage_name}})
    rig.log.choose = choose
    async with rig:
        await rig.start_both()
        for job in ("j", "k"):
            await rig.submit(job)
        await rig.until(lambda: gate_waits(rig), seconds=200)
        for job in ("j", "k"):
            await rig.signal("fact", job, facts={"go": True})
        views = [await rig.view_when(job, seconds=200) for job in ("j", "k")]
        await rig.pass_time(3)
        assert [view.status for view in views] == ["succeeded", "succeeded"]
        assert views[0].stages["both"].outputs == {"of": "both"}
        for job in ("j", "k"):
            ends = await rig.ends(job)
            assert ends == {(p, 1, 1): 1 for p in ("one", "go", "left", "right", "both")}
        assert sorted(await rig.done()) == ["j", "k"]
        assert await rig.dead() == []
        for task in rig.tasks:
            assert not task.done()
    return rig


async def gate_waits(rig):
    views = [await rig.view(job) for job in ("j", "k")]
    return all(view is not None and view.status == "waiting" for view in views)


@pytest.mark.parametrize("producer", [AGENT, KEEPER], ids=["agent", "keeper"])
@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_failed_commit_changes_nothing_wherever_it_happens(tmp_path, producer, kind):
    """R4: the same rows, each once per (epoch, turn), and one `done`, whichever commit fails."""
    fault, times = KINDS[kind]
    quiet = await flow_with(tmp_path / "quiet", lambda *_: None)
    for first in range(1, quiet.log.tried[producer] + 2):

        def choose(name, number, _, first=first):
            return fault if name == producer and first <= number < first + times else None

        await flow_with(tmp_path / str(first), choose)


async def test_every_third_commit_of_everybody_fails(tmp_path):
    """R4 again and again: what restarts often must still come to its end."""
    kinds = [Fault.ABORTED, Fault.UNKNOWN, Fault.UNKNOWN_COMMITTED, Fault.FENCED]

    def choose(_name, number, _):
        return kinds[number // 3 % 4] if number % 3 == 0 else None

    await flow_with(tmp_path, choose)


class OneFault:
    """A producer whose first commit fails."""

    def __init__(self, error):
        self.error = error
        self.committed = []

    async def commit(self, wanted):
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.committed.append(wanted)

    async def close(self):
        pass


async def test_nothing_is_committed_after_a_commit_that_failed():
    """The frontier counts the events of a failed transaction as finished: a good-bye that commits
    it (a rebalance just then) would lose them. Found by the faults of the storm below."""
    place = TopicPartition("s", 0)
    group = GroupCommit(ManualClock(), lambda: None, {})
    producer = OneFault(OutcomeUnknown("asked for"))
    frontier = group.frontiers[place] = Frontier(0)
    frontier.start(0)
    group.gather(place, 0, [Outgoing("x", b"k", b"v")])
    with pytest.raises(OutcomeUnknown):
        await group.run(producer)
    with pytest.raises(OutcomeUnknown):
        await group.give_up(producer, frozenset({place}))
    assert producer.committed == []


async def test_who_waits_for_a_partition_that_is_given_up_is_told():
    """R2: work that was to start under it does not start."""
    place = TopicPartition("s", 0)
    group = GroupCommit(ManualClock(), lambda: None, {})
    group.frontiers[place] = Frontier(0)
    said = asyncio.ensure_future(group.say(place))
    await asyncio.sleep(0)
    group.forget({place})
    assert await said is False


STORMY = """
policies: {mine: {max_attempts: 9, backoff: {strategy: linear, initial: 1, maximum: 4}}}
gates: {go: {after: one, until: facts.go}}
stages:
  - {name: one, type: quick, policy: mine}
  - {name: left, type: slow, policy: mine, depends_on: [one]}
  - {name: right, type: flaky, policy: mine, depends_on: [one]}
  - {name: say, echo: "${{ stages.left.outputs.n }}", depends_on: [left]}
  - {name: both, type: quick, policy: mine, depends_on: [say, right]}
"""


class Storm:
    """Two keepers and two agents over three partitions; whatever can happen to them does."""

    def __init__(self, folder, seed):
        self.random = random.Random(seed)
        self.clock = ManualClock(seed=seed)
        inner = LocalLog.open(None, clock=self.clock, offset_gaps=bool(seed % 2))
        stages = {"quick": lambda ctx: {"a": 1}, "slow": self.slow, "flaky": self.flaky}
        self.rig = Rig(folder, STORMY, stages=stages, clock=self.clock, partitions=3, inner=inner)
        self.rig.log.choose = self.choose
        self.calm = False
        self.who = {}

    async def slow(self, ctx):
        await self.clock.sleep(self.random.random() * 3)
        return {"n": 1}

    def flaky(self, ctx):
        if self.random.random() < 0.3:
            raise ValueError("no")
        return 1

    def choose(self, *_):
        if self.calm or self.random.random() > 0.05:
            return None
        faults = [Fault.ABORTED] * 3 + [Fault.UNKNOWN, Fault.UNKNOWN_COMMITTED, Fault.FENCED]
        return self.random.choice(faults)

    async def up(self, name):
        make = self.rig.keeper if name.startswith("k") else self.rig.agent
        self.who[name] = self.rig.start(await self.rig.during(make(name)))
        self.rig.tasks.remove(self.who[name])

    async def blow(self, jobs):
        for name in ("k1", "k2", "a1", "a2"):
            await self.up(name)
        for job in jobs:
            await self.rig.submit(job)
        for step in range(40):
            await self.rig.pass_time(self.random.random() * 2)
            await self.strike(self.random.choice(list(self.who)))
            if step == 10:
                for job in jobs[:20]:
                    await self.rig.signal("fact", job, facts={"go": True})
            if step == 15:
                for job in jobs[20:24]:
                    await self.rig.signal("cancel", job)
                await self.rig.signal("fact", None, facts={"go": True}, **{"global": True})
        self.calm = True

    async def strike(self, name):
        """Kills somebody half of the time; who ended by himself (fenced too often) comes back."""
        if self.who[name].done():
            assert isinstance(self.who[name].exception(), Fenced)
            await self.up(name)
        elif self.random.random() < 0.5:
            await self.rig.kill(self.who[name], name)
            if self.random.random() < 0.5:
                await self.rig.pass_time(self.random.random() * 12)
            await self.up(name)

    async def end(self):
        self.rig.tasks += self.who.values()


@pytest.mark.parametrize("seed", range(6))
async def test_a_storm_of_deaths_and_faults_loses_and_doubles_nothing(tmp_path, seed):
    """C1, C2, C6: each job ends once, each (epoch, turn) of a part once, nothing is a dead letter."""
    storm = Storm(tmp_path, seed)
    rig = storm.rig
    jobs = [f"j{n}" for n in range(30)]
    async with rig:
        await storm.blow(jobs)
        views = [await rig.view_when(job, seconds=120) for job in jobs]
        await rig.pass_time(15)
        await storm.end()
        ends = {job: await rig.ends(job) for job in jobs}

        assert sorted(await rig.done()) == sorted(jobs)
        assert await rig.dead() == []
        assert {v.status for v in views} <= {"succeeded", "cancelled"}
        assert all(v.status == "succeeded" for v in views if v.id not in jobs[20:24])
        assert all(n == 1 for found in ends.values() for n in found.values()), ends


class Recorded:
    """A producer that keeps what it is asked to commit."""

    def __init__(self):
        self.commits = []

    async def commit(self, transaction):
        self.commits.append(transaction)


async def test_a_transaction_is_bounded_in_bytes_too():
    """R3: at most 4 MiB, and what came last on top; a large one outlives its time limit."""
    place, producer = TopicPartition("t", 0), Recorded()
    commit = GroupCommit(ManualClock(), lambda: None, {})
    frontier = Frontier(0)
    await commit.own(producer, {place: frontier})
    for offset in range(5):
        frontier.start(offset)
        value = b"x" * 1_500_000
        commit.gather(place, offset, [Outgoing("out", None, value), Outgoing("out", None, None)])
    running = asyncio.create_task(commit.run(producer))
    while len(producer.commits) < 3:
        await asyncio.sleep(0)
    running.cancel()
    assert [len(each.records) for each in producer.commits] == [0, 6, 4]
    assert [each.offsets[place].offset for each in producer.commits] == [0, 3, 5]
