"""Pipelines in Python: one checker with the files, and results that say what came of a run."""

from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict

from streams import ContextSnapshot, Pipeline, RunIdentity, StageContext, StageKind, StageOutput
from streams.authoring.faults import StageRegistryError
from streams.engine.view import StageView
from streams.errors import NotFoundError, UserError
from streams.results import PipelineError, StageResult
from streams.settings import Settings
from streams.stage import Stage, stage
from streams.topology.check import check_text
from streams.topology.findings import TopologyError
from streams.topology.plan import Backoff, Policy


async def nothing(ctx):
    return None


async def fails(ctx):
    raise ValueError("no such page")


@stage
async def count(words: list[str]) -> int:
    return len(words)


class Tokens(Stage):
    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        size: int = 10

    def execute(self, ctx):
        return {"size": ctx.config.size}


def faults(pipeline):
    with pytest.raises(TopologyError) as caught:
        pipeline.build()
    return [(found.code, found.message) for found in caught.value.findings]


def settings(tmp_path):
    return Settings.load({"state_dir": str(tmp_path / ".streams")}, cwd=tmp_path)


class TestBuilding:
    def test_a_pipeline_is_never_changed(self):
        """A shared beginning must not grow with one of its uses."""
        start = Pipeline("p").with_stage("a", nothing)

        start.with_stage("b", nothing)

        assert start.stage_names == ("a",)

    def test_a_repeated_name_is_refused(self):
        """S4: the second one replaced the first in silence."""
        with pytest.raises(UserError, match="has a stage 'a' already") as caught:
            Pipeline("p").with_stage("a", nothing).with_stage("a", fails)

        assert caught.value.code == "J102"

    def test_a_missing_dependency_is_told_with_the_nearest_name(self):
        """S5, by the checker of files: the same code, the line that the file would have."""
        pipeline = Pipeline("p").with_stage("fetch", nothing)
        with pytest.raises(TopologyError) as caught:
            pipeline.with_stage("parse", nothing, dependencies=("fetsh",)).build()

        (found,) = caught.value.findings
        assert (found.code, found.message) == ("T106", "no stage `fetsh`")
        assert found.hint == "did you mean `fetch`?"
        assert (found.file, found.text) == ("Pipeline('p')", "    depends_on: [fetsh]")

    def test_a_cycle_is_told_with_its_path(self):
        """S5."""
        pipeline = (
            Pipeline("p")
            .with_stage("a", nothing, dependencies=("c",))
            .with_stage("b", nothing, dependencies=("a",))
            .with_stage("c", nothing, dependencies=("b",))
        )

        ((code, message),) = faults(pipeline)

        assert code == "T114"
        assert message.startswith("stages wait for each other: a > ")
        assert message.endswith(" > a")

    @pytest.mark.parametrize(
        ("name", "code"), [("done", "T110"), ("…", "T110"), ("x" * 101, "T110"), ("", "T110")]
    )
    def test_a_name_that_cannot_be_an_id_is_refused(self, name, code):
        """Ids make topics and rows."""
        assert code in [found for found, _ in faults(Pipeline("p").with_stage(name, nothing))]

    def test_names_that_differ_only_in_case_are_refused(self):
        """They would share a topic."""
        pipeline = Pipeline("p").with_stage("a", nothing).with_stage("A", nothing)

        assert faults(pipeline) == [("T111", "the ids `a` and `A` differ only in case")]

    def test_an_empty_pipeline_is_refused(self):
        """S5."""
        assert faults(Pipeline("p")) == [("T117", "`stages` must have at least 1 entries")]

    def test_a_dependency_named_twice_is_refused(self):
        """T115."""
        pipeline = Pipeline("p").with_stage("a", nothing)

        assert faults(pipeline.with_stage("b", nothing, dependencies=("a", "a"))) == [
            ("T115", "`a` is listed twice")
        ]

    def test_a_config_that_the_stage_refuses_is_refused(self):
        """T130, as in a file."""
        ((code, message),) = faults(Pipeline("p").with_stage("t", Tokens, config={"sise": 3}))

        assert (code, message) == ("T130", "Extra inputs are not permitted")

    def test_a_config_that_is_no_plain_value_is_refused(self):
        """It stands in the topology."""
        with pytest.raises(UserError, match="config of stage 't'") as caught:
            Pipeline("p").with_stage("t", Tokens, config={"size": object()})

        assert caught.value.code == "J104"

    def test_something_without_execute_is_refused(self):
        """At the line that names it, not when a job arrives."""
        with pytest.raises(StageRegistryError, match=r"stage 'a': int has no execute\(\)"):
            Pipeline("p").with_stage("a", int)

    def test_two_runners_with_one_name_keep_apart(self):
        """Two lambdas, two objects of a class: each stage runs its own."""

        class Says:
            def __init__(self, word):
                self.word = word

            async def execute(self, ctx):
                return self.word

        graph = (
            Pipeline("p")
            .with_stage("one", Says("a"))
            .with_stage("two", Says("b"))
            .with_stage("x", lambda ctx: 1)
            .with_stage("y", lambda ctx: 2)
            .build()
        )

        assert [part.type for part in graph.plan.parts] == ["says", "two", "x", "y"]

    def test_a_function_named_like_a_built_in_kind_is_still_a_function(self):
        """`def run()` is not the kind `run:`, nor is `def echo()` the stage that prints."""

        async def echo(ctx):
            return "mine"

        graph = Pipeline("p").with_stage("say", echo).with_stage("run", echo).build()

        assert [(part.kind, part.type) for part in graph.plan.parts] == [
            ("stage", "say"), ("stage", "say"),
        ]  # fmt: skip

    def test_the_kind_given_is_the_registration_s(self):
        """S2: given, else the class's own, else transform."""

        class Keeps:
            kind = StageKind.WORK

            async def execute(self, ctx): ...

        graph = (
            Pipeline("p")
            .with_stage("a", nothing, "guard")
            .with_stage("b", Keeps)
            .with_stage("c", nothing)
            .build()
        )

        kinds = [graph.registry.resolve(part.type).kind for part in graph.plan.parts]
        assert kinds == [StageKind.GUARD, StageKind.WORK, StageKind.TRANSFORM]


