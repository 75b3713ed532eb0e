"""The agent of one pool: what it commits, for whom, and what it must never do."""

import asyncio

import pytest

from streams.broker.port import Committed, TopicPartition
from streams.clock import SystemClock
from streams.engine.frontier import parse
from streams.errors import Fenced
from streams.event import Event
from streams.testing.faults import Fault
from tests.unit.runtime.rig import NAMING, Rig, running

ONE = "stages:\n  - {name: one, type: t}\n"
AGENT = "t.p.pool-default.a"
PLACE = TopicPartition(NAMING.stage("one"), 0)


def held(rig_gate):
    async def run(ctx):
        await rig_gate.wait()
        return "ok"

    return run


# -- ownership ------------------------------------------------------------------------------


async def test_work_of_a_former_assignment_writes_nothing_into_the_next_one(tmp_path):
    """R2: a partition that comes back while its old work still runs is a new assignment. The old
    result would be a second one, and its cancelled token would cancel the job."""
    gate = asyncio.Event()
    calls = []

    async def slow(ctx):
        calls.append(ctx)
        if len(calls) == 1:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                await gate.wait()  # does not heed it, at first
        return len(calls)

    async with running(Rig(tmp_path, ONE, stages={"t": slow})) as rig:
        agent = rig.agents[0]
        await rig.submit()
        await rig.until(lambda: calls)
        other = rig.log.inner.consumer(NAMING.pool_group("default"), "0-first")
        await other.subscribe([PLACE.topic])
        taken = {}

        async def polled():
            poll = await other.poll(10, 0)
            taken.update(poll.assigned)
            return taken

        await rig.until(polled)
        await other.close()
        await rig.until(lambda: agent.owned == {PLACE})
        await rig.until(lambda: len(calls) == 2 or agent.in_hand > 1)
        gate.set()
        view = await rig.view_when()
        await rig.pass_time(3)

        assert view.status == "succeeded"
        assert await rig.ends() == {("one", 1, 1): 1}
        assert await rig.done() == ["j"]


# -- trimming -------------------------------------------------------------------------------


async def test_nothing_is_deleted_before_its_offset_is_committed(tmp_path):
    """An event that is finished but not yet committed is still needed: by the next owner."""
    async with running(Rig(tmp_path, ONE, stages={"t": lambda ctx: "ok"})) as rig:
        await rig.submit("first")
        await rig.view_when("first")
        low_before = (await rig.log.watermarks([PLACE]))[PLACE]
        committed = (await rig.log.positions(NAMING.pool_group("default")))[PLACE].offset
        # The agent's next commit hangs, the keeper's go through.
        rig.log.stuck.add(AGENT)
        await rig.submit("second")
        await rig.until(lambda: ("one", "second") in rig.ran)
        await rig.pass_time(130)
        marks = (await rig.log.watermarks([PLACE]))[PLACE]

        assert low_before.low == 0
        assert marks.low <= committed < marks.high


async def test_events_of_another_pool_are_not_deleted_by_this_one(tmp_path):
    """A stage that moved to another pool has two groups on its topic; the slower one sets the
    pace. Here it has not even been started yet."""
    moved = ONE.replace("type: t}", "type: t, pool: gpu}")
    async with running(Rig(tmp_path, ONE, moved, stages={"t": lambda ctx: "ok"})) as rig:
        await rig.submit("second")
        group = NAMING.pool_group("default")

        async def passed_over():
            found = (await rig.log.positions(group)).get(PLACE)
            return found is not None and found.offset == 1

        await rig.until(passed_over)
        await rig.pass_time(130)
        assert (await rig.log.watermarks([PLACE]))[PLACE].low == 0

        rig.start(await rig.agent("g", pool="gpu"))
        view = await rig.view_when("second")
        assert view.status == "succeeded"
        await rig.pass_time(130)
        assert (await rig.log.watermarks([PLACE]))[PLACE].low == 1


# -- deaths ---------------------------------------------------------------------------------


