"""A plan in this process: the engine's rules, nothing left behind, no run in another's way."""

import asyncio
import contextvars
import gc
import threading
from collections import Counter

import pytest

from streams.clock import ManualClock, SystemClock
from streams.engine.settle import settle
from streams.errors import UserError
from streams.event import idempotency_key
from streams.outcome import StageOutput
from streams.pipeline import Pipeline
from streams.runtime.inprocess import InProcess
from streams.runtime.inprocess_host import Host
from streams.stage import BatchStage, Stage, StageContext, stage
from streams.topology.plan import Backoff, Edge, Part, Plan, Policy


async def nothing(ctx):
    return None


@stage(type="inline", inline=True)
def inline(ctx: StageContext):
    return None


class Gathering:
    """Stages that wait until so many of them are running."""

    def __init__(self, size):
        self._size = size
        self._here = 0
        self._all = asyncio.Event()

    async def execute(self, ctx):
        self._here += 1
        if self._here == self._size:
            self._all.set()
        await self._all.wait()


async def settled(clock, task):
    """Lets a run go on until it ends or nothing but time would move it."""
    while not task.done():
        for _ in range(20):
            await asyncio.sleep(0)
        if task.done() or clock.next_due() is None:
            return
        clock.advance((clock.next_due() - clock.now()) / 1000)


async def timed(graph, clock, **options):
    """The results, and how long (s) the clock had to be moved on for them."""
    began = clock.now()
    task = asyncio.create_task(graph.run(**options))
    await settled(clock, task)
    return await task, (clock.now() - began) / 1000


def stage_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("stage-")]


class TestScheduling:
    async def test_independent_stages_run_at_once(self):
        """S6: each waits for the other two; one after the other would never end."""
        together = Gathering(3)
        pipeline = Pipeline("p")
        for n in range(3):
            pipeline = pipeline.with_stage(f"s{n}", together)

        async with asyncio.timeout(10):
            results = await pipeline.build().run()

        assert results.status == "succeeded"

    @pytest.mark.parametrize("runner", [nothing, inline, lambda ctx: None])
    async def test_a_diamond_joins_once(self, runner):
        """Async, inline and in threads: one call of the join, after both ways."""
        order = []

        async def last(ctx):
            order.append(ctx.job_id)

        graph = (
            Pipeline("p")
            .with_stage("a", runner)
            .with_stage("b", runner, dependencies=("a",))
            .with_stage("c", runner, dependencies=("a",))
            .with_stage("d", last, dependencies=("b", "c"))
            .build()
        )

        results = await graph.run()

        assert (results.status, len(order)) == ("succeeded", 1)

    async def test_a_route_leaves_the_other_branch_out(self):
        """The join behind both still fires."""
        graph = (
            Pipeline("p")
            .with_stage("pick", lambda ctx: StageOutput.route("left"))
            .with_stage("left", nothing, dependencies=("pick",))
            .with_stage("right", nothing, dependencies=("pick",))
            .with_stage("end", nothing, dependencies=("left", "right"))
            .build()
        )

        results = await graph.run()

        assert [result.status for result in results.values()] == [
            "succeeded", "succeeded", "skipped", "succeeded",
        ]  # fmt: skip

    async def test_a_condition_that_is_false_skips(self):
        """`if`."""
        graph = Pipeline("p").with_stage("a", nothing, condition="params.n > 1").build()

        assert (await graph.run(params={"n": 1})).status == "skipped"
        assert (await graph.run(params={"n": 2})).status == "succeeded"

    async def test_a_batch_stage_works_alone(self):
        """One event a call: the window closes by time."""

        class Embed(BatchStage):
            max_wait = 0.01

            async def execute_batch(self, ctxs):
                return [len(ctxs)] * len(ctxs)

        clock = ManualClock()
        graph = Pipeline("p").with_stage("embed", Embed).build(clock=clock)

        results, _ = await timed(graph, clock)

        assert results.require("embed").value == 1

    async def test_a_stage_that_wants_the_ledger_gets_it(self):
        """`@ledger` as a dependency."""
        graph = (
            Pipeline("p")
            .with_stage("a", lambda ctx: StageOutput.ok(1, metadata={"pages": 3}))
            .with_stage("b", lambda ctx: ctx.ledger["pages"], dependencies=("a", "@ledger"))
            .build()
        )

        assert (await graph.run()).require("b").value == 3


