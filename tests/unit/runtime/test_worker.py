"""A worker as a whole: faults end it loudly, trouble of others does not, plans come and go."""

import asyncio

import pytest

from streams.app import App
from streams.broker.port import Outgoing, TopicPartition
from streams.errors import OffsetLost
from streams.settings import Settings
from streams.topology.load import Topology
from tests.unit.runtime.rig import NAMING, Rig

ONE = "stages:\n  - {name: one, type: t}\n"
TWO = ONE + "  - {name: two, type: t, depends_on: [one]}\n"


def ok(ctx):
    return ctx.stage_name


async def ended(rig, task, *, seconds=30):
    """The task's end, which the rig does not take for the test's own."""
    rig.tasks.remove(task)
    try:
        await rig.until(task.done, seconds=seconds)
    finally:
        if not task.done():
            rig.tasks.append(task)
    return task


async def owns_all(rig, worker):
    agents = worker.agents.values()
    await rig.until(lambda: worker.keeper and worker.keeper.owned and agents and all_own(agents))


def all_own(agents):
    return all(agent.owned for agent in agents)


# -- faults ---------------------------------------------------------------------------------


def breaks(*_args, **_more):
    raise RuntimeError("broken for the test")


BROKEN = {
    "keeper-inputs": lambda worker: (worker.keeper._feed, "_full"),
    "keeper-rows": lambda worker: (worker.keeper._feed._reader, "poll"),
    "keeper": lambda worker: (worker.keeper, "_new_turn"),
    "agent": lambda worker: (worker.agents["default"], "_receive"),
    "agent-watch": lambda worker: (worker.agents["default"]._clock, "now"),
    "stage-task": lambda worker: (worker.agents["default"]._runner, "_tell_called"),
    "commits": lambda worker: (worker.agents["default"]._out, "_commit_gathered"),
    "control": lambda worker: (worker.control.table, "apply"),
}


@pytest.mark.parametrize("where", BROKEN)
async def test_a_fault_of_the_runtime_ends_the_worker_with_that_fault(tmp_path, monkeypatch, where):
    """Row 11: nothing hangs; whoever started the worker sees why it ended."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        worker = rig.worker()
        task = rig.start(worker)
        await owns_all(rig, worker)
        target, name = BROKEN[where](worker)
        if name == "now":
            worker.agents["default"]._clock = Broken(rig.clock)
        else:
            monkeypatch.setattr(target, name, breaks)
        await rig.submit()
        if where == "control":
            await rig.signal("pause", None)
        task = await ended(rig, task)
        assert isinstance(task.exception(), RuntimeError)


class Broken:
    """A clock without a `now`."""

    def __init__(self, clock):
        self.monotonic, self.sleep, self.now = clock.monotonic, clock.sleep, breaks


async def test_a_position_that_retention_has_passed_ends_the_worker(tmp_path):
    """G8, row 26: never skipped in silence, and never a hang."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        worker = rig.worker()
        task = rig.start(worker)
        await owns_all(rig, worker)
        await rig.submit()
        await rig.view_when()
        hold = TopicPartition(NAMING.hold, 0)
        await rig.log.publish([Outgoing(hold.topic, b"k", b"v", (), 0) for _ in range(3)])
        await rig.log.trim({hold: 3})
        task = await ended(rig, task)
        assert isinstance(task.exception(), OffsetLost)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"fact/x", b"[]"),
        (b"fact/x", b"1"),
        (b"fact/x", b"{}"),
        (b"active", b"{}"),
        (b"active", b"[]"),
        (b"stop/x", b"[1]"),
        (b"pause/x", b"7"),
        (b"plan/x", b"{}"),
        (b"plan/x", b"\xff"),
        (b"layout", b"null"),
        (b"\xff", b""),
        (b"unheard/of", b"1"),
    ],
)
async def test_a_control_record_that_cannot_be_read_is_passed_over(tmp_path, key, value):
    """Whoever wrote it: every worker reads it, so it would end them all, again and again."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        worker = rig.worker()
        rig.start(worker)
        await rig.submit("before")
        await rig.view_when("before")
        await rig.log.publish([Outgoing(NAMING.control, key, value, (), 0)])
        await rig.submit("after")
        assert (await rig.view_when("after")).status == "succeeded"
        await rig.signal("pause", None)
        await rig.until(lambda: worker.control.table.is_paused("one"))


async def test_a_log_that_is_away_does_not_end_the_worker(tmp_path):
    """K013: it tries again by itself, the control topic included."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        worker = rig.worker()
        rig.start(worker)
        await owns_all(rig, worker)
        rig.log.down = True
        await rig.pass_time(40)
        rig.log.down = False
        await rig.submit()
        assert (await rig.view_when()).status == "succeeded"
        await rig.submit("paused")
        await rig.signal("pause", None)
        await rig.pass_time(3)
        assert worker.control.table.is_paused("one")