async def test_a_log_in_trouble_is_no_death_of_a_worker(tmp_path):
    """Stage agent 7: only a takeover from somebody who died counts. Restarting after an unknown
    outcome kills nobody, so no event may be blamed for it."""
    rig = Rig(tmp_path, ONE, stages={"t": lambda ctx: "ok"})
    failed = []

    def results_fail(name, number, transaction):
        if name == AGENT and transaction.records and len(failed) < 6:
            failed.append(number)
            return Fault.UNKNOWN
        return None

    rig.log.choose = results_fail
    async with running(rig):
        await rig.submit()
        view = await rig.view_when(seconds=300)
        assert view.status == "succeeded", view.error
        assert await rig.dead() == []


# -- what restarts, and what must end --------------------------------------------------------


async def test_after_an_unknown_good_bye_a_new_producer_is_opened(tmp_path):
    """Port: `OutcomeUnknown` means: close this producer, open a new one, re-read."""
    async with running(Rig(tmp_path, ONE, partitions=2, stages={"t": lambda ctx: "ok"})) as rig:
        agent = rig.agents[0]
        await rig.until(lambda: len(agent.owned) == 2)
        failed = []

        def good_bye_fails(name, number, transaction):
            clean = any(o.metadata.startswith("1c") for o in transaction.offsets.values())
            if name == AGENT and clean and not failed:
                failed.append(number)
                return Fault.UNKNOWN
            return None

        rig.log.choose = good_bye_fails
        other = await rig.agent("b")
        rig.start(other)
        await rig.until(lambda: len(agent.owned) == len(other.owned) == 1)
        assert failed
        assert rig.log.opened[AGENT] == 2


async def test_of_two_workers_with_one_name_one_ends_loudly(tmp_path):
    """R4: who is fenced by a namesake again and again must not fight it for ever."""
    async with Rig(tmp_path, ONE, stages={"t": lambda ctx: "ok"}) as rig:
        await rig.start_both()
        first, twin = rig.tasks[1], rig.start(await rig.agent("a"))
        rig.tasks = [rig.tasks[0]]
        try:
            await rig.until(lambda: first.done() or twin.done(), seconds=60)
            ended, lives = (first, twin) if first.done() else (twin, first)
            with pytest.raises(Fenced):
                ended.result()
            await rig.submit()
            assert (await rig.view_when()).status == "succeeded"
            assert not lives.done()
        finally:
            rig.tasks += [first, twin]


async def test_a_log_that_is_away_for_a_while_ends_nobody(tmp_path):
    """K013, K025: the worker tries again by itself."""
    async with running(Rig(tmp_path, ONE, stages={"t": lambda ctx: "ok"})) as rig:
        await rig.until(lambda: rig.agents[0].owned and rig.keepers[0].owned)
        rig.log.down = True
        await rig.pass_time(60)
        assert [task.done() for task in rig.tasks] == [False, False]
        rig.log.down = False
        await rig.submit()
        assert (await rig.view_when()).status == "succeeded"


async def test_a_drain_that_runs_out_of_time_is_no_death(tmp_path):
    """Stage agent 7: a stage longer than the drain must not be blamed at each deployment."""
    gate = asyncio.Event()
    async with Rig(tmp_path, ONE, stages={"t": held(gate)}) as rig:
        rig.start(await rig.keeper())
        worker = rig.worker(keeper=False, drain_seconds=5.0)
        task = rig.start(worker)
        await rig.submit()
        await rig.until(lambda: rig.ran)
        worker.leave()
        await rig.until(task.done, seconds=30)
        offset, metadata = (await rig.log.positions(NAMING.pool_group("default")))[PLACE]
        clean, deaths, *_ = parse(offset, metadata)
        assert (offset, clean, deaths) == (0, True, 0)


# -- bad values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stages",
    [
        "  - {name: one, type: t, if: '${{ data.x == 1 }}'}\n",
        "  - {name: one, type: t}\n  - {name: say, echo: '${{ data.x }}', depends_on: [one]}\n",
    ],
    ids=["condition", "folded"],
)
async def test_a_reference_to_nowhere_fails_its_job_alone(tmp_path, stages):
    """B001, B003: a foreign event may name any address; no worker dies of it."""
    rig = Rig(tmp_path, "stages:\n" + stages, stages={"t": lambda ctx: 1}, clock=SystemClock())
    async with running(rig):
        ref = {"$blob": {"url": f"{rig.blobs.url}/x/{'0' * 64}", "size": 9, "sha256": "0" * 64}}
        await rig.submit("bad", data=ref)
        await rig.submit("good", data={"x": 1})
        good, bad = await rig.view_when("good"), await rig.view_when("bad")
        assert good.status == "succeeded"
        assert (bad.status, bad.stages["one"].error.code) == ("failed", "B001")