class TestYaml:
    def test_the_file_gives_the_same_plan(self):
        """Design §5: `graph.to_yaml()` gives the same plan."""
        graph = (
            Pipeline("p", version="2026-11-21-rc1", params={"n": "integer"})
            .with_stage("Split", nothing, config={"by": "é\x7f\u2028 # : ", "n": [1, 2.5, None]})
            .with_stage(
                "Count all words", count, dependencies=("Split",), policy="default", retry=2,
                timeout=1.5, condition="params.n > 3", pool="gpu", concurrency=2,
            )
            .with_gate(
                "review", until="facts.reviewed", dependencies=("Count all words",),
                timeout="30m", on_timeout="skip",
            )
            .with_stage(
                "send", nothing, dependencies=("review", "@ledger"),
                policy=Policy(4, 2.0, Backoff("linear", 1.0, 9.0, jitter=False)),
            )
            .build()
        )  # fmt: skip

        plan, findings = check_text(graph.to_yaml(), "p.yaml", graph.registry)

        assert findings == []
        assert plan is not None
        assert plan.digest == graph.plan.digest
        split, counted, review, send = graph.plan.parts
        assert split.config == {"by": "é\x7f\u2028 # : ", "n": [1, 2.5, None]}
        assert (split.path, counted.path) == ("Split", "count-all-words")
        assert counted.retry == Policy(3, 1.5, Backoff("exponential", 0.5, 30.0))
        assert (counted.pool, counted.concurrency, counted.condition) == ("gpu", 2, "params.n > 3")
        assert review.gate is not None
        assert (review.gate.timeout_ms, review.gate.on_timeout) == (1_800_000, "skip")
        assert send.ledger
        assert graph.plan.policies["send"].max_attempts == 4

    def test_stages_without_dependencies_are_independent(self):
        """A file without any `depends_on` runs in its order; a pipeline in Python never does."""
        graph = Pipeline("p").with_stage("a", nothing).with_stage("b", nothing).build()

        assert graph.plan.roots == ("a", "b")

    def test_the_file_is_readable(self):
        """People will keep it."""
        graph = Pipeline("p").with_stage("a", count, dependencies=()).build()

        assert graph.to_yaml() == (
            "pipeline: p\nversion: 1\nstages:\n  - name: a\n    type: count\n    depends_on: []\n"
        )