# -- stages that do not get ready -----------------------------------------------------------


async def test_a_stage_that_never_opens_holds_up_neither_faults_nor_the_end(tmp_path, monkeypatch):
    """Loading a model may take minutes: a dead keeper is noticed, SIGTERM is heeded."""
    rig = Rig(tmp_path, ONE, stages={"t": ok})
    async with rig:
        worker = rig.worker()

        async def never(*_):
            await asyncio.Event().wait()

        monkeypatch.setattr(worker._execution, "prepare", never)
        task = rig.start(worker)
        await rig.until(lambda: worker.keeper is not None and worker.keeper.owned)
        worker.leave()
        task = await ended(rig, task)
        assert task.exception() is None

        other = rig.worker("x")
        monkeypatch.setattr(other._execution, "prepare", never)
        task = rig.start(other)
        await rig.until(lambda: other.keeper is not None and other.keeper.owned)
        monkeypatch.setattr(other.keeper, "_new_turn", None)
        await rig.submit()
        task = await ended(rig, task)
        assert isinstance(task.exception(), TypeError)


# -- plans, pools and stages ----------------------------------------------------------------


async def test_a_new_plan_is_taken_up_by_a_worker_that_runs(tmp_path):
    """G16: its topics are read, a pool it brings gets an agent, the old plan goes on."""
    newer = TWO.replace("name: two, type: t", "name: two, type: t, pool: other")
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        worker = rig.worker()
        rig.start(worker)
        await owns_all(rig, worker)
        await rig.submit("old")
        await rig.view_when("old")
        rig.plans.append(rig.compiled(newer))
        await rig.apply(rig.plans[1])
        await rig.submit("new")
        view = await rig.view_when("new")
        assert {path: stage.status for path, stage in view.stages.items()} == {
            "one": "succeeded",
            "two": "succeeded",
        }
        assert set(worker.agents) == {"default", "other"}


async def test_workers_may_share_a_pool_by_stages(tmp_path):
    """`--stage`: each reads only the topics of its own stages, in the same group."""
    async with Rig(tmp_path, TWO, stages={"t": ok}, partitions=2) as rig:
        for name in ("one", "two"):
            rig.start(rig.worker(name, stages=frozenset({name}), keeper=name == "one"))
        for n in range(6):
            await rig.submit(f"j{n}")
        views = [await rig.view_when(f"j{n}") for n in range(6)]
        workers = {path: {v.stages[path].worker for v in views} for path in ("one", "two")}
        assert workers == {"one": {"one"}, "two": {"two"}}


async def test_an_app_with_two_versions_of_a_pipeline_has_one_worker_for_them(tmp_path):
    """Two of one name would put each other out of their groups for ever."""
    rig = Rig(tmp_path, stages={"t": ok})
    plans = [rig.compiled(f"version: {n}\n" + text) for n, text in ((1, ONE), (2, TWO))]
    topologies = [Topology(plan, tmp_path / f"{plan.version}.yaml") for plan in plans]
    settings = Settings.load(cwd=tmp_path)
    app = App(topologies, rig.registry, settings, clock=rig.clock, log=rig.log)
    stop = asyncio.Event()
    running = rig.start_task(app.run(stop))
    await rig.until(lambda: app.workers and app.workers[0].agents)
    assert len(app.workers) == 1
    stop.set()
    await rig.until(running.done)


# -- leaving --------------------------------------------------------------------------------


async def test_a_worker_that_leaves_finishes_what_runs_and_says_good_bye(tmp_path):
    """Drain: nothing is run twice, nothing waits for a session to end."""
    gate = asyncio.Event()

    async def slow(ctx):
        await gate.wait()
        return "ok"

    async with Rig(tmp_path, ONE, stages={"t": slow}) as rig:
        worker = rig.worker()
        task = rig.start(worker)
        await rig.submit()
        await rig.until(lambda: rig.ran)
        worker.leave()
        await rig.pass_time(2)
        gate.set()
        task = await ended(rig, task)
        assert task.exception() is None
        for group in (NAMING.pool_group("default"), NAMING.keeper_group):
            assert await rig.log.members(group) == []
            found = await rig.log.positions(group)
            assert all(position.metadata.startswith("1c") for position in found.values())
        rig.start(rig.worker("next"))
        assert (await rig.view_when()).status == "succeeded"
        assert rig.ran == [("one", "j")]
