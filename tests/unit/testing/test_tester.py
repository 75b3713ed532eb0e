"""The users' test driver: production's code on a log in memory, asked synchronously."""

import asyncio
import gc
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import Pipeline, StageOutput, stage
from streams.errors import NotFoundError, StreamsError, UserError
from streams.event import Event
from streams.stage import BatchStage
from streams.testing import TopologyTester
from streams.topology.findings import TopologyError

GATED = """
pipeline: gated
version: 1
gates:
  review: {after: draft, until: facts.approved == true}
stages:
  - {name: draft, type: draft}
  - {name: send, type: send, depends_on: [draft], policy: default}
"""


def draft(ctx):
    return {"n": ctx.params.get("n", 0)}


def send(drafted):
    return {"sent": drafted["n"] + 1}


STAGES = {"draft": draft, "send": send}


@pytest.fixture
def gated():
    with TopologyTester(GATED, stages=STAGES) as tester:
        yield tester


def one(text, **more):
    """A pipeline of the stages in the text."""
    return TopologyTester(f"pipeline: p\nversion: 1\nstages:\n{text}", **more)


class TestRunning:
    def test_a_job_runs_to_its_gate_and_on_when_its_fact_comes(self, gated):
        assert gated.submit(id="a", params={"n": 4}) == "a"
        gated.run_until_idle()

        assert gated.job("a").status == "waiting"
        assert gated.held("review") == ["a"]
        assert gated.outputs("draft") == {"a": {"n": 4}}

        gated.fact("a", approved=True)
        gated.run_until_idle()

        assert gated.job("a").status == "succeeded"
        assert gated.outputs("send") == {"a": {"sent": 5}}
        assert (gated.held("review"), gated.dlq, gated.done) == ([], [], {"a": "succeeded"})

    def test_nothing_happens_until_the_world_is_run(self, gated):
        """A test arms its failures between submitting and running."""
        gated.submit(id="a")
        for _ in range(50):
            gated.submit()
            gated.share(approved=True)

        assert {view.status for view in gated.jobs()} == {"queued"}
        assert gated.calls == []
        assert (
            gated.why("a")
            == "a is queued at draft (no worker has taken it up yet: run_until_idle())"
        )

    def test_two_workers_share_the_partitions_and_both_work(self, gated):
        """What works with one worker and one partition by accident must not pass here."""
        for n in range(30):
            gated.submit(id=f"job-{n}")
        gated.run_until_idle()

        workers = {rows["draft"].worker for rows in gated.ledger.values()}
        assert workers == {"worker-1", "worker-2"}

    def test_jobs_without_an_id_are_numbered(self, gated):
        assert [gated.submit(), gated.submit()] == ["job-1", "job-2"]

    def test_held_says_in_one_sentence_why(self, gated):
        gated.submit(id="a")
        gated.run_until_idle()

        [held] = gated.held()
        assert (held.job, held.stage, held.gate, held.kind) == ("a", "review", "review", "gate")
        assert (held.since, held.due, held) == (1_800_000_000_000, None, "a")
        assert repr(held).startswith("Held('a', 'waits at gate review until ")
        assert held.why == (
            "waits at gate review until facts.approved == true (`facts.approved` is missing); "
            "it never times out"
        )

    def test_outputs_beyond_what_rows_and_events_hold_are_seen_whole(self):
        """Rows keep 1 KiB; above 48 KiB a value lives in the blob store."""
        for size in (10, 5_000, 100_000):
            with one("  - {name: a, type: a}", stages={"a": "x" * size}) as tester:
                tester.submit(id="j")
                tester.run_until_idle()
                assert tester.outputs("a") == {"j": "x" * size}

    def test_the_events_of_a_topic_are_read_by_its_short_name(self, gated):
        gated.submit(id="a")
        gated.share(approved=True)
        gated.run_until_idle()

        assert [event.type for event in gated.events("done")] == ["interlock.job.done.v1"]
        assert len(gated.events("send")) == len(gated.events("test.gated.send")) == 1