class TestResults:
    async def test_each_stage_has_its_result_by_the_name_it_was_given(self):
        """S7."""
        graph = (
            Pipeline("p")
            .with_stage("Split words", lambda ctx: ["a", "b"])
            .with_stage("count", count, dependencies=("Split words",))
            .build()
        )

        results = await graph.run()

        assert results.status == "succeeded"
        assert list(results) == ["Split words", "count"]
        assert results.require("count").value == 2
        assert results.raise_for_status() is results

    async def test_a_failed_stage_does_not_raise_by_itself(self):
        """S10: what the others had done must stay readable."""
        graph = (
            Pipeline("p")
            .with_stage("a", lambda ctx: {"n": 1})
            .with_stage("b", fails, dependencies=("a",))
            .with_stage("c", nothing, dependencies=("b",))
            .build()
        )

        results = await graph.run()

        assert (results.status, results.ok, results.failed) == ("failed", False, ("b",))
        assert results["a"].data == {"n": 1}
        assert (results["b"].status, results["b"].data) == ("failed", {})
        assert results["b"].error.message == "ValueError: no such page"
        assert "no such page" in results["b"].error.log
        assert (results["c"].status, results["c"].reason) == ("skipped", "not reached")

    async def test_raising_for_the_status_names_stage_error_and_results(self):
        """S10: the source's error had no results."""
        results = await Pipeline("p").with_stage("b", fails).build().run()

        with pytest.raises(PipelineError, match="stage 'b' failed: ValueError") as caught:
            results.raise_for_status()

        assert (caught.value.stage, caught.value.status) == ("b", "failed")
        assert caught.value.error.code == "S001"
        assert caught.value.results is results

    async def test_a_cancel_names_the_stage_that_asked_for_it(self):
        """S9."""
        graph = (
            Pipeline("p")
            .with_stage("a", lambda ctx: StageOutput.cancel("enough"))
            .with_stage("b", nothing, dependencies=("a",))
            .build()
        )

        results = await graph.run()

        assert results.status == "cancelled"
        with pytest.raises(PipelineError, match="stage 'a' cancelled: enough") as caught:
            results.raise_for_status()
        assert caught.value.stage == "a"

    async def test_requiring_what_did_not_end_well_raises(self):
        """S7."""
        results = await Pipeline("p").with_stage("b", fails).build().run()

        with pytest.raises(PipelineError):
            results.require("b")
        with pytest.raises(NotFoundError, match="no stage 'c'"):
            results.require("c")

    async def test_requiring_what_was_never_reached_tells_what_failed_instead(self):
        """Else its missing value would pass for an answer."""
        graph = Pipeline("p").with_stage("b", fails)
        results = await graph.with_stage("c", nothing, dependencies=("b",)).build().run()

        with pytest.raises(PipelineError, match="stage 'b' failed"):
            results.require("c")

    async def test_a_skipped_stage_counts_as_done(self):
        """S8: downstream still runs."""
        graph = (
            Pipeline("p")
            .with_stage("a", lambda ctx: StageOutput.skip("nothing new"))
            .with_stage("b", lambda ctx: ctx.inputs.has_output("a"), dependencies=("a",))
            .build()
        )

        results = await graph.run()

        assert (results["a"].status, results["a"].reason) == ("skipped", "nothing new")
        assert (results.status, results["b"].value) == ("succeeded", False)

    async def test_results_cannot_be_changed(self):
        """They are shared with whoever catches the error."""
        results = await Pipeline("p").with_stage("a", nothing).build().run()

        with pytest.raises(TypeError):
            results["a"] = None


