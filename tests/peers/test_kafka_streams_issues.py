"""What users of Kafka Streams complained of, as tests: what holds here instead."""

import asyncio

import msgspec

from streams.broker.port import Outgoing
from streams.outcome import Ok
from tests.peers.waiting import ok, released_by
from tests.simulation.building import gate, pipeline, stage
from tests.simulation.harness import NOW, World
from tests.unit.runtime.rig import NAMING, Rig, running

ONE = "stages:\n  - {name: one, type: t}\n"
TWO = ONE + "  - {name: two, type: t, depends_on: [one]}\n"
YEAR = 365 * 24 * 3600


# -- slow processors ------------------------------------------------------------------------


async def test_a_slow_stage_slows_nothing_before_or_beside_it(tmp_path):
    """DependencyTrack/hyades#215: a slow processor stalled the fast tasks of its stream thread.
    Here every other stage goes on while all places of the slow one are taken."""
    text = """
    stages:
      - {name: ingest, type: t}
      - {name: analyse, type: slow, concurrency: 2, depends_on: [ingest]}
      - {name: store, type: t, depends_on: [ingest]}
    """
    gate = asyncio.Event()
    stages = {"t": ok, "slow": released_by(gate)}
    async with running(Rig(tmp_path, text, stages=stages)) as rig:
        for n in range(20):
            await rig.submit(f"j{n}")
        await rig.until(lambda: len(rig.ran) == 20 + 2 + 20)
        assert sorted(stage for stage, _ in rig.ran) == (
            ["analyse"] * 2 + ["ingest"] * 20 + ["store"] * 20
        )
        gate.set()
        for n in range(20):
            assert (await rig.view_when(f"j{n}")).status == "succeeded"


async def test_a_flood_of_one_kind_of_work_does_not_block_another_kind(tmp_path):
    """DependencyTrack/hyades#98: notifications and analyses in one topology shared stream tasks, so
    a flood of the one blocked the other. Here each has a pool of its own, in one pipeline."""
    text = """
    stages:
      - {name: notify, type: slow, pool: notifications, concurrency: 1}
      - {name: analyse, type: t, depends_on: []}
    """
    gate = asyncio.Event()
    stages = {"t": ok, "slow": released_by(gate)}
    async with Rig(tmp_path, text, stages=stages) as rig:
        rig.start(rig.worker("n", pools=["notifications"]))
        rig.start(rig.worker("a", pools=["default"]))
        for n in range(400):
            await rig.submit(f"j{n}")
        await rig.until(lambda: len(rig.ran) == 400 + 1)
        gate.set()
        view = await rig.view_when("j399")

        assert (view.stages["notify"].worker, view.stages["analyse"].worker) == ("n", "a")


async def test_one_partition_runs_as_many_jobs_at_once_as_the_stage_allows(tmp_path):
    """DependencyTrack/hyades#346: work on more records than there are partitions needed another
    consumer beside Kafka Streams. Here one partition feeds eight calls at a time, and no ninth."""
    at_once, most = 0, 0

    async def work(ctx):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await rig.clock.sleep(0.5)
        at_once -= 1

    text = "stages:\n  - {name: one, type: t, concurrency: 8}\n"
    async with running(Rig(tmp_path, text, partitions=1, stages={"t": work})) as rig:
        for n in range(40):
            await rig.submit(f"j{n}")
        for n in range(40):
            assert (await rig.view_when(f"j{n}")).status == "succeeded"
    assert most == 8


async def test_work_that_takes_minutes_does_not_cost_the_membership(tmp_path):
    """DependencyTrack/hyades#304: a long-running processor missed its polls, was put out of the
    group, and its work was done again elsewhere. Here it runs once, beside a second worker."""

    async def mirror(ctx):
        await rig.clock.sleep(300)
        return "mirrored"

    async with Rig(tmp_path, ONE, partitions=2, stages={"t": mirror}) as rig:
        for name in ("v", "w"):
            rig.start(rig.worker(name))
        await rig.submit()
        view = await rig.view_when(seconds=400)

        assert view.stages["one"].outputs == "mirrored"
        assert rig.ran == [("one", "j")]
        assert await rig.ends() == {("one", 1, 1): 1}