class TestFailing:
    @pytest.mark.parametrize("inline_too", [False, True])
    async def test_a_failed_stage_cancels_running_siblings_and_awaits_them(self, inline_too):
        """W33: siblings kept running as orphans, and wrote after the run had failed."""
        started, log = asyncio.Event(), []

        async def slow(ctx):
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                log.append("stopped")

        async def fails(ctx):
            await started.wait()
            raise ValueError("no")

        pipeline = Pipeline("p").with_stage("slow", slow).with_stage("fails", fails)
        if inline_too:
            pipeline = pipeline.with_stage("quick", inline)

        results = await pipeline.build().run()

        assert log == ["stopped"]
        assert (results.status, results.failed) == ("failed", ("fails",))
        assert results["slow"].status == "cancelled"

    async def test_a_running_thread_is_told_and_awaited(self):
        """A sync stage that looks at `ctx.cancelled`."""
        running, log = threading.Event(), []

        def slow(ctx):
            running.set()
            while not ctx.cancelled:
                pass
            log.append("stopped")

        async def fails(ctx):
            while not running.is_set():
                await asyncio.sleep(0)
            raise ValueError("no")

        graph = Pipeline("p").with_stage("slow", slow).with_stage("fails", fails).build()

        results = await graph.run()

        assert (results.status, log) == ("failed", ["stopped"])
        assert stage_threads() == []

    async def test_a_stage_that_does_not_heed_a_stop_holds_the_run_for_nine_seconds(self):
        """Its result is dropped; the run goes on without it."""
        clock, started = ManualClock(), asyncio.Event()
        ends = asyncio.Event()

        async def stubborn(ctx):
            started.set()
            while not ends.is_set():
                try:
                    await ends.wait()
                except asyncio.CancelledError:
                    continue

        async def fails(ctx):
            await started.wait()
            raise ValueError("no")

        pipeline = Pipeline("p").with_stage("stubborn", stubborn).with_stage("fails", fails)

        results, seconds = await timed(pipeline.build(clock=clock), clock)
        ends.set()

        assert (results.status, seconds) == ("failed", 9.0)
        assert (results["stubborn"].status, results["stubborn"].reason) == (
            "cancelled", "did not heed the stop",
        )  # fmt: skip

    async def test_a_cancel_verdict_stops_the_run(self):
        """S9."""
        started = asyncio.Event()

        async def slow(ctx):
            started.set()
            await asyncio.Event().wait()

        async def asks(ctx):
            await started.wait()
            return StageOutput.cancel("enough")

        pipeline = Pipeline("p").with_stage("slow", slow).with_stage("asks", asks)
        results = await pipeline.with_stage("after", nothing, dependencies=("slow",)).build().run()

        assert (results.status, results.reason) == ("cancelled", "enough")
        assert results["slow"].status == "cancelled"

    async def test_a_stage_that_cannot_be_built_fails_its_job(self):
        """S012, as on a worker."""

        class Broken:
            def __init__(self):
                raise RuntimeError("no driver")

            async def execute(self, ctx): ...

        results = await Pipeline("p").with_stage("a", Broken).build().run()

        assert results["a"].error.code == "S012"
        assert stage_threads() == []

    @pytest.mark.parametrize("waits", [True, False])
    async def test_a_stage_that_cancels_its_own_task_harms_only_itself(self, waits):
        """It runs in a task it shares with what comes after it."""

        async def odd(ctx):
            asyncio.current_task().cancel()
            if waits:
                await asyncio.sleep(0)
            return 1

        async def after(ctx):
            await asyncio.sleep(0)
            return asyncio.current_task().cancelling()

        graph = (
            Pipeline("p")
            .with_stage("odd", odd)
            .with_stage("after", after, dependencies=("odd",))
            .build()
        )

        results = await graph.run()

        if waits:
            assert results["odd"].error.code == "S022"
        else:
            assert results["after"].value == 0


