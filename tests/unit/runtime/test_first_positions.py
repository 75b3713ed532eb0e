"""A group begins a partition once; what it has begun before and lost is never begun again (R5)."""

import msgspec
import pytest

from streams.broker.port import TopicPartition
from streams.errors import OffsetLost
from streams.inspection.recovery import apply, recoveries
from streams.runtime.control import Begun
from streams.testing.faults import Fault
from tests.unit.runtime.rig import NAMING, Rig

ONE = "stages:\n  - {id: one, type: t}\n"
MOVED = "version: 2\nstages:\n  - {id: one, type: t, pool: other}\n"
POOL, KEEPER = NAMING.pool_group("default"), NAMING.keeper_group
STAGE = TopicPartition(NAMING.stage("one"), 0)
INTAKE, HOLD = TopicPartition(NAMING.intake, 0), TopicPartition(NAMING.hold, 0)


def echo(ctx):
    return ctx.job_id


async def delete_positions(rig, group):
    """As a tool would: nobody is in the group, and it stands nowhere."""
    await rig.log.inner._store.write(
        lambda file: file.execute("DELETE FROM positions WHERE grp = ?", (group,))
    )


async def notes(rig):
    """Group and place → where it began, as the control topic says."""
    return {
        record.key.decode(): msgspec.json.decode(record.value, type=Begun).offset
        for record in await rig.records(NAMING.control)
        if record.key.startswith(b"begun/")
    }


async def stop(rig, who, task):
    who.leave()
    await rig.during(task)
    rig.tasks.remove(task)


async def worked_off(rig, *jobs):
    """Agent and keeper have done these and left in order."""
    agent, keeper = await rig.agent(), await rig.keeper()
    tasks = rig.start(agent), rig.start(keeper)
    for job in jobs:
        await rig.submit(job)
    for job in jobs:
        await rig.view_when(job, "succeeded")
    await stop(rig, agent, tasks[0])
    await stop(rig, keeper, tasks[1])


async def test_the_first_position_and_its_note_come_together(tmp_path):
    """One mechanism for agents and keepers; each partition is noted once."""
    async with Rig(tmp_path, ONE, stages={"t": echo}) as rig:
        await worked_off(rig, "a")
        await worked_off(rig, "b")

        assert await notes(rig) == {
            f"begun/{POOL}/{STAGE.topic}/0": 0,
            f"begun/{KEEPER}/{INTAKE.topic}/0": 0,
            f"begun/{KEEPER}/{HOLD.topic}/0": 0,
        }
        assert len([r for r in await rig.records(NAMING.control) if b"begun/" in r.key]) == 3


@pytest.mark.parametrize("fault", [Fault.UNKNOWN, Fault.UNKNOWN_COMMITTED, Fault.ABORTED])
async def test_a_first_commit_that_fails_leaves_both_or_neither(tmp_path, fault):
    """Whatever became of it, the member begins, once."""
    async with Rig(tmp_path, ONE, stages={"t": echo}) as rig:
        hit = []

        def once(producer, number, transaction):
            if producer.startswith(POOL) and not hit:
                hit.append(producer)
                return fault
            return None

        rig.log.choose = once
        await worked_off(rig, "a")

        assert hit
        assert rig.ran == [("one", "a")]
        assert (await notes(rig))[f"begun/{POOL}/{STAGE.topic}/0"] == 0


async def test_an_agent_whose_positions_were_deleted_ends_and_reads_nothing(tmp_path):
    """R5: neither earliest nor latest; the code and the command."""
    async with Rig(tmp_path, ONE, stages={"t": echo}) as rig:
        await worked_off(rig, "a")
        await delete_positions(rig, POOL)
        agent = await rig.agent()
        with pytest.raises(OffsetLost) as raised:
            await rig.during(agent.run())

        assert raised.value.code == "K096"
        assert f"{POOL} has no position in {STAGE.topic}/0 any more" in raised.value.message
        assert "from 0 on; it holds 0 to 1" in raised.value.message
        assert "`streams recover`" in raised.value.help
        assert rig.ran == [("one", "a")]
        assert await rig.log.positions(POOL) == {}


async def test_a_keeper_whose_positions_were_deleted_ends_and_decides_nothing(tmp_path):
    """The same for the coordinators; one message for all its partitions."""
    async with Rig(tmp_path, ONE, stages={"t": echo}) as rig:
        await worked_off(rig, "a")
        await delete_positions(rig, KEEPER)
        rows = len(await rig.records(NAMING.ledger))
        keeper = await rig.keeper()
        with pytest.raises(OffsetLost, match=r"\(and so in 1 more\)") as raised:
            await rig.during(keeper.run())

        assert raised.value.code == "K096"
        assert len(await rig.records(NAMING.ledger)) == rows


async def test_after_recovery_everything_ends_exactly_once(tmp_path):
    """What was finished is not done again; what came since is done."""
    async with Rig(tmp_path, ONE, stages={"t": echo}) as rig:
        await worked_off(rig, "a", "b")
        for group in (POOL, KEEPER):
            await delete_positions(rig, group)
        await rig.submit("c")
        found = await rig.during(recoveries(rig.log, NAMING, 0))

        assert [(each.stand.state, each.proposed.offset, each.left) for each in found] == [
            ("missing", 0, 0),  # hold: nothing went through it
            ("missing", 2, 1),
            ("missing", 2, 0),
        ]
        await apply(rig.log, found)
        await worked_off(rig, "d")
        await rig.view_when("c", "succeeded")
        assert sorted(rig.ran) == [("one", job) for job in "abcd"]
        assert sorted(await rig.done()) == ["a", "b", "c", "d"]
        assert await rig.dead() == []


async def test_a_stage_that_moves_to_another_pool_is_begun_by_it_while_the_old_one_works(tmp_path):
    """Jobs of both plans are under way: each pool has a position and a note of its own, and passes
    over what is the other's."""
    async with Rig(tmp_path, ONE, stages={"t": echo}) as rig:
        await worked_off(rig, "a")
        rig.plans.append(rig.compiled(MOVED))
        await rig.apply(rig.plans[1])
        rig.start(await rig.agent("a"))
        rig.start(await rig.agent("b", pool="other"))
        rig.start(await rig.keeper())
        await rig.submit("b")
        await rig.view_when("b", "succeeded")

        assert rig.ran == [("one", "a"), ("one", "b")]
        assert f"begun/{NAMING.pool_group('other')}/{STAGE.topic}/0" in await notes(rig)