async def test_a_failing_record_is_retried_without_blocking_those_behind_it(tmp_path):
    """DependencyTrack/hyades-apiserver#509: they left Kafka Streams also for want of retries of
    transient errors. Here a record waits for its retry as a row, and the next ones pass it."""
    text = """
    policies:
      patient: {max_attempts: 3, backoff: {strategy: linear, initial: 60, maximum: 600, jitter: false}}
    stages:
      - {name: one, type: t, concurrency: 1, policy: patient}
    """

    def flaky(ctx):
        if ctx.job_id == "flaky" and ctx.attempt < 3:
            raise ConnectionError("the database is down")
        return ctx.attempt

    async with running(Rig(tmp_path, text, stages={"t": flaky})) as rig:
        for job in ("flaky", "a", "b"):
            await rig.submit(job)
        for job in ("a", "b"):
            assert (await rig.view_when(job, seconds=5)).stages["one"].outputs == 1
        assert (await rig.view("flaky")).status == "retrying"
        view = await rig.view_when("flaky", seconds=200)
        assert (view.status, view.stages["one"].outputs) == ("succeeded", 3)
        assert [job for _, job in rig.ran] == ["flaky", "a", "b", "flaky", "flaky"]


async def test_a_scan_is_complete_once_when_all_its_analysers_are(tmp_path):
    """DependencyTrack/hyades-apiserver#637: "scan complete" had to be counted by hand when Kafka
    Streams went. Here a join fires once, though the keeper dies between its arrivals."""
    text = """
    stages:
      - {name: scan, type: t}
      - {name: internal, type: t, depends_on: [scan]}
      - {name: oss, type: t, depends_on: [scan]}
      - {name: snyk, type: slow, depends_on: [scan]}
      - {name: complete, type: t, depends_on: [internal, oss, snyk]}
    """
    gate = asyncio.Event()
    stages = {"t": ok, "slow": released_by(gate)}
    async with Rig(tmp_path, text, stages=stages) as rig:
        await rig.start_both()
        await rig.submit()
        await rig.until(lambda: two_have_arrived(rig))
        await rig.kill(rig.tasks[0], "k")
        gate.set()
        rig.start(await rig.keeper("other"))
        view = await rig.view_when()

        assert view.status == "succeeded"
        assert rig.ran.count(("complete", "j")) == 1
        assert await rig.done() == ["j"]


async def two_have_arrived(rig):
    return len([part for part in await rig.rows() if part.startswith("complete~")]) == 2


# -- poison ---------------------------------------------------------------------------------


async def test_a_record_that_cannot_be_read_ends_no_worker(tmp_path):
    """confluentinc/ksql#6563 and confluentinc/ksql#314: a malformed record crashed the query, again
    after each restart. Here each topic that is read may hold anything: it becomes a dead letter and work goes on."""
    async with running(Rig(tmp_path, ONE, stages={"t": ok})) as rig:
        for topic in (NAMING.intake, NAMING.hold, NAMING.stage("one")):
            await rig.log.publish([Outgoing(topic, b"k", b"\xff\x00 not json", (), 0)])
        await rig.submit()

        assert (await rig.view_when()).status == "succeeded"
        await rig.until(lambda: dead_letters(rig, 3))
        assert [task.done() for task in rig.tasks] == [False, False]


async def dead_letters(rig, count):
    return len(await rig.dead()) == count


async def test_a_dead_letter_is_the_record_as_it_came_and_where_from(tmp_path):
    """apache/kafka#17942: until it there was no dead letter queue at all. Here key, value and
    headers are the original ones, and topic, offset and reason stand beside them."""
    async with running(Rig(tmp_path, ONE, stages={"t": ok})) as rig:
        await rig.submit()
        await rig.view_when()
        bad = Outgoing(NAMING.intake, b"\x01key", b"{torn", (("trace", b"\xfe"),), 0)
        await rig.log.publish([bad])
        await rig.until(lambda: dead_letters(rig, 1))
        (letter,) = await rig.records(NAMING.dead)
        headers = dict(letter.headers)

        assert (letter.key, letter.value, headers["trace"]) == (b"\x01key", b"{torn", b"\xfe")
        assert headers["streams-dlq-topic"] == b"t.p.intake"
        assert headers["streams-dlq-offset"] == b"1"
        assert headers["streams-dlq-reason"]


# -- another topology -----------------------------------------------------------------------