class TestContext:
    async def test_the_snapshot_given_is_what_stages_see(self):
        """S13: identity, texts and bundles, with their types."""
        user = uuid4()
        snapshot = ContextSnapshot(
            run_id=RunIdentity(user_id=user), input_text="Hello!", execution_mode="practice",
            conversation={"messages": ["hi"]}, params={"n": 1}, data={"doc": "d"},
        )  # fmt: skip
        seen = []

        async def look(ctx):
            seen.append((ctx.snapshot, ctx.job_id, ctx.doc_id))

        results = await Pipeline("p").with_stage("a", look).build().run(snapshot, params={"m": 2})

        ((found, job, _),) = seen
        assert isinstance(found.user_id, UUID)
        assert (found.user_id, found.input_text, found.topology) == (user, "Hello!", "p")
        assert found.conversation == {"messages": ["hi"]}
        assert (dict(found.params), found.data) == ({"n": 1, "m": 2}, {"doc": "d"})
        assert found.pipeline_run_id == job == results.job

    async def test_no_stage_sees_what_another_does_to_its_snapshot_or_inputs(self):
        """W37: downstream appended to upstream's list and changed the metadata others saw."""

        @stage(inline=True)
        def first(ctx: StageContext):
            ctx.snapshot.conversation["messages"].append("first")
            return {"items": [1]}

        def spoil(ctx):
            ctx.inputs.get("items").append(2)
            ctx.snapshot.conversation["messages"].append("spoil")

        def look(ctx):
            return [ctx.inputs.get("items"), ctx.snapshot.conversation["messages"]]

        given = ContextSnapshot(conversation={"messages": []})
        graph = (
            Pipeline("p")
            .with_stage("first", first)
            .with_stage("spoil", spoil, dependencies=("first",))
            .with_stage("look", look, dependencies=("first", "spoil"))
            .build()
        )

        results = await graph.run(given)

        assert results.require("look").value == [[1], []]
        assert given.conversation == {"messages": []}

    async def test_an_input_that_was_not_declared_is_refused(self):
        """S16: also for a stage with no dependencies."""
        graph = (
            Pipeline("p")
            .with_stage("a", nothing)
            .with_stage("b", lambda ctx: ctx.inputs.get_from("a", "x"))
            .build()
        )

        results = await graph.run()

        assert results["b"].error.code == "S015"

    async def test_only_a_snapshot_is_a_context(self):
        """A mapping would be taken for data by one reader and for parameters by another."""
        with pytest.raises(TypeError, match="must be a ContextSnapshot, not dict"):
            await Pipeline("p").with_stage("a", nothing).build().run({})

    async def test_declared_parameters_are_checked(self):
        """As at every submission."""
        graph = Pipeline("p", params={"n": "integer"}).with_stage("a", nothing).build()

        with pytest.raises(UserError) as caught:
            await graph.run(params={"m": 1})

        assert caught.value.code == "P001"

    async def test_a_class_is_made_with_its_config(self):
        """S1: `config{}` passed to the class constructor."""

        class Limit:
            def __init__(self, limit=0):
                self.limit = limit

            def execute(self, ctx):
                return [self.limit, ctx.config["limit"]]

        results = await Pipeline("p").with_stage("a", Limit, config={"limit": 7}).build().run()

        assert results.require("a").value == [7, 7]

    async def test_an_object_keeps_its_own_config(self):
        """The runtime hands every stage its config anew."""
        tokens = Tokens()
        tokens.config = Tokens.Config(size=3)

        results = await Pipeline("p").with_stage("t", tokens).build().run()

        assert results.require("t").value == {"size": 3}


class TestDocument004:
    """The code of document 004 as it stands there, but for its imports."""

    async def test_a_stage(self):
        class MyStage:
            name = "my_stage"
            kind = StageKind.TRANSFORM

            async def execute(self, ctx: StageContext) -> StageOutput:
                # Do work here
                return StageOutput.ok(result="done")

        results = await Pipeline().with_stage("my_stage", MyStage).build().run()

        assert results["my_stage"].data == {"result": "done"}

    @pytest.mark.parametrize(
        ("output", "status"),
        [
            (StageOutput.ok(key="value", another="data"), "succeeded"),
            (StageOutput.skip(reason="condition not met"), "skipped"),
            (StageOutput.cancel(reason="user requested stop"), "cancelled"),
            (StageOutput.fail(error="Something went wrong"), "failed"),
        ],
    )
    async def test_stage_output(self, output, status):
        results = await Pipeline().with_stage("a", lambda ctx: output).build().run()

        assert results["a"].status == status

    async def test_pipelines_building_the_graph_and_data_flow(self):
        class StageA:
            async def execute(self, ctx: StageContext) -> StageOutput:
                return StageOutput.ok(computed_value=42)

        class StageB:
            async def execute(self, ctx: StageContext) -> StageOutput:
                return StageOutput.ok(other=1)

        class StageC:
            async def execute(self, ctx: StageContext) -> StageOutput:
                value = ctx.inputs.get_from("stage_a", "computed_value")
                return StageOutput.ok(doubled=value * 2)

        ctx = None
        pipeline = (
            Pipeline()
            .with_stage("stage_a", StageA, StageKind.TRANSFORM)
            .with_stage("stage_b", StageB, StageKind.TRANSFORM)
            .with_stage(
                "stage_c",
                StageC,
                StageKind.TRANSFORM,
                dependencies=("stage_a", "stage_b"),  # Waits for both
            )
        )
        graph = pipeline.build()
        results = await graph.run(ctx)

        assert results["stage_c"].data == {"doubled": 84}

    async def test_context_snapshot_and_stage_context(self):
        snapshot = ContextSnapshot(
            run_id=RunIdentity(
                pipeline_run_id=uuid4(),
                request_id=uuid4(),
                session_id=uuid4(),
                user_id=uuid4(),
                org_id=uuid4(),
                interaction_id=uuid4(),
            ),
            topology="chat_fast",
            execution_mode="practice",
            input_text="Hello!",
        )

        class Answer:
            async def execute(self, ctx: StageContext) -> StageOutput:
                # Snapshot data is immutable
                user_input = ctx.snapshot.input_text
                user_id = ctx.snapshot.user_id

                # Access upstream outputs
                transcript = ctx.inputs.get("transcript")
                route = ctx.inputs.get_from("router", "route", default="general")

                ctx.try_emit_event("my_stage.started", {"route": route})
                return StageOutput.ok(
                    said=[user_input, str(user_id), transcript, route, ctx.snapshot.topology]
                )

        results = await (
            Pipeline()
            .with_stage("stt", lambda ctx: StageOutput.ok(transcript="hello"), StageKind.TRANSFORM)
            .with_stage("router", lambda ctx: StageOutput.ok(), StageKind.ROUTE)
            .with_stage("answer", Answer, StageKind.AGENT, dependencies=("stt", "router"))
            .build()
            .run(snapshot)
        )

        user = str(snapshot.user_id)
        assert results.require("answer").data["said"] == [
            "Hello!", user, "hello", "general", "chat_fast",
        ]  # fmt: skip


