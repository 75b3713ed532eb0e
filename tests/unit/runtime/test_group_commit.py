"""Transactions that fail, at every commit of a pipeline: the outcome stays the same."""

import asyncio

import pytest

from streams.broker.port import Outgoing, TopicPartition
from streams.clock import ManualClock
from streams.engine.frontier import Frontier
from streams.errors import OutcomeUnknown
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
    it (a rebalance just then) would lose them. Found by the faults of `test_storm`."""
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