async def test_an_event_for_a_part_that_its_plan_has_not_is_a_dead_letter(tmp_path):
    """E11: it can never be run anywhere, so it is not offered again and again."""
    async with running(Rig(tmp_path, ONE, stages={"t": lambda ctx: "ok"})) as rig:
        digest = rig.plans[0].digest
        event = Event(
            id="x", source="/x", type="interlock.stage.input.v1", data=b"{}",
            extensions={
                "scope": "j", "part": "nowhere", "root": "j", "epoch": "1", "turn": "1",
                "attempt": "1", "planversion": digest,
            },
        )  # fmt: skip
        await rig.publish(PLACE.topic, event, partition=0)
        await rig.until(rig.dead)
        assert await rig.dead() == ["V047"]


# -- poison ---------------------------------------------------------------------------------


async def test_work_under_suspicion_starts_only_when_its_offset_says_so(tmp_path):
    """Stage agent 7: `suspect` is committed first, else nobody could know who killed the worker."""
    said = []

    async def now():
        return (await rig.log.positions(NAMING.pool_group("default")))[PLACE]

    async def seen(ctx):
        said.append((ctx.job_id, parse(*await now())[1:3]))

    async with Rig(tmp_path, ONE, stages={"t": seen}) as rig:
        rig.start(await rig.keeper())
        for job in ("j0", "j1"):
            await rig.submit(job)
        await rig.until(lambda: arrived(rig, 2))
        await rig.log.set_positions(NAMING.pool_group("default"), {PLACE: Committed(0, "1;1;;;")})
        rig.start(await rig.agent())
        for job in ("j0", "j1"):
            assert (await rig.view_when(job)).status == "succeeded"
        assert said == [("j0", (2, 0)), ("j1", (2, 1))]
        assert parse(*await now())[1:3] == (0, None)


async def test_two_poisonous_events_take_down_a_bounded_number_of_workers(tmp_path):
    """Row 19: each at most `max attempts` + 1 workers; the good ones beside them succeed."""
    deaths = 0

    bang = asyncio.Event()

    async def deadly(ctx):
        if ctx.job_id.startswith("poison"):
            bang.set()
            await asyncio.Event().wait()

    rig = Rig(tmp_path, ONE, stages={"t": deadly}, partitions=2)
    jobs = ["poison1", "g1", "g2", "poison2", "g3", "g4", "g5"]
    async with rig:
        rig.start(await rig.keeper())
        for job in jobs:
            await rig.submit(job)
        while True:
            bang.clear()
            task = rig.start(await rig.agent())
            await rig.until(lambda: bang.is_set() or all_over(rig, jobs), seconds=120)
            if not bang.is_set():
                break
            deaths += 1
            assert deaths < 10
            await rig.kill(task, "a")
        views = {job: await rig.view(job) for job in jobs}
    assert {j for j, v in views.items() if v.status == "failed"} == {"poison1", "poison2"}
    assert all(v.status == "succeeded" for j, v in views.items() if j.startswith("g"))
    assert deaths <= 6


async def arrived(rig, count):
    return (await rig.log.watermarks([PLACE]))[PLACE].high == count


async def all_over(rig, jobs):
    views = [await rig.view(job) for job in jobs]
    return all(view is not None and view.status in ("succeeded", "failed") for view in views)


# -- the control topic, early and late --------------------------------------------------------


async def test_a_plan_not_read_yet_costs_no_attempt(tmp_path):
    """Stage agent 2: offered again in 5 s, reason `no-capable-worker`; never a dead letter."""
    newer = "version: 2\n" + ONE
    async with Rig(tmp_path, ONE, stages={"t": lambda ctx: ctx.attempt}) as rig:
        agent = await rig.agent()
        rig.start(agent)
        await rig.until(lambda: agent.owned)
        await rig.during(agent._control.close())
        rig.plans.append(rig.compiled(newer))
        await rig.apply(rig.plans[1])
        rig.start(await rig.keeper())
        await rig.submit()
        await rig.pass_time(17)
        view = await rig.view()
        assert (view.status, view.waiting_for.reason) == ("retrying", "no-capable-worker")
        assert rig.ran == []
        await rig.during(agent._control.start())
        view = await rig.view_when()
        assert (view.status, view.stages["one"].outputs) == ("succeeded", 1)
        assert await rig.dead() == []


