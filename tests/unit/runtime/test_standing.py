"""Health pages tell the truth about a worker (reliability C15, K8-4)."""

import asyncio

import msgspec
import pytest

from streams import Stage, StageMetadata
from streams.clock import SystemClock
from streams.observe.metrics import Metrics
from streams.runtime.pages import Pages
from streams.runtime.standing import STALLED_AFTER
from tests.unit.runtime.rig import Rig

ONE = """
policies: {again: {max_attempts: 3, backoff: {strategy: none}}}
stages: [{name: one, type: t, policy: again}]
"""
GATED = "\ngates: {go: {after: one, until: facts.go}}" + ONE


def ok(_):
    return "ok"


class Probe:
    """Asks the pages of a worker as an orchestrator would."""

    def __init__(self, *workers):
        self.workers = list(workers)
        self.pages = Pages(Metrics(), lambda: self.workers).by_path()

    async def ask(self, path):
        """(status, reasons as (reason, member))."""
        answer = await self.pages[path]({})
        assert answer.content_type == "application/json"
        body = msgspec.json.decode(answer.body)
        assert body["status"] == ("ok" if answer.status == 200 else "unavailable")
        return answer.status, [(r["reason"], r.get("member", "")) for r in body["reasons"]]

    async def ready(self):
        return await self.ask("/readyz")

    async def live(self):
        return (await self.ask("/livez"))[0]


async def until_ready(rig, probe):
    async def is_ready():
        return (await probe.ready())[0] == 200

    await rig.until(is_ready)


async def until_reason(rig, probe, reason):
    async def has_it():
        return any(found == reason for found, _ in (await probe.ready())[1])

    await rig.until(has_it, seconds=200)


async def test_a_worker_is_ready_once_it_has_its_share_and_says_why_before(tmp_path):
    """No traffic, no next step of a rollout, before it can do its part."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        probe = Probe()
        assert await probe.ready() == (503, [("starting", "")])
        assert await probe.ask("/startupz") == (503, [("starting", "")])
        assert await probe.live() == 200

        worker = rig.worker()
        probe.workers = [worker]
        assert await probe.ready() == (503, [("starting", "")])
        rig.start(worker)
        await until_ready(rig, probe)

        assert await probe.ask("/health/ready") == (200, [])
        assert await probe.ask("/health/live") == (200, [])
        assert await probe.ask("/startupz") == (200, [])


async def test_a_worker_that_owns_nothing_by_the_groups_decision_is_ready(tmp_path):
    """More workers than partitions: it waits in reserve, and that is all right."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        first, second = rig.worker("a"), rig.worker("b")
        rig.start(first)
        await until_ready(rig, Probe(first))
        rig.start(second)
        await until_ready(rig, Probe(second))
        await until_ready(rig, Probe(first))

        owned = [w.agents["default"].owned for w in (first, second)]
        assert sorted(map(len, owned)) == [0, 1]


async def test_a_worker_that_leaves_is_not_ready_but_alive(tmp_path):
    """K8-5: unready first, then the drain; a probe must not kill it meanwhile. Startup, once
    over, stays over."""
    gate = asyncio.Event()

    async def slow(_):
        await gate.wait()

    async with Rig(tmp_path, ONE, stages={"t": slow}) as rig:
        worker = rig.worker()
        probe = Probe(worker)
        task = rig.start(worker)
        await until_ready(rig, probe)
        assert (await probe.ask("/startupz"))[0] == 200
        await rig.submit()
        await rig.until(lambda: rig.ran)
        worker.leave()

        assert await probe.ready() == (503, [("draining", "")])
        assert await probe.live() == 200
        assert (await probe.ask("/startupz"))[0] == 200
        gate.set()
        await rig.until(task.done)


