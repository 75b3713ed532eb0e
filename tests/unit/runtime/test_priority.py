"""Priority from the submission to the lanes: who runs first, past what, and who never waits long."""

import asyncio
from collections import Counter

import pytest

from streams.broker.port import Record, TopicPartition
from streams.codec import kafka
from streams.engine.frontier import Frontier
from streams.engine.messages import INPUT, SUBMIT, Origin, encode_stage_event, make, stage_event
from streams.engine.payload import Payload
from streams.event import Event
from streams.runtime import agent as agent_module
from streams.runtime.scout import _is_low
from streams.topology.plan import Plan
from tests.unit.runtime.rig import NAMING, Rig

ONE = "stages:\n  - {name: one, type: t, concurrency: 1}\n"
TWO = ONE + "  - {name: two, type: t, concurrency: 1}\n"
PLACE = TopicPartition(NAMING.stage("one"), 0)
BACKLOG = 600
"""More than the agent of these tests takes before it has finished some: it polls 500 at most."""


@pytest.fixture(autouse=True)
def _an_agent_takes_few_at_once(monkeypatch):
    monkeypatch.setattr(agent_module, "MOST_IN_HAND", 20)


async def submit(rig, *jobs, priority=None, kind=SUBMIT):
    for job in jobs:
        asked = {"priority": priority} if priority else {}
        event = Event(
            id=job, source="/test", type=kind, data=b"{}",
            datacontenttype="application/json", extensions={"job": job, **asked},
        )  # fmt: skip
        await rig.publish(NAMING.intake, event)


def names(kind, number):
    return [f"{kind}{n}" for n in range(number)]


async def backlog(rig, number):
    """So many events are in the first stage's topic."""

    async def there():
        return (await rig.log.watermarks([PLACE]))[PLACE].high >= number

    await rig.until(there)


class Held:
    """A stage whose first call waits until it is let go."""

    def __init__(self):
        self.go = asyncio.Event()

    async def __call__(self, ctx):
        await self.go.wait()
        return "ok"


async def test_the_higher_priority_goes_first_at_every_stage(tmp_path):
    """Issue 5.7: it travels with the job's events."""
    async with Rig(tmp_path, TWO, stages={"t": lambda ctx: "ok"}) as rig:
        rig.start(await rig.keeper())
        await submit(rig, "l0", "l1", priority="low")
        await submit(rig, "n0")
        await submit(rig, "h0", priority="high")
        await backlog(rig, 4)
        rig.start(await rig.agent())
        await rig.until(lambda: len(rig.ran) == 8)

        assert [job for stage, job in rig.ran if stage == "one"] == ["h0", "n0", "l0", "l1"]
        assert rig.ran.index(("two", "h0")) < rig.ran.index(("two", "l0"))
        views = {job: await rig.view_when(job, "succeeded") for job in ("l0", "n0", "h0")}
        assert {job: view.priority for job, view in views.items()} == {
            "l0": "low", "n0": "normal", "h0": "high",
        }  # fmt: skip


async def test_a_job_keeps_its_priority_when_it_is_retried(tmp_path):
    """Its row says so, and every event of the keeper is made from the row."""
    given = []

    def stage(ctx):
        given.append(ctx.job_id)
        if len(given) == 1:
            raise ValueError("once")
        return "ok"

    async with Rig(tmp_path, ONE, stages={"t": stage}) as rig:
        rig.start(await rig.keeper())
        worker = rig.start(await rig.agent())
        await submit(rig, "h", priority="high")
        await rig.view_when("h", "failed")
        worker.cancel()
        await asyncio.wait([worker])
        rig.tasks.remove(worker)
        await submit(rig, "n0", "n1")
        await rig.signal("retry", "h")
        await backlog(rig, 4)
        rig.start(await rig.agent("b"))
        await rig.until(lambda: len(given) == 4)

        assert given == ["h", "h", "n0", "n1"]


async def test_a_word_that_is_no_priority_is_a_dead_letter_or_somebody_else_s(tmp_path):
    """V051 in an event of ours; a stranger's attribute may mean anything, and counts as normal."""
    async with Rig(tmp_path, ONE, stages={"t": lambda ctx: "ok"}) as rig:
        await rig.start_both()
        await submit(rig, "ours", priority="urgent")
        await submit(rig, "theirs", priority="7", kind="com.example.thing")

        assert (await rig.view_when("theirs", "succeeded")).priority == "normal"
        assert await rig.view("ours") is None
        dead = await rig.records(NAMING.dead)
        assert [dict(each.headers)["streams-dlq-reason"] for each in dead] == [b"V051"]