class TestTime:
    def test_a_gate_is_held_across_four_hundred_days_in_milliseconds(self, gated):
        """Issue 4: the clock leaps; nothing polls through the days."""
        gated.submit(id="a")
        gated.run_until_idle()

        before = time.process_time()
        gated.advance(days=400)
        assert time.process_time() - before < 0.5

        assert gated.held("review") == ["a"]
        gated.fact("a", approved=True)
        gated.run_until_idle()
        assert gated.job("a").status == "succeeded"

    def test_time_stands_still_unless_stages_work(self, gated):
        """So that `advance(seconds=9)` means nine seconds."""
        start = gated.now
        gated.submit(id="a")
        gated.run_until_idle()

        assert gated.now == start == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
        assert gated.job("a").created_at == round(start.timestamp() * 1000)

    def test_a_stop_takes_the_seconds_that_it_takes_and_no_more(self):
        """A failure beside a branch that may be running: agents are given time to hear of it."""
        text = "  - {name: a, type: a}\n  - {name: b, type: b}\n  - {name: c, type: b}"

        async def slow(ctx):
            await asyncio.sleep(60)

        with one(text, stages={"a": 1, "b": slow}) as t:
            t.fail_next("a", "at once")
            t.submit(id="j")
            start = t.now
            t.run_until_idle()
            assert t.job("j").status == "failed"
            assert (t.now - start).total_seconds() < 15

    def test_a_sleep_ends_at_its_time_and_not_before(self):
        with one("  - {name: nap, sleep: 10}\n  - {name: a, echo: x, depends_on: [nap]}") as t:
            t.submit(id="j")
            t.advance(seconds=9)
            assert t.why("j") == "j sleeps at nap in 1s"
            t.advance(seconds=1)
            assert t.job("j").status == "succeeded"

    def test_deadlines_come_in_their_order(self):
        """A time-out at the second hour, a sleep of a day behind it, and the purge a week later."""
        with one(
            "  - {name: a, echo: a}\n"
            "  - {name: wait, type: gate, depends_on: [a],"
            " config: {until: facts.go, timeout: 2h, on_timeout: continue}}\n"
            "  - {name: nap, sleep: 1800, depends_on: [wait]}\n"
        ) as t:
            t.submit(id="j")
            t.advance(hours=1, minutes=59)
            assert t.held("wait") == ["j"]
            t.advance(hours=1)
            assert t.job("j").stages["nap"].status == "succeeded"
            ended = t.job("j").completed_at - t.job("j").created_at
            assert ended == (2 * 3600 + 1800) * 1000
            t.advance(days=6, hours=23)
            assert t.job("j").status == "succeeded"
            t.advance(hours=1)
            with pytest.raises(
                NotFoundError, match=r"job `j` ended \(success\) .* was purged"
            ) as e:
                t.job("j")
            assert e.value.code == "U006"

    def test_an_async_stage_that_sleeps_takes_virtual_time(self):
        async def slow(ctx):
            await asyncio.sleep(90)
            return 1

        with one("  - {name: a, type: slow}", stages={"slow": slow}) as t:
            start = t.now
            t.submit(id="j")
            t.run_until_idle()
            assert 90 <= (t.now - start).total_seconds() < 91
            assert t.job("j").stages["a"].duration_ms >= 90_000

    def test_a_time_limit_cuts_a_stage_off(self):
        async def hangs(ctx):
            await asyncio.sleep(1e6)

        with one("  - {name: a, type: hangs, timeout: 1h}", stages={"hangs": hangs}) as t:
            t.submit(id="j")
            t.run_until_idle()
            assert t.job("j").error.code == "S020"

    def test_a_stage_that_never_ends_is_named(self):
        async def hangs(ctx):
            await asyncio.sleep(1e9)

        with one("  - {name: a, type: hangs}", stages={"hangs": hangs}) as t:
            t.submit(id="j")
            with pytest.raises(StreamsError, match=r"no rest after 600 s .* j at a") as never:
                t.run_until_idle()
            assert never.value.code == "U003"

    def test_time_goes_forward_only(self, gated):
        with pytest.raises(UserError) as refused:
            gated.advance(hours=-1)
        assert refused.value.code == "U008"


