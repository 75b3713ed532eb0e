"""What was done before the positions were lost is not done again, whatever it was (R5)."""

import pytest

from streams.engine.messages import SIGNAL
from streams.inspection.recovery import apply, recoveries
from tests.unit.runtime.rig import NAMING, Rig
from tests.unit.runtime.test_first_positions import KEEPER, POOL, delete_positions, stop

ONE = "stages:\n  - {id: one, type: t}\n"
GATED = """\
gates: {go: {until: "facts.go == true"}}
stages:
  - {id: one, type: t}
  - {id: wait, type: gate, config: {gate: go}, depends_on: [one]}
  - {id: two, type: t, depends_on: [wait]}
"""
LATER = """\
policies:
  mine: {max_attempts: 3, backoff: {strategy: linear, initial: 60, maximum: 60, jitter: false}}
stages:
  - {id: one, type: t, policy: mine}
"""


def echo(ctx):
    return ctx.job_id


class Forgetful:
    """Workers that can be stopped, have the positions of all their groups lost, and go on."""

    def __init__(self, rig):
        self.rig = rig
        self.team = []

    async def work(self):
        rig = self.rig
        for who in (await rig.agent(), await rig.keeper()):
            self.team.append((who, rig.start(who)))

    async def forget(self):
        """What there is to recover, by topic's last name."""
        rig = self.rig
        for who, task in self.team:
            await stop(rig, who, task)
        self.team.clear()
        for group in (POOL, KEEPER):
            await delete_positions(rig, group)
        found = await rig.during(recoveries(rig.log, NAMING, rig.clock.now()))
        await apply(rig.log, found)
        return {each.stand.place.topic.rpartition(".")[2]: each for each in found}

    async def forgotten(self):
        found = await self.forget()
        await self.work()
        return found


@pytest.fixture
def forgetful(tmp_path):
    return lambda text, **stages: Rig(tmp_path, text, stages=stages or {"t": echo})


async def test_a_job_at_a_gate_waits_on_and_passes_it_once(forgetful):
    """Its arrival in hold is not handled twice: the gate's row is there."""
    async with forgetful(GATED) as rig:
        team = Forgetful(rig)
        await team.work()
        await rig.submit("j")
        await rig.view_when("j", "waiting")
        found = await team.forgotten()

        assert {name: each.left for name, each in found.items()} == {
            "intake": 0, "hold": 0, "one": 0, "two": 0,
        }  # fmt: skip
        await rig.signal("fact", "j", facts={"go": True})
        await rig.view_when("j", "succeeded")
        assert rig.ran == [("one", "j"), ("two", "j")]
        await team.forgotten()
        await rig.pass_time(3)
        assert (await rig.ends("j"))["wait", 1, 1] == 1
        assert await rig.done() == ["j"]


async def test_a_delayed_retry_is_not_asked_for_again(forgetful):
    """Its event is finished by the row RETRYING; it comes back once, with the next attempt."""
    tried = []

    def fails_once(ctx):
        tried.append(ctx.attempt)
        if len(tried) == 1:
            raise ConnectionError
        return "ok"

    async with forgetful(LATER, t=fails_once) as rig:
        team = Forgetful(rig)
        await team.work()
        await rig.submit("j")
        await rig.view_when("j", "retrying")
        await team.forgotten()
        await rig.view_when("j", "succeeded", seconds=90)

        assert tried == [1, 2]
        await team.forgotten()
        await rig.pass_time(90)
        assert tried == [1, 2]


async def test_a_delivery_parked_for_a_newer_plan_leaves_no_row_and_is_not_run_twice(forgetful):
    """Only the `retry` event in hold says that it was handed on."""
    async with forgetful(ONE) as rig:
        team = Forgetful(rig)
        await team.work()
        agent = team.team[0][0]
        await rig.until(lambda: agent.owned)
        await rig.during(agent._control.close())
        rig.plans.append(rig.compiled("version: 2\n" + ONE))
        await rig.apply(rig.plans[1])
        await rig.submit("j")
        await rig.view_when("j", "retrying")
        found = await team.forgotten()

        assert found["one"].left == 0
        await rig.view_when("j", "succeeded")
        await rig.pass_time(20)
        assert rig.ran == [("one", "j")]


async def test_a_shared_fact_is_not_set_back_to_what_it_was(forgetful):
    """The signals in the intake were carried out: the newest record of the fact is younger."""
    async with forgetful(ONE) as rig:
        team = Forgetful(rig)
        await team.work()
        for n in (1, 2):
            body = {"kind": "fact", "facts": {"open": n}, "global": True}
            await rig.send(SIGNAL, "", f"g{n}", body)
            await rig.pass_time(1)
        found = await team.forgotten()
        await rig.pass_time(3)

        assert found["intake"].left == 0
        told = [r for r in await rig.records(NAMING.control) if r.key == b"fact/open"]
        assert len(told) == 2


async def test_what_cannot_be_read_is_buried_once(forgetful):
    """Its dead letter names where it stood."""
    async with forgetful(ONE) as rig:
        team = Forgetful(rig)
        await team.work()
        for topic in (NAMING.intake, NAMING.stage("one")):
            await rig.log.publish([broken(topic)])
        await rig.until(lambda: counts(rig, 2))
        found = await team.forgotten()
        await rig.pass_time(3)

        assert {name: each.left for name, each in found.items()} == {
            "intake": 0, "hold": 0, "one": 0,
        }  # fmt: skip
        assert len(await rig.dead()) == 2


async def test_events_of_a_purged_job_are_not_run_again(forgetful):
    """Its rows are gone; what stands in the topics is over, and so is its submission."""
    async with forgetful("retention: {jobs: 10s}\n" + ONE) as rig:
        team = Forgetful(rig)
        await team.work()
        await rig.submit("j")
        await rig.view_when("j", "succeeded")
        await rig.until(lambda: purged(rig), seconds=60)
        found = await team.forgotten()
        await rig.pass_time(3)

        assert (found["intake"].left, found["one"].left) == (0, 0)
        assert rig.ran == [("one", "j")]


def broken(topic):
    from streams.broker.port import Outgoing

    return Outgoing(topic, b"k", b"\xff{", (("content-type", b"application/json"),), 0)


async def counts(rig, letters):
    return len(await rig.dead()) == letters


async def purged(rig):
    return not await rig.rows("j")