async def test_a_high_job_is_fetched_from_behind_a_backlog_of_low_ones(tmp_path):
    """What an agent holds is bounded; without looking ahead the high one would wait for nearly all
    of the backlog."""
    held = Held()
    low = names("l", BACKLOG)
    async with Rig(tmp_path, ONE, stages={"t": held}) as rig:
        rig.start(await rig.keeper())
        await submit(rig, *low, priority="low")
        await submit(rig, "n")
        await submit(rig, "h0", "h1", priority="high")
        await backlog(rig, len(low) + 3)
        agent = await rig.agent()
        rig.start(agent)
        await rig.until(lambda: any(f.high >= 500 for f in agent.frontiers.values()))
        await rig.pass_time(1.0)
        held.go.set()
        await rig.until(lambda: len(rig.ran) == len(low) + 3, seconds=200)
        order = [job for _, job in rig.ran]

        assert order[:4] == ["l0", "h0", "h1", "n"]
        assert order[4:] == low[1:]


async def test_what_ran_before_its_turn_does_not_run_again_in_it_whoever_reads_on(tmp_path):
    """The offsets say so, in the transaction of its outputs: also for the next owner."""
    held = Held()
    low = names("l", BACKLOG)

    async def stage(ctx):
        if ctx.job_id.startswith("l") and ctx.job_id != "l0":
            await held(ctx)
        return "ok"

    async with Rig(tmp_path, ONE, stages={"t": stage}) as rig:
        rig.start(await rig.keeper())
        await submit(rig, *low, priority="low")
        await submit(rig, *names("h", 5), priority="high")
        await backlog(rig, len(low) + 5)
        task = rig.start(await rig.agent())
        await rig.until(lambda: sum(job.startswith("h") for _, job in rig.ran) == 5)

        async def committed():
            position = (await rig.log.positions(NAMING.pool_group("default"))).get(PLACE)
            return position is not None and position.metadata.startswith("2;")

        await rig.until(committed)
        for job in names("h", 5):
            await rig.view_when(job, "succeeded")
        await rig.kill(task, "a")
        held.go.set()
        rig.start(await rig.agent("b"))
        await rig.view_when(low[-1], "succeeded", seconds=300)

        counted = Counter(job for _, job in rig.ran)
        assert [counted[job] for job in names("h", 5)] == [1] * 5
        assert set(counted) == {*low, *names("h", 5)}


async def test_a_flood_of_high_jobs_leaves_low_ones_their_share(tmp_path):
    """Ageing: one start in nine is theirs."""
    held = Held()
    async with Rig(tmp_path, ONE, stages={"t": held}) as rig:
        rig.start(await rig.keeper())
        await submit(rig, "first")
        await submit(rig, *names("l", 3), priority="low")
        await submit(rig, *names("h", 40), priority="high")
        await backlog(rig, 44)
        rig.start(await rig.agent())
        await rig.until(lambda: rig.ran)
        held.go.set()
        await rig.until(lambda: len(rig.ran) == 44)
        order = [job for _, job in rig.ran]

        assert [order.index(job) for job in names("l", 3)] == [8, 17, 26]
        assert order.index("first") == 9


def test_a_low_event_is_known_by_its_bytes_in_either_form():
    """Looking ahead decodes nothing: a backlog is read twice, not decoded twice."""
    plan, origin = Plan("p", "1", ()), Origin("j", "j", 1, "d", priority="low")
    whole = encode_stage_event(stage_event(plan, origin, "one", "e", Payload(), 0))
    value, headers = kafka.encode(make(INPUT, plan, origin, "one", "e", b"{}", 0))
    normal = encode_stage_event(
        stage_event(
            plan, Origin("j", "j", 1, "d"), "one", "e", Payload(params={"priority": "low"}), 0
        )
    )

    assert _is_low(Record("t", 0, 0, 0, b"j", whole, kafka.STRUCTURED_HEADERS))
    assert _is_low(Record("t", 0, 0, 0, b"j", value, headers))
    assert not _is_low(Record("t", 0, 0, 0, b"j", normal, kafka.STRUCTURED_HEADERS))


def test_without_low_jobs_offsets_are_what_they_were():
    """Older workers read them."""
    frontier = Frontier(0)
    frontier.start(0)
    assert frontier.commit()[1].startswith("1;")