class TestFailures:
    def test_a_failure_is_retried_by_policy_in_virtual_time(self):
        """Two delays longer than the agent waits in place: each is a durable row."""
        text = (
            "  - {name: a, type: a, policy: slow}\n"
            "policies:\n"
            "  slow: {max_attempts: 3, backoff: {strategy: linear, initial: 30, jitter: false}}\n"
        )
        with one(text, stages={"a": "done"}) as t:
            t.fail_next("a", TimeoutError("no answer"), times=2)
            t.submit(id="j")
            t.run_until_idle()
            assert t.held("a") == ["j"]
            assert t.why("j") == "j tries a again in 30s; last error: TimeoutError: no answer"
            t.advance(seconds=29)
            assert len(t.calls) == 1
            t.advance(seconds=1)
            assert len(t.calls) == 2
            t.advance(minutes=1)
            assert t.job("j").status == "succeeded"
            assert t.job("j").stages["a"].attempts == 3

    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (ValueError, "S001", "ValueError"),
            (KeyError("x"), "S001", "KeyError: 'x'"),
            ("no paper", "S001", "no paper"),
            (StageOutput.fail("broken", code="S777", retriable=False), "S777", "broken"),
        ],
    )
    def test_what_fails_for_good_lies_among_the_dead_letters(self, error, code, message):
        with one("  - {name: a, type: a}", stages={"a": 1}) as t:
            t.fail_next("a", error)
            t.submit(id="j")
            t.run_until_idle()

            [letter] = t.dlq
            assert (letter.stage, letter.job, letter.state) == ("a", "j", "open")
            assert letter.error == message
            assert letter.event.type == "interlock.stage.input.v1"
            assert t.job("j").error.code == code

    def test_a_verdict_may_be_asked_for(self):
        with one("  - {name: a, type: a}", stages={"a": 1}) as t:
            t.fail_next("a", StageOutput.skip("not today"))
            t.fail_next("a", StageOutput.retry(60, "busy"))
            t.submit(id="skipped")
            t.run_until_idle()
            t.submit(id="later")
            t.run_until_idle()
            assert t.job("skipped").stages["a"].status == "skipped"
            assert t.held("a") == ["later"]
            t.advance(minutes=1)
            assert t.job("later").status == "succeeded"

    @pytest.mark.parametrize("kind", ["inline", "batch"])
    def test_inline_and_batch_stages_fail_too(self, kind):
        class Batch(BatchStage):
            def execute_batch(self, ctxs):
                return [1 for _ in ctxs]

        stand_in = Batch if kind == "batch" else stage(type="a", inline=True)(lambda: 1)
        with one("  - {name: a, type: a}", stages={"a": stand_in}) as t:
            t.submit(id="good")
            t.run_until_idle()
            t.fail_next("a", "bad luck")
            t.submit(id="bad")
            t.run_until_idle()
            assert (t.job("good").status, t.job("bad").status) == ("succeeded", "failed")
            assert t.calls == [("good", "a"), ("bad", "a")]

    def test_a_crash_before_the_commit_gives_each_effect_once(self, gated):
        """The work is done twice, since nobody heard of the first time; what follows comes once."""
        for n in range(6):
            gated.submit(id=f"j{n}", params={"n": n})
        gated.run_until_idle()
        gated.crash_before_commit("send")
        gated.share(approved=True)
        gated.run_until_idle()

        assert gated.crashes == 1
        assert gated.done == {f"j{n}": "succeeded" for n in range(6)}
        assert len(gated.events("done")) == 6
        assert gated.outputs("send") == {f"j{n}": {"sent": n + 1} for n in range(6)}
        sent = [job for job, name in gated.calls if name == "send"]
        assert len(sent) > len(set(sent)) == 6

    @pytest.mark.parametrize("stage", [None, "review", "draft"])
    def test_whoever_dies_the_job_goes_on(self, gated, stage):
        """A keeper's commit, the one that enters a gate, and an agent's."""
        gated.crash_before_commit(stage)
        gated.submit(id="a")
        gated.run_until_idle()

        assert gated.crashes == 1
        assert gated.held("review") == ["a"]

    def test_crashes_add_up(self, gated):
        gated.submit(id="a")
        for _ in range(3):
            gated.crash_before_commit()
        gated.run_until_idle()

        assert gated.crashes == 3
        assert gated.held("review") == ["a"]

    @settings(max_examples=15)
    @given(st.lists(st.sampled_from(["draft", "review", "send", None]), max_size=4))
    def test_whoever_dies_and_however_often_every_job_ends_once(self, deaths):
        with TopologyTester(GATED, stages=STAGES) as t:
            for n in range(5):
                t.submit(id=f"j{n}", params={"n": n})
            for stage in deaths:
                t.crash_before_commit(stage)
            t.share(approved=True)
            t.advance(minutes=5)

            ended = [event.subject for event in t.events("done")]
            assert sorted(ended) == ["j0", "j1", "j2", "j3", "j4"]
            assert all(view.status in ("succeeded", "failed") for view in t.jobs())