async def test_a_stage_put_in_front_does_not_disturb_jobs_in_flight(tmp_path):
    """apache/kafka#7629: the guide had to say that a changed topology cannot be deployed rolling,
    and needs the reset tool. Here it is applied as it runs; a job ends on the plan it began with."""
    newer = """
    version: 2
    stages:
      - {name: before, type: t}
      - {name: one, type: slow, depends_on: [before]}
      - {name: two, type: t, depends_on: [one]}
    """
    older = TWO.replace("name: one, type: t", "name: one, type: slow")
    gate = asyncio.Event()
    stages = {"t": ok, "slow": released_by(gate)}
    async with Rig(tmp_path, older, stages=stages) as rig:
        rig.start(rig.worker())
        await rig.submit("old")
        await rig.until(lambda: rig.ran == [("one", "old")])
        before = set(await rig.log.topics())
        rig.plans.append(rig.compiled(newer))
        await rig.apply(rig.plans[1])
        await rig.submit("new")
        gate.set()
        old, new = await rig.view_when("old"), await rig.view_when("new")

        assert set(await rig.log.topics()) - before == {"t.p.before"}
        assert list(old.stages) == ["one", "two"]
        assert list(new.stages) == ["before", "one", "two"]
        assert {old.status, new.status} == {"succeeded"}
        assert sorted(stage for stage, job in rig.ran if job == "old") == ["one", "two"]


async def test_two_versions_share_their_groups_and_a_waiting_job_keeps_its_own(tmp_path):
    """SeldonIO/seldon-core#4569: a pipeline could not be updated under its application id; the way
    out was an id for each version. Here both run in the same groups, each job by its own plan."""
    older = "gates: {go: {after: one, until: facts.go}}\n" + TWO
    newer = "version: 2\n" + ONE + "  - {name: three, type: t, depends_on: [one]}\n"
    async with Rig(tmp_path, older, stages={"t": ok}) as rig:
        rig.start(rig.worker())
        await rig.submit("old")
        await rig.view_when("old", "waiting")
        rig.plans.append(rig.compiled(newer))
        await rig.apply(rig.plans[1])
        await rig.submit("new")
        await rig.view_when("new")
        await rig.signal("fact", "old", facts={"go": True})
        await rig.view_when("old")

        assert rig.ran == [("one", "old"), ("one", "new"), ("three", "new"), ("two", "old")]
        assert await rig.log.members(NAMING.pool_group("default")) == ["w"]
        assert await rig.log.members(NAMING.keeper_group) == ["w"]


async def test_a_renamed_stage_needs_no_reset(tmp_path):
    """confluentinc/kafka-tutorials#306: with a node more all generated names moved on, and state got
    new, empty topics. Here names are the author's, and what waits under an old one is done."""
    renamed = "version: 2\n" + ONE.replace("name: one", "name: uno")
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        rig.start(await rig.keeper())
        await rig.submit("old")
        await rig.until(lambda: queued(rig, "one", 1))
        rig.plans.append(rig.compiled(renamed))
        await rig.apply(rig.plans[1])
        await rig.submit("new")
        await rig.until(lambda: queued(rig, "uno", 1))
        rig.start(await rig.agent())
        await rig.view_when("old")
        await rig.view_when("new")

        assert sorted(rig.ran) == [("one", "old"), ("uno", "new")]


async def queued(rig, name, count):
    return len(await rig.records(NAMING.stage(name))) == count


# -- testing --------------------------------------------------------------------------------


def test_a_year_of_waiting_takes_no_time_to_test():
    """DependencyTrack/hyades#50: "testing support is top-notch" is praise to match. Here a gate of
    a year opens at its deadline, in a world without a broker, a thread or a sleep."""
    rule = {"until": "has(facts.go)", "timeout_ms": YEAR * 1000, "on_timeout": "continue"}
    world = World(pipeline(gate("g", "after", **rule), stage("after")))
    world.answers = {"after": Ok("late")}
    world.submit()
    world.later(YEAR - 1)
    assert world.statuses() == {"g": "waiting"}
    world.later(1)

    assert world.statuses() == {"g": "succeeded", "after": "succeeded"}
    assert world.row("g").at == NOW + YEAR * 1000
    assert msgspec.json.decode(world.row("after").out) == "late"