class TestTime:
    async def test_retries_wait_by_the_clock(self):
        """In place up to 2 s, in a row beyond that; both by the engine's own rules."""
        clock, calls = ManualClock(), []

        async def flaky(ctx):
            calls.append(ctx.attempt)
            if ctx.attempt < 4:
                raise ValueError("not yet")
            return ctx.attempt

        policy = Policy(4, None, Backoff("linear", 1.5, 30.0, jitter=False))
        graph = Pipeline("p").with_stage("a", flaky, policy=policy).build(clock=clock)

        results, seconds = await timed(graph, clock)

        assert (results.require("a").value, calls) == (4, [1, 2, 3, 4])
        assert seconds == 1.5 + 3.0 + 4.5
        assert results["a"].attempts == 4

    async def test_a_retry_verdict_spends_no_attempt(self):
        """`retry(after)`."""
        clock, calls = ManualClock(), []

        async def later(ctx):
            calls.append(ctx.attempt)
            return StageOutput.retry(60) if len(calls) < 3 else "now"

        graph = Pipeline("p").with_stage("a", later).build(clock=clock)

        results, seconds = await timed(graph, clock)

        assert (results.require("a").value, calls, seconds) == ("now", [1, 1, 1], 120.0)

    async def test_a_gate_is_opened_by_what_a_stage_writes(self):
        """A gate reads the job's own rows; a stage beside it opens it."""
        graph = (
            Pipeline("p")
            .with_gate("ready", until="metadata.ready == true")
            .with_stage("a", lambda ctx: StageOutput.ok(1, metadata={"ready": True}))
            .with_stage("b", nothing, dependencies=("ready",))
            .build()
        )

        results = await graph.run()

        assert results.status == "succeeded"
        assert results["ready"].metadata["gate.ready.attempts"] == 2

    async def test_a_gate_reads_facts_set_before_the_run(self):
        """`facts=`."""
        graph = Pipeline("p").with_gate("go", until="facts.go == 3").build()

        assert (await graph.run(facts={"go": 3})).status == "succeeded"

    async def test_a_gate_ends_by_its_own_deadline(self):
        """`timeout` and `on_timeout`."""
        clock = ManualClock()
        graph = (
            Pipeline("p")
            .with_gate("go", until="facts.go", timeout="30m", on_timeout="skip")
            .build(clock=clock)
        )

        results, seconds = await timed(graph, clock)

        assert (results["go"].status, seconds) == ("skipped", 1800.0)

    async def test_a_run_with_a_time_limit_is_cancelled_at_its_end(self):
        """A gate that nobody opens would wait for ever."""
        clock = ManualClock()
        graph = Pipeline("p").with_gate("go", until="facts.go").build(clock=clock)

        results, seconds = await timed(graph, clock, timeout=5)

        assert (results.status, results.reason, seconds) == ("cancelled", "deadline passed", 5.0)

    async def test_a_running_stage_is_stopped_by_the_time_limit(self):
        """W34: looked at only when some stage ended."""
        clock = ManualClock()

        async def waits(ctx):
            await asyncio.Event().wait()

        graph = Pipeline("p").with_stage("a", waits).build(clock=clock)

        results, seconds = await timed(graph, clock, timeout=5)

        assert (results.status, seconds) == ("cancelled", 5.0)

    async def test_a_stage_s_own_time_limit_holds(self):
        """S20: per stage."""
        clock = ManualClock()

        async def waits(ctx):
            await asyncio.Event().wait()

        graph = Pipeline("p").with_stage("a", waits, timeout=2).build(clock=clock)

        results, seconds = await timed(graph, clock)

        assert (results["a"].error.code, seconds) == ("S020", 2.0)