class TestActing:
    def test_release_and_reject(self, gated):
        gated.submit(id="go")
        gated.submit(id="no")
        gated.run_until_idle()
        gated.release("go", "review", reason="seen")
        gated.reject("no", "review", reason="thin")
        gated.run_until_idle()

        assert (gated.job("go").status, gated.job("no").status) == ("succeeded", "failed")
        assert "rejected by the test: thin" in gated.job("no").error.message

    def test_cancel_and_retry(self, gated):
        gated.submit(id="a")
        gated.run_until_idle()
        gated.cancel("a", reason="wrong file")
        gated.run_until_idle()
        assert gated.job("a").status == "cancelled"

        gated.retry("a")
        gated.run_until_idle()
        assert (gated.job("a").status, gated.job("a").epoch) == ("waiting", 2)

    def test_a_paused_stage_waits_without_holding_the_test_up(self, gated):
        gated.pause("send")
        gated.share(approved=True)
        gated.run_until_idle()
        start = gated.now
        gated.submit(id="a")
        gated.run_until_idle()
        assert gated.job("a").stages["send"].status == "queued"
        assert gated.now == start

        gated.resume("send")
        gated.run_until_idle()
        assert gated.job("a").status == "succeeded"

    def test_dead_letters_are_redriven(self):
        with one("  - {name: a, type: a}", stages={"a": 1}) as t:
            t.fail_next("a", "no paper")
            t.submit(id="j")
            t.run_until_idle()
            assert t.redrive("j") == 1
            t.run_until_idle()
            assert t.job("j").status == "succeeded"
            assert [letter.state for letter in t.dlq] == ["redriven"]
            assert t.redrive() == 0

    def test_a_submission_that_is_refused_says_so_when_its_job_is_looked_for(self):
        with TopologyTester(
            "pipeline: p\nversion: 1\nparams: {n: {type: integer, required: true}}\n"
            "stages: [{name: a, echo: x}]"
        ) as t:
            t.submit(id="j", params={"m": 1})
            t.run_until_idle()
            assert len(t.dlq) == 1
            with pytest.raises(NotFoundError, match="job `j` never began") as missing:
                t.job("j")
            assert missing.value.code == "U006"

    def test_anybodys_event_may_be_sent_as_an_object_or_a_mapping(self, gated):
        event = Event.make(id="e1", source="/shop", type="order.placed", value={"n": 1})
        first = gated.send(event)
        again = gated.send(event)
        second = gated.send({
            "specversion": "1.0", "id": "e2", "source": "/shop", "type": "order.placed",
            "job": "named", "data": {"n": 2},
        })  # fmt: skip
        gated.run_until_idle()

        assert first == again != "named" == second
        assert sorted(gated.held("review")) == sorted([first, "named"])