class TestDurable:
    async def test_a_durable_run_gives_the_same_results(self, tmp_path):
        """Design §5: `durable=True` is the same on the embedded log."""
        graph = (
            Pipeline("p")
            .with_stage("a", lambda ctx: {"text": ctx.snapshot.input_text, "n": ctx.params["n"]})
            .with_gate("review", until="facts.reviewed", dependencies=("a",))
            .with_stage("b", lambda ctx: ctx.inputs.get("n") + 1, dependencies=("review",))
            .with_stage("big", lambda ctx: "x" * 60_000)
            .build()
        )

        results = await graph.run(
            ContextSnapshot(input_text="Hello!"), params={"n": 1}, facts={"reviewed": True},
            job="j1", durable=True, settings=settings(tmp_path),
        )  # fmt: skip

        assert (results.job, results.status) == ("j1", "succeeded")
        assert results["a"].value == {"text": "Hello!", "n": 1}
        assert (results["review"].value, results["b"].value) == (None, 2)
        assert results["big"].value == "x" * 60_000

    async def test_a_job_run_again_is_the_same_job(self, tmp_path):
        """What it had finished stays done."""
        calls = []

        def once(ctx):
            calls.append(ctx.job_id)
            return "y" * 2_000

        graph = Pipeline("p").with_stage("a", once).build()
        for _ in range(2):
            results = await graph.run(job="j1", durable=True, settings=settings(tmp_path))

        assert calls == ["j1"]
        assert (results.status, results["a"].value) == ("succeeded", "y" * 2_000)

    async def test_an_output_of_any_size_can_be_read(self, tmp_path):
        """A row holds 1 KiB; what is larger is in the blob store, and travels on as ever."""
        sizes = {"a": 1_022, "b": 1_023, "c": 20_000, "d": 48 * 1024 - 2, "e": 48 * 1024}

        async def fill(ctx):
            return "x" * sizes[ctx.stage_name]

        pipeline = Pipeline("p")
        for name in sizes:
            pipeline = pipeline.with_stage(name, fill)
        graph = pipeline.with_stage(
            "sizes",
            lambda ctx: [len(ctx.inputs.get_output(name)) for name in sizes],
            dependencies=tuple(sizes),
        ).build()

        results = await graph.run(durable=True, settings=settings(tmp_path))

        assert results["sizes"].value == list(sizes.values())
        assert [len(results[name].value) for name in sizes] == list(sizes.values())

    def test_an_output_that_another_worker_did_not_keep_says_so(self):
        """J103: workers keep outputs up to 1 KiB and over 48 KiB."""
        result = StageResult("a", StageView("succeeded"), None)

        with pytest.raises(UserError, match="was not kept") as caught:
            _ = result.value

        assert caught.value.code == "J103"
