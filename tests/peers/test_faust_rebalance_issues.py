"""What users of Faust complained of, as tests: rebalances, workers that die, exactly once."""

import pytest

from streams.testing.faults import Fault
from tests.peers.waiting import ended, ok
from tests.unit.runtime.rig import NAMING, Rig, running

ONE = "stages:\n  - {name: one, type: t}\n"
TWO = ONE + "  - {name: two, type: t, depends_on: [one]}\n"
AGENT = "t.p.pool-default.a"


# -- rebalances -----------------------------------------------------------------------------


async def test_no_event_is_missed_or_done_twice_when_workers_come_and_go(tmp_path):
    """faust-streaming/faust#217 and faust-streaming/faust#241: events were missed in races at a
    rebalance. Here each job is ended once while a worker joins, one leaves and one is killed."""

    async def work(ctx):
        await rig.clock.sleep(0.3)
        return ctx.job_id

    async with Rig(tmp_path, TWO, partitions=4, stages={"t": work}) as rig:
        first = rig.worker("first")
        rig.start(first)
        jobs = [f"j{n}" for n in range(40)]
        for job in jobs[:20]:
            await rig.submit(job)
        await rig.until(lambda: len(rig.ran) > 5)
        killed = rig.start(rig.worker("second"))
        await rig.pass_time(0.5)
        for job in jobs[20:]:
            await rig.submit(job)
        first.leave()
        await rig.pass_time(1)
        rig.start(rig.worker("third"))
        await rig.kill(killed, "second")
        views = [await rig.view_when(job, seconds=120) for job in jobs]
        ends = [await rig.ends(job) for job in jobs]

        assert {view.status for view in views} == {"succeeded"}
        assert {count for each in ends for count in each.values()} == {1}
        assert sorted(await rig.done()) == sorted(jobs)


async def test_a_worker_that_comes_back_gets_work_again(tmp_path):
    """faust-streaming/faust#93: after a restart some workers were left without a partition. Here
    three of them share five again, one or two each."""
    async with Rig(tmp_path, ONE, partitions=5, stages={"t": ok}) as rig:
        workers = {name: rig.worker(name) for name in ("u", "v", "w")}
        tasks = {name: rig.start(worker) for name, worker in workers.items()}
        await rig.until(lambda: shares(workers) == [1, 2, 2])
        workers["v"].leave()
        await ended(rig, tasks["v"])
        workers["v"] = rig.worker("v")
        rig.start(workers["v"])

        await rig.until(lambda: shares(workers) == [1, 2, 2])


def shares(workers):
    """How many partitions each worker reads of its one stage."""
    return sorted(len(a.owned) for worker in workers.values() for a in worker.agents.values())


@pytest.mark.parametrize("loop", ["agent", "keeper"])
async def test_a_loop_that_dies_takes_its_worker_with_it(tmp_path, monkeypatch, loop):
    """faust-streaming/faust#175 and faust-streaming/faust#640: consumers died over time while the
    worker seemed to live. Here the worker ends with the fault, and another one takes over."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        worker = rig.worker()
        task = rig.start(worker)
        await rig.until(lambda: worker.keeper and worker.keeper.owned and shares({0: worker}))

        def breaks(*_args, **_more):
            raise RuntimeError("a bug")

        if loop == "agent":
            monkeypatch.setattr(worker.agents["default"], "_receive", breaks)
        else:
            monkeypatch.setattr(worker.keeper, "_new_turn", breaks)
        await rig.submit()
        assert isinstance((await ended(rig, task)).exception(), RuntimeError)
        rig.start(rig.worker("next"))
        assert (await rig.view_when(seconds=60)).status == "succeeded"


# -- exactly once ---------------------------------------------------------------------------


async def test_a_commit_whose_answer_is_lost_is_not_done_twice(tmp_path):
    """faust-streaming/faust#517: duplicates despite exactly_once when a process ended at the wrong
    moment. Here what had been committed is found, and neither repeated nor lost."""
    lost = []
    rig = Rig(tmp_path, TWO, stages={"t": ok})

    def answer_is_lost(name, number, transaction):
        if name == AGENT and transaction.records and len(lost) < 2:
            lost.append(number)
            return Fault.UNKNOWN_COMMITTED
        return None

    rig.log.choose = answer_is_lost
    async with running(rig):
        await rig.submit()
        view = await rig.view_when(seconds=60)

        assert (view.status, len(lost)) == ("succeeded", 2)
        assert await rig.ends() == {("one", 1, 1): 1, ("two", 1, 1): 1}
        assert len(await rig.records(NAMING.stage("two"))) == 1


async def test_a_worker_put_out_of_its_group_commits_nothing_more(tmp_path):
    """faust-streaming/faust#323: crash and duplicated events on a rebalance with exactly_once. Here
    the late commit of the former owner is refused; the event has one result."""
    async with running(Rig(tmp_path, TWO, stages={"t": ok})) as rig:
        await rig.until(lambda: rig.agents[0].owned)
        rig.log.stuck.add(AGENT)
        await rig.submit()
        await rig.until(lambda: rig.ran)
        rig.start(await rig.agent("0"))
        await rig.until(lambda: len(rig.ran) > 1, seconds=60)
        rig.log.stuck.clear()
        await rig.view_when(seconds=60)
        await rig.pass_time(15)

        assert rig.ran[:2] == [("one", "j"), ("one", "j")]
        assert await rig.ends() == {("one", 1, 1): 1, ("two", 1, 1): 1}
        assert len(await rig.records(NAMING.stage("two"))) == 1


async def test_nothing_is_sent_outside_the_transaction(tmp_path):
    """faust-streaming/faust#177: the producer sent its messages outside the transaction. Here an
    aborted one leaves nothing; the same values are committed again without a second call."""
    seen = []
    rig = Rig(tmp_path, TWO, stages={"t": ok})

    def aborted(name, number, transaction):
        if name == AGENT and transaction.records and len(seen) < 3:
            seen.append(number)
            return Fault.ABORTED
        return None

    rig.log.choose = aborted
    async with running(rig):
        await rig.submit()
        await rig.until(lambda: seen)
        assert await rig.records(NAMING.stage("two")) == []
        assert "one" not in await rig.rows()
        await rig.view_when()

        assert rig.ran == [("one", "j"), ("two", "j")]
        assert len(await rig.records(NAMING.stage("two"))) == 1