class TestWhatItTakes:
    def test_several_pipelines_share_one_world(self):
        a = "pipeline: a\nversion: 1\nstages: [{name: x, type: x}]"
        b = "pipeline: b\nversion: 1\nstages: [{name: x, type: x}, {name: y, type: y}]"
        with TopologyTester([a, b], stages={"x": lambda ctx: ctx.pipeline_name, "y": "y"}) as t:
            t.submit("a", id="j")
            t.submit("b", id="j")
            t.send(Event.make(id="1", source="/s", type="acme.b.made", value={}))
            t.run_until_idle()
            assert t.outputs("x", "a") == {"j": "a"}
            assert t.outputs("y") == {view.id: "y" for view in t.jobs("b")}
            assert {"a/j", "b/j"} < t.ledger.keys()
            with pytest.raises(UserError, match="which pipeline") as unclear:
                t.submit(id="k")
            assert unclear.value.code == "U005"
            with pytest.raises(UserError, match="`x` is a stage of a and of b"):
                t.outputs("x")

    def test_two_versions_of_a_pipeline_share_a_world_too(self):
        """New jobs begin with the last one given."""
        versions = [f"pipeline: p\nversion: {n}\nstages: [{{name: a, type: t{n}}}]" for n in (1, 2)]
        with TopologyTester(versions, stages={"t1": "old", "t2": "new"}) as t:
            t.submit(id="j")
            t.run_until_idle()
            assert t.outputs("a") == {"j": "new"}

    def test_a_pipeline_in_python_its_graph_and_its_plan(self):
        pipeline = Pipeline("py").with_stage("a", lambda ctx: 7)
        graph = pipeline.build()
        for source, more in (
            (pipeline, {}),
            (graph, {}),
            (graph.plan, {"registry": graph.registry}),
        ):
            with TopologyTester(source, **more) as t:
                t.submit(id="j")
                t.run_until_idle()
                assert t.outputs("a") == {"j": 7}

    def test_a_file_and_a_folder_without_its_tests_and_settings(self, tmp_path):
        (tmp_path / "p.yaml").write_text(GATED)
        (tmp_path / "p.test.yaml").write_text("tests: []")
        (tmp_path / "streams.yaml").write_text("log_level: error")
        for source in (tmp_path, tmp_path / "p.yaml", str(tmp_path / "p.yaml")):
            with TopologyTester(source, stages=STAGES) as t:
                assert t.submit(id="j") == "j"

    def test_what_is_not_there_and_what_is_wrong_is_said(self, tmp_path):
        with pytest.raises(NotFoundError, match=r"no file or folder nowhere\.yaml") as missing:
            TopologyTester("nowhere.yaml")
        assert missing.value.code == "U001"
        with pytest.raises(NotFoundError, match="no topology in the folder"):
            TopologyTester(tmp_path)
        with pytest.raises(TopologyError, match="unknown field `stagez`"):
            TopologyTester("pipeline: p\nstagez: []\nstages: [{name: a, echo: x}]")

    def test_a_stand_in_is_anything_that_answers(self):
        class Shouts:
            def execute(self, ctx):
                return "HEY"

        for stand_in, answer in (
            (Shouts, None), (Shouts(), "HEY"), ({"plain": 1}, {"plain": 1}), (lambda ctx: 3, 3),
            (stage(type="other")(lambda ctx: 4), 4),
        ):  # fmt: skip
            if answer is None:
                with pytest.raises(UserError) as refused:
                    one("  - {name: a, type: a}", stages={"a": stand_in})
                assert refused.value.code == "U002"
                continue
            with one("  - {name: a, type: a}", stages={"a": stand_in}) as t:
                t.submit(id="j")
                t.run_until_idle()
                assert t.outputs("a") == {"j": answer}

    def test_secrets_come_from_the_test_alone(self, monkeypatch):
        monkeypatch.setenv("STREAMS_SECRET_KEY", "from outside")
        text = '  - {name: a, type: a, config: {key: "${{ secrets.key }}"}}'

        def opens(ctx):
            return len(ctx.config["key"])

        with pytest.raises(UserError, match="needs the secret key") as missing:
            one(text, stages={"a": opens})
        assert missing.value.code == "U007"
        with one(text, stages={"a": opens}, secrets={"key": "for the test"}) as t:
            t.submit(id="j")
            t.run_until_idle()
            assert t.outputs("a") == {"j": 12}

    def test_unknown_names_are_answered_with_the_nearest(self, gated):
        for call in (
            lambda: gated.fail_next("sent", "x"),
            lambda: gated.outputs("sent"),
            lambda: gated.crash_before_commit("sent"),
            lambda: gated.pause("sent"),
        ):
            with pytest.raises(NotFoundError, match="no stage `sent`") as unknown:
                call()
            assert unknown.value.code == "U004"
            assert unknown.value.help.startswith("did you mean `send`? (there are: ")
        with pytest.raises(NotFoundError, match="no stage is of type `sned`") as unknown:
            TopologyTester(GATED, stages={**STAGES, "sned": 1})
        assert (unknown.value.code, unknown.value.help) == ("U010", "did you mean `send`?")
        with pytest.raises(UserError, match="`review` runs no code that could fail"):
            gated.fail_next("review", "x")
        with pytest.raises(NotFoundError, match="no stage or gate `revue`") as unknown:
            gated.held("revue")
        assert unknown.value.help.startswith("did you mean `review`?")
        with pytest.raises(NotFoundError, match="no pipeline `gatd`"):
            gated.submit("gatd")
        with pytest.raises(NotFoundError, match="no topic `dne`"):
            gated.events("dne")
        with pytest.raises(NotFoundError, match="no job `nobody`"):
            gated.job("nobody")

    def test_the_start_of_the_day_may_be_chosen(self):
        start = datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
        with one("  - {name: a, echo: x}", start=start) as t:
            assert t.now == start
            t.advance(minutes=1)
            assert t.now == datetime(2026, 3, 1, tzinfo=UTC)