async def test_a_log_that_is_away_makes_it_unready_and_leaves_it_alive(tmp_path):
    """K8-4: killing the worker would not bring the log back."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        worker = rig.worker()
        probe = Probe(worker)
        rig.start(worker)
        await until_ready(rig, probe)
        rig.log.down = True
        await until_reason(rig, probe, "log-unreachable")
        await rig.pass_time(STALLED_AFTER * 2)

        assert await probe.ready() == (
            503,
            [("log-unreachable", "pool default"), ("log-unreachable", "coordinator")],
        )
        assert await probe.live() == 200
        rig.log.down = False
        await until_ready(rig, probe)


async def test_a_keeper_that_reads_its_tables_is_not_ready(tmp_path, monkeypatch):
    """Large ledgers take their time; the detail says how far it is."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        first = rig.worker("a")
        task = rig.start(first)
        await rig.submit()
        await rig.view_when()
        first.leave()
        await rig.until(task.done)
        rig.tasks.remove(task)
        worker = rig.worker("b")
        probe = Probe(worker)
        hold = asyncio.Event()
        read = worker.control.wait_until
        asked = []

        async def slowly(end):
            asked.append(end)
            if len(asked) > 1:  # the first one asks for the time
                await hold.wait()
            await read(end)

        monkeypatch.setattr(worker.control, "wait_until", slowly)
        rig.start(worker)
        await until_reason(rig, probe, "restoring")
        assert ("restoring", "coordinator") in (await probe.ready())[1]
        assert await probe.live() == 200
        hold.set()
        await until_ready(rig, probe)


@pytest.mark.parametrize("member", ["pool default", "coordinator"])
async def test_a_loop_that_goes_round_no_more_is_not_alive(tmp_path, monkeypatch, member):
    """C15: the process is there, its port answers, and nothing is done any more."""
    async with Rig(tmp_path, ONE, stages={"t": ok}) as rig:
        worker = rig.worker()
        probe = Probe(worker)
        rig.start(worker)
        await until_ready(rig, probe)

        async def stuck(*_):
            await asyncio.Event().wait()

        who = worker.keeper if member == "coordinator" else worker.agents["default"]
        monkeypatch.setattr(who, "_step" if member == "coordinator" else "_take", stuck)
        await rig.pass_time(STALLED_AFTER - 2)
        assert await probe.live() == 200
        await rig.pass_time(4)

        assert await probe.ask("/livez") == (503, [("stalled", member)])
        assert ("stalled", member) in (await probe.ready())[1]


async def test_an_idle_worker_stays_alive_and_ready(tmp_path):
    """Nothing to do is no fault."""
    async with Rig(tmp_path, GATED, stages={"t": ok}) as rig:
        worker = rig.worker()
        probe = Probe(worker)
        rig.start(worker)
        await until_ready(rig, probe)
        await rig.pass_time(STALLED_AFTER * 3)

        assert await probe.ready() == (200, [])
        assert await probe.live() == 200


async def test_a_stage_that_takes_long_does_not_stall_its_agent(tmp_path):
    """What runs is no concern of the loop."""
    gate = asyncio.Event()

    async def slow(_):
        await gate.wait()

    async with Rig(tmp_path, ONE, stages={"t": slow}) as rig:
        worker = rig.worker()
        probe = Probe(worker)
        rig.start(worker)
        await until_ready(rig, probe)
        await rig.submit()
        await rig.until(lambda: rig.ran)
        await rig.pass_time(STALLED_AFTER * 2)

        assert await probe.live() == 200
        assert (await probe.ready())[0] == 200
        gate.set()


async def test_a_stage_that_does_not_open_makes_the_worker_unready_until_it_does(tmp_path):
    """K8-4: a rollout with a broken model stops at its first worker; a passing fault heals."""

    class Model(Stage):
        tries = 0

        async def open(self):
            Model.tries += 1
            if Model.tries == 1:
                raise RuntimeError("no such file")

        def execute(self, _):
            return "ok"

    rig = Rig(tmp_path, clock=SystemClock())
    rig.registry.register_stage(metadata=StageMetadata("t"), builder=lambda _: Model())
    rig.plans.append(rig.compiled(ONE))
    async with rig:
        worker = rig.worker()
        probe = Probe(worker)
        rig.start(worker)
        await until_reason(rig, probe, "stage-not-open")
        await rig.submit()
        assert (await rig.view_when()).status == "succeeded"

        assert await probe.ready() == (200, [])