async def test_a_stop_that_is_read_late_ends_the_job_once_and_starts_nothing_more(tmp_path):
    """Stated limit: a worker cut off goes on with what it holds; what it commits is dropped."""
    two = ONE + "  - {name: two, type: t, depends_on: [one]}\n"
    gate = asyncio.Event()
    async with running(Rig(tmp_path, two, stages={"t": held(gate)})) as rig:
        agent = rig.agents[0]
        await rig.submit()
        await rig.until(lambda: rig.ran)
        await rig.during(agent._control.close())
        await rig.signal("cancel")
        view = await rig.view_when(seconds=15)
        assert view.status == "cancelled"
        gate.set()
        await rig.during(agent._control.start())
        await rig.pass_time(5)
        assert rig.ran == [("one", "j")]
        assert await rig.done() == ["j"]
        assert (await rig.view()).status == "cancelled"


async def test_a_stage_that_does_not_heed_the_stop_holds_nobody_up(tmp_path):
    """G18: at the latest 10 s; its lane goes on without it, its late result is dropped."""
    gate = asyncio.Event()

    async def deaf(ctx):
        while ctx.job_id == "deaf" and not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    one = "stages:\n  - {name: one, type: t, concurrency: 1}\n"
    async with running(Rig(tmp_path, one, stages={"t": deaf})) as rig:
        await rig.submit("deaf")
        await rig.until(lambda: rig.ran)
        await rig.submit("next")
        start = rig.clock.monotonic()
        await rig.signal("cancel", "deaf")
        assert (await rig.view_when("deaf", seconds=12)).status == "cancelled"
        assert 2 <= rig.clock.monotonic() - start <= 11
        assert (await rig.view_when("next")).status == "succeeded"
        gate.set()
        await rig.pass_time(3)
        view = await rig.view("deaf")
        assert (view.status, view.stages["one"].status) == ("cancelled", "cancelled")
        assert (await rig.ends("deaf"))["one", 1, 1] == 1
        assert sorted(await rig.done()) == ["deaf", "next"]


async def test_a_paused_stage_starts_nothing_until_it_is_resumed(tmp_path):
    """A durable fact: it also holds for an agent that begins anew meanwhile."""
    async with running(Rig(tmp_path, ONE, stages={"t": lambda ctx: "ok"})) as rig:
        agent = rig.agents[0]
        await rig.signal("pause", None, stage="one")
        await rig.until(lambda: agent._control.table.is_paused("one"))
        for n in range(3):
            await rig.submit(f"j{n}")
        await rig.until(lambda: agent.in_hand == 3)
        rig.log.choose = lambda name, *_: Fault.FENCED if name == AGENT else None
        await rig.pass_time(1)
        await rig.submit("j3")
        rig.log.choose = lambda *_: None
        await rig.until(lambda: agent.in_hand == 4)
        await rig.pass_time(5)
        assert rig.ran == []
        await rig.signal("resume", None, stage="one")
        for n in range(4):
            assert (await rig.view_when(f"j{n}")).status == "succeeded"
        assert len(rig.ran) == 4


async def test_the_backlog_of_a_paused_stage_stays_in_the_log(tmp_path):
    """Memory is bounded, and other stages of the worker go on."""
    both = ONE + "  - {name: two, type: t}\n  - {name: three, type: t, depends_on: [two]}\n"
    async with running(Rig(tmp_path, both, stages={"t": lambda ctx: "ok"})) as rig:
        agent = rig.agents[0]
        await rig.signal("pause", None, stage="one")
        await rig.until(lambda: agent._control.table.is_paused("one"))
        for n in range(2_000):
            await rig.submit(f"j{n}")
        await rig.until(lambda: len(rig.ran) == 4_000, seconds=100)
        assert {stage for stage, _ in rig.ran} == {"two", "three"}
        assert agent.in_hand <= 1_000 + 500
        await rig.signal("resume", None, stage="one")
        await rig.until(lambda: len(rig.ran) == 6_000, seconds=100)