class TestSurroundings:
    def test_a_sync_stage_may_do_what_it_may_do_in_a_thread(self):
        """In production it has a thread without a loop; `asyncio.run` works there."""

        async def answer():
            return 42

        with one("  - {name: a, type: a}", stages={"a": lambda ctx: asyncio.run(answer())}) as t:
            t.submit(id="j")
            t.run_until_idle()
            assert t.outputs("a") == {"j": 42}

    async def test_it_works_inside_a_running_loop(self, gated):
        """pytest-asyncio's automatic mode makes loops where nobody expects them."""
        gated.submit(id="a")
        gated.run_until_idle()

        assert gated.held("review") == ["a"]
        await asyncio.sleep(0)
        assert asyncio.current_task() is not None

    def test_a_forgotten_tester_closes_itself(self):
        closed = []

        class Closing:
            def execute(self, ctx):
                return 1

            def close(self):
                closed.append(True)

        tester = one("  - {name: a, type: a}", stages={"a": Closing()})
        tester.submit()
        tester.run_until_idle()
        del tester
        gc.collect()

        assert closed

    def test_closing_twice_is_no_error(self, gated):
        gated.close()
        gated.close()

    def test_an_invariant_of_the_run_holds_for_every_seed(self):
        """Another seed is another jitter, not another result."""
        ends = set()
        for seed in range(3):
            with TopologyTester(GATED, stages=STAGES, seed=seed) as t:
                t.fail_next("send", "x", times=2)
                t.submit(id="a")
                t.share(approved=True)
                t.advance(minutes=5)
                ends.add((t.job("a").status, t.job("a").stages["send"].attempts))
        assert ends == {("succeeded", 3)}