class TestCancelledFromOutside:
    async def test_a_cancelled_run_stops_its_stages_and_waits_for_them(self):
        """W34: an external cancel is looked at at once."""
        started, log = asyncio.Event(), []

        async def slow(ctx):
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                log.append("stopped")

        graph = Pipeline("p").with_stage("slow", slow).build()
        task = asyncio.create_task(graph.run())
        await started.wait()

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert log == ["stopped"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_a_run_waiting_at_a_gate_can_be_cancelled(self):
        """Nothing runs that could be told."""
        graph = Pipeline("p").with_gate("go", until="facts.go").build()
        task = asyncio.create_task(graph.run())
        await asyncio.sleep(0)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_a_fault_of_the_runtime_is_raised(self, monkeypatch):
        """A run must not wait for ever for what can no longer come."""
        graph = Pipeline("p").with_stage("a", nothing).build()
        monkeypatch.setattr(InProcess, "_begin", lambda *_: 1 / 0)

        with pytest.raises(ZeroDivisionError):
            await graph.run()


class Counted(Stage):
    """Says when it is opened and closed."""

    def __init__(self):
        self.log = []

    async def open(self):
        self.log.append("open")

    async def close(self):
        self.log.append("close")

    async def execute(self, ctx):
        self.log.append("run")


class TestSeveralRuns:
    async def test_runs_of_one_graph_do_not_disturb_each_other(self):
        """W35: one run's cancel cancelled another, since state lay on the graph."""
        running = asyncio.Semaphore(0)

        async def waits(ctx):
            if ctx.params["n"] % 2:
                running.release()
                await asyncio.Event().wait()
            return ctx.params["n"]

        graph = (
            Pipeline("p")
            .with_stage("a", waits)
            .with_stage("b", nothing, dependencies=("a",))
            .build()
        )
        odd = [asyncio.create_task(graph.run(params={"n": n})) for n in (1, 3)]
        for _ in odd:
            await running.acquire()

        even = await asyncio.gather(*(graph.run(params={"n": n}) for n in range(0, 20, 2)))
        for task in odd:
            task.cancel()
        ended = await asyncio.gather(*odd, return_exceptions=True)

        assert [results.require("a").value for results in even] == list(range(0, 20, 2))
        assert len({results.job for results in even}) == 10
        assert all(isinstance(each, asyncio.CancelledError) for each in ended)

    async def test_a_job_s_id_is_one_run_s_at_a_time(self):
        """Two runs under one id could not be told apart by the stages."""
        gate = asyncio.Event()

        async def waits(ctx):
            await gate.wait()

        graph = Pipeline("p").with_stage("a", waits).build()
        first = asyncio.create_task(graph.run(job="j1"))
        await asyncio.sleep(0)

        with pytest.raises(UserError, match="is being run") as caught:
            await graph.run(job="j1")
        gate.set()
        await first

        assert caught.value.code == "J105"
        assert (await graph.run(job="j1")).job == "j1"

    async def test_stages_are_opened_before_and_closed_after_a_run(self):
        """Nothing stays open that nobody holds."""
        made = Counted()
        graph = Pipeline("p").with_stage("a", made).build()

        await graph.run()
        await graph.run()

        assert made.log == ["open", "run", "close", "open", "run", "close"]

    async def test_a_graph_held_open_keeps_its_stages_open(self):
        """For who runs often."""
        made = Counted()
        graph = Pipeline("p").with_stage("a", made).build()

        async with graph:
            await graph.run()
            await asyncio.gather(graph.run(), graph.run())

        assert made.log == ["open", "run", "run", "run", "close"]

    async def test_a_run_that_begins_while_the_last_one_closes_opens_anew(self):
        """The same stage object is never open twice."""
        made = Counted()
        graph = Pipeline("p").with_stage("a", made).build()
        first = asyncio.create_task(graph.run())
        while "close" not in made.log:
            await asyncio.sleep(0)

        await graph.run()
        await first

        assert made.log == ["open", "run", "close", "open", "run", "close"]

    def test_a_graph_works_in_one_event_loop_after_another(self):
        """Scripts call `asyncio.run` more than once."""
        graph = Pipeline("p").with_stage("a", Counted()).with_stage("b", nothing).build()

        assert [asyncio.run(graph.run()).status for _ in range(2)] == ["succeeded"] * 2

    async def test_no_thread_is_left_behind(self):
        """Sync stages run in threads, which end with the run."""
        graph = Pipeline("p").with_stage("a", lambda ctx: threading.current_thread().name).build()

        results = await graph.run()

        assert results.require("a").value.startswith("stage-")
        assert stage_threads() == []

    async def test_context_variables_do_not_leak_from_stage_to_stage(self):
        """Stages that share a task do not share these."""
        tenant = contextvars.ContextVar("tenant", default="none")

        async def sets(ctx):
            await asyncio.sleep(0)
            tenant.set("acme")

        async def reads(ctx):
            return tenant.get()

        graph = (
            Pipeline("p")
            .with_stage("sets", sets)
            .with_stage("reads", reads, dependencies=("sets",))
            .build()
        )

        assert (await graph.run()).require("reads").value == "none"

    async def test_asyncio_timeout_works_inside_a_stage(self):
        """It is bound to the task the stage runs in."""

        async def waits(ctx):
            try:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            except TimeoutError:
                return "late"

        assert (await Pipeline("p").with_stage("a", waits).build().run()).require(
            "a"
        ).value == "late"


class TestTasks:
    async def test_stages_that_wait_for_nothing_share_one_task(self):
        """A task a stage would cost more than the stage."""
        seen = set()

        async def notes(ctx):
            seen.add(asyncio.current_task())

        pipeline = Pipeline("p").with_stage("a", notes)
        for n in range(20):
            pipeline = pipeline.with_stage(f"s{n}", notes, dependencies=("a",))

        await pipeline.build().run()

        assert len(seen) == 1

    async def test_a_stage_that_waits_keeps_its_task_and_holds_nobody_up(self):
        """What it asked its task for before it waited (a time limit, a group) still holds after."""
        go, tasks = asyncio.Event(), {}

        async def waits(ctx):
            tasks["before"] = asyncio.current_task()
            await go.wait()
            tasks["after"] = asyncio.current_task()

        async def opens(ctx):
            tasks["other"] = asyncio.current_task()
            go.set()

        graph = Pipeline("p").with_stage("waits", waits).with_stage("opens", opens).build()

        async with asyncio.timeout(10):
            await graph.run()

        assert tasks["before"] is tasks["after"]
        assert tasks["other"] is not tasks["before"]

    async def test_many_ends_at_one_join_are_judged_together(self, monkeypatch):
        """A thousand ways into one join must not settle the plan a thousand times."""
        settled = []

        def counted(plan, rows, floor):
            settled.append(plan)
            return settle(plan, rows, floor)

        monkeypatch.setattr("streams.engine.view.settle", counted)
        graph = Pipeline("p").with_stage("x", nothing).build()
        (type,) = graph.registry.stages

        ended = await Host(wide_plan(1000, type), graph.registry, SystemClock()).run({}, None)

        assert ended.end.status == "SUCCESS"
        assert len(settled) < 20


class TestWhatStagesSee:
    async def test_a_context_keeps_what_its_stage_sets(self):
        """Its fields are made when they are looked at; what was set is not made anew."""

        async def sets(ctx):
            ctx.stage_name = "mine"
            return [ctx.stage_name, ctx.job_id, ctx.attempt, len(ctx.idempotency_key)]

        graph = Pipeline("p").with_stage("a", sets).build()

        assert (await graph.run(job="j1"))["a"].value == ["mine", "j1", 1, 36]

    async def test_a_context_has_no_other_attributes(self):
        """As on a worker: a typing error is an error."""

        async def misspelt(ctx):
            return hasattr(ctx, "confg")

        assert (await Pipeline("p").with_stage("a", misspelt).build().run())["a"].value is False

    async def test_the_idempotency_key_is_that_of_a_worker(self):
        """Sinks tell repeats by it, wherever a job is run."""

        async def key(ctx):
            return ctx.idempotency_key

        graph = Pipeline("p").with_stage("a", key).build()
        results = await graph.run(job="j1")

        digest, path = graph.plan.digest, graph.plan.parts[0].path
        assert results["a"].value == idempotency_key("j1", digest, "j1", path, 0)

    async def test_parameters_are_a_stage_s_own(self):
        """Values travel as objects here; a stage that changes one changes nobody else's."""

        async def spoils(ctx):
            ctx.params["names"].append("spoilt")

        async def reads(ctx):
            return ctx.params["names"]

        graph = (
            Pipeline("p")
            .with_stage("spoils", spoils)
            .with_stage("reads", reads, dependencies=("spoils",))
            .build()
        )
        given = {"names": ["a"]}

        results = await graph.run(params=given)

        assert (results["reads"].value, given) == (["a"], {"names": ["a"]})

    async def test_the_ledger_view_is_a_stage_s_own(self):
        """Rows are objects here too."""

        async def spoils(ctx):
            ctx.ledger["metadata"]["tags"].append("spoilt")

        graph = (
            Pipeline("p")
            .with_stage("a", lambda ctx: StageOutput.ok(1, metadata={"tags": ["x"]}))
            .with_stage("b", spoils, dependencies=("a", "@ledger"))
            .build()
        )

        results = await graph.run()

        assert results.status == "succeeded"
        assert results["a"].metadata["tags"] == ["x"]


class TestLargeValues:
    async def test_large_data_and_outputs_pass_through(self):
        """Over 48 KiB a value is in the blob store; here that is memory, emptied after the run."""
        big = "x" * 100_000
        graph = (
            Pipeline("p")
            .with_stage("a", lambda ctx: ctx.inputs.value + "y")
            .with_stage("b", lambda ctx: len(ctx.inputs.value), dependencies=("a",))
            .with_stage("c", nothing, dependencies=("b",), condition="size(data) > 50000")
            .build()
        )

        results = await graph.run(data=big)

        assert results["a"].value == big + "y"
        assert (results["b"].value, results["c"].status) == (100_001, "succeeded")
        assert graph._host.blobs._kept == {}

    @pytest.mark.parametrize("kind", ["echo", "sleep"])
    async def test_a_part_of_the_keeper_s_reads_a_large_value(self, kind):
        """The keeper cannot fetch while it decides: it stops there, and decides again. What it had
        taken in by then, the ways into a join among it, is as it was before."""
        source = Pipeline("p").with_stage("x", lambda ctx: "x" * 60_000).build()
        (type,) = source.registry.stages
        ways = tuple(Part(name, "stage", type, edges=(Edge("k", carry=(name,)),)) for name in "ab")
        joined = Part(
            "k", kind, "", echo="joined", sleep_ms=0, needs=("a", "b"),
            condition="size(stages.a.outputs) > 50000 && size(data) > 50000",
        )  # fmt: skip
        first = Part("e", "echo", "", echo="first", condition="size(data) > 50000")
        host = Host(Plan("p", "1", (first, *ways, joined)), source.registry, ManualClock())

        ended = await asyncio.wait_for(host.run({}, "y" * 60_000), 10)

        assert ended.end.status == "SUCCESS"
        assert {path: each.status for path, each in ended.view.stages.items()} == dict.fromkeys(
            ("e", "a", "b", "k"), "succeeded"
        )

    async def test_data_that_names_a_foreign_blob_is_refused(self):
        """Data comes from outside."""
        data = {"$blob": {"url": "file:///etc/passwd", "size": 1, "sha256": "0" * 64}}
        graph = Pipeline("p").with_stage("a", lambda ctx: ctx.inputs.value).build()

        results = await graph.run(data=data)

        assert results["a"].error.code == "B001"


def runs_alive():
    """Runs that nothing but the garbage collector could free."""
    return [each for each in gc.get_objects() if isinstance(each, InProcess)]


async def test_a_run_is_gone_when_it_is_over():
    """Without the garbage collector: it would come by in the middle of other runs, and a service
    that runs graphs all day would hold what it has not come by for."""
    graph = (
        Pipeline("p")
        .with_stage("a", nothing)
        .with_stage("b", nothing)
        .with_stage("c", nothing, dependencies=("a", "b"))
        .build()
    )
    gc.collect()
    gc.disable()
    try:
        results = await graph.run(data={"n": 1})
        left = runs_alive()
    finally:
        gc.enable()

    assert (results.status, left) == ("succeeded", [])


def wide_plan(width, type):
    ways = tuple(f"s{n}" for n in range(width))
    start = Part("a", "stage", type, edges=tuple(Edge(way) for way in ways))
    middle = [Part(way, "stage", type, needs=("a",), edges=(Edge("z"),)) for way in ways]
    return Plan("p", "1", (start, *middle, Part("z", "stage", type, needs=ways)))


def deep_plan(depth, type):
    names = [f"s{n}" for n in range(depth)]
    parts = [
        Part(
            name, "stage", type, needs=tuple(names[n - 1 : n] if n else ()),
            edges=tuple(Edge(to) for to in names[n + 1 : n + 2]),
        )
        for n, name in enumerate(names)
    ]  # fmt: skip
    return Plan("p", "1", tuple(parts))


@pytest.mark.parametrize("runner", [nothing, inline])
@pytest.mark.parametrize(
    "plan", [lambda type: wide_plan(1000, type), lambda type: deep_plan(1200, type)],
    ids=["1000-wide", "1200-deep"],
)  # fmt: skip
async def test_wide_and_deep_plans_run(plan, runner):
    """W37: 1,200 deep was a RecursionError. The order of ends is not judged here, the end is."""
    graph = Pipeline("p").with_stage("x", runner).build()
    (type,) = graph.registry.stages
    host = Host(plan(type), graph.registry, SystemClock())

    ended = await host.run({}, None)

    assert ended.end.status == "SUCCESS"
    assert len(ended.outputs) == len(host.plan.parts)


async def test_what_waits_for_its_turn_when_the_job_stops_is_not_called():
    """A stop reaches stages in the queue too: they end as cancelled, like what comes after them."""
    called = []

    async def work(ctx):
        called.append(ctx.stage_name)
        return StageOutput.fail("no", retriable=False) if ctx.stage_name == "s0" else None

    graph = Pipeline("p").with_stage("x", work).build()
    (type,) = graph.registry.stages
    clock = ManualClock()
    host = Host(wide_plan(600, type), graph.registry, clock)

    task = asyncio.create_task(host.run({}, None))
    await settled(clock, task)
    ended = await task

    statuses = Counter(each.status for each in ended.view.stages.values())
    assert ended.end.status == "FAILED"
    assert len(called) < 300
    assert statuses == {
        "failed": 1, "succeeded": len(called) - 1, "cancelled": 602 - len(called),
    }  # fmt: skip


async def test_an_inline_line_of_1000_built_in_python_runs():
    """The builder itself is flat too."""
    pipeline, before = Pipeline("p"), ()
    for n in range(1000):
        pipeline = pipeline.with_stage(f"s{n}", inline, dependencies=before)
        before = (f"s{n}",)

    results = await pipeline.build().run()

    assert results.status == "succeeded"
