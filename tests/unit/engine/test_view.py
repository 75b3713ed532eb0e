"""The view of a job: one pure reading of its rows, in every situation a job can be in."""

from streams.engine.routing import park
from streams.engine.rows import Attempt, Failure
from streams.outcome import Fail, Ok, Retry
from streams.topology.plan import Backoff, Policy
from tests.simulation.building import echo, gate, pipeline, stage
from tests.simulation.harness import NOW, World

LINE = pipeline(stage("a", "b"), stage("b", "c"), stage("c"))


def at_work(plan=LINE, *asleep, **answers):
    world = World(plan, answers=answers)
    world.asleep = set(asleep)
    world.submit()
    return world.settle()


def summary(world):
    view = world.view()
    return view.status, view.current_stage, world.statuses()


class TestStatuses:
    def test_a_job_whose_first_stage_has_not_begun_is_queued(self):
        """`queued` where no row is there yet."""
        assert summary(at_work(LINE, "a")) == ("queued", "a", {"a": "queued"})

    def test_a_job_between_two_stages_is_running(self):
        """Work is under way, though nobody holds it this very moment."""
        world = at_work(LINE, "b")
        assert summary(world) == ("running", "b", {"a": "succeeded", "b": "queued"})

    def test_a_stage_that_shows_it_runs_has_a_growing_duration(self):
        """RUNNING row after a second."""
        world = at_work(LINE, "a")
        work = world.begin("a")
        world.now += 1_500
        world.show_running(work)
        world.settle()
        world.now += 500

        assert summary(world) == ("running", "a", {"a": "running"})
        shown = world.view().stages["a"]
        assert (shown.started_at, shown.duration_ms, shown.completed_at) == (NOW, 2_000, None)
        assert shown.attempts == 1

    def test_a_job_that_only_waits_is_waiting(self):
        """At a gate."""
        world = at_work(pipeline(stage("a", "g"), gate("g", until="has(facts.x)")))
        assert summary(world) == ("waiting", "g", {"a": "succeeded", "g": "waiting"})

    def test_a_job_that_waits_here_and_runs_there_is_running(self):
        """One branch is enough."""
        world = at_work(pipeline(gate("g", until="has(facts.x)"), stage("a")), "a")
        assert summary(world) == ("running", "a", {"g": "waiting", "a": "queued"})

    def test_a_job_that_waits_for_a_retry_is_retrying(self):
        """And says until when."""
        world = at_work(LINE, a=Retry(30, "rate limit"))
        assert summary(world) == ("retrying", "a", {"a": "retrying"})
        waiting = world.view().waiting_for
        assert (waiting.kind, waiting.deadline) == ("retry", NOW + 30_000)

    def test_a_delivery_that_no_worker_here_can_run_shows_as_retrying(self):
        """`no-capable-worker`: a parked event without a row of its stage."""
        world = at_work(LINE, "a")
        work = world.begin("a")
        flow = world._flow(work)
        park(
            flow, "a", work.event, work.delivery, work.payload, 5.0,
            attempt=1, reason="no-capable-worker",
        )  # fmt: skip
        world._commit(flow.actions, "agent")
        world.settle()

        assert summary(world) == ("retrying", "a", {"a": "retrying"})
        assert world.view().stages["a"].reason == "no-capable-worker"
        assert world.view().waiting_for.reason == "no-capable-worker"
        world.asleep = set()
        world.later(5)
        assert world.ran[0] == ("a", 1, 2, 1)

    def test_a_failed_job_names_the_stage_that_failed(self):
        """Its dependents were never reached."""
        world = at_work(LINE, b=Fail("no", retriable=False))
        assert summary(world) == (
            "failed", "b", {"a": "succeeded", "b": "failed", "c": "skipped"},
        )  # fmt: skip
        assert world.view().error == Failure("S001", "no")

    def test_what_had_not_ended_when_its_job_did_is_cancelled(self):
        """Also what comes after it."""
        world = at_work(LINE, "a")
        world.signal("cancel")
        world.later(3)
        assert summary(world) == (
            "cancelled", None, {"a": "cancelled", "b": "cancelled", "c": "cancelled"},
        )  # fmt: skip

    def test_a_job_known_only_by_its_snapshot_is_queued(self):
        """A submission that the keeper has not taken yet (`streams get` right after `submit`)."""
        from streams.engine.rows import JobRow, encode
        from streams.engine.view import job_view

        rows = {"@job": encode(JobRow("RUNNING", plan=LINE.digest, created=NOW))}
        view = job_view("j", LINE, rows)
        assert (view.status, view.current_stage, view.created_at) == ("queued", "a", NOW)


class TestTimes:
    def test_attempts_retries_and_durations_are_those_of_the_rows(self):
        """For waterfalls and history."""
        policy = Policy(max_attempts=2, backoff=Backoff("linear", 10, 60, jitter=False))
        world = World(pipeline(stage("a", retry=policy)))

        def slow(work):
            world.now += 400
            return Fail("x", code="S9") if work.delivery.attempt == 1 else Ok({"n": 1})

        world.answers = {"a": slow}
        world.submit()
        world.later(20)
        view, shown = world.view(), world.view().stages["a"]

        assert shown.tries == (
            Attempt(1, NOW, NOW, NOW + 400, "RETRYING", "S9"),
            Attempt(2, NOW + 10_400, NOW + 10_400, NOW + 10_800, "SUCCESS"),
        )
        assert (shown.attempts, shown.retries, shown.outputs) == (2, 1, {"n": 1})
        assert (shown.created_at, shown.started_at) == (NOW, NOW + 10_400)
        assert (shown.completed_at, shown.duration_ms) == (NOW + 10_800, 400)
        assert (view.attempts, view.created_at) == (2, NOW)
        assert (view.completed_at, view.duration_ms) == (NOW + 10_800, 10_800)

    def test_an_open_jobs_duration_grows(self):
        """By the caller's clock."""
        world = at_work(pipeline(gate("g", until="has(facts.x)")))
        world.now += 7_000
        assert world.view().duration_ms == 7_000


class TestMerging:
    def test_a_later_stages_field_wins_in_metadata(self):
        """In plan order, not in order of time."""
        world = at_work(
            LINE,
            a=Ok(metadata={"x": 1, "y": 1}),
            b=Ok(metadata={"x": 2}),
        )
        assert world.view().metadata == {"x": 2, "y": 1}

    def test_parameters_facts_and_identity_are_part_of_the_view(self):
        """What `streams get` prints."""
        world = World(pipeline(echo("e")))
        world.submit(pages=3)
        world.signal("fact", facts={"ok": True})
        world.settle()
        view = world.view()

        assert (view.id, view.pipeline, view.version, view.epoch) == ("j", "pipe", "1", 1)
        assert (view.params, view.facts) == ({"pages": 3}, {"ok": True})
        assert view.plan == world.active

    def test_waits_of_several_kinds_are_explained_side_by_side(self):
        """A gate, a retry and a join that waits for both."""
        world = at_work(
            pipeline(
                gate("g", "j", until="facts.x == 1"), stage("a", "j"), stage("b", "j"), stage("j")
            ),
            a=Retry(30),
        )
        waits = {wait.stage: wait for wait in world.waits()}

        assert {stage: wait.kind for stage, wait in waits.items()} == {
            "g": "gate", "a": "retry", "j": "join",
        }  # fmt: skip
        assert (waits["j"].arrived, waits["j"].missing) == (("b",), ("g", "a"))
        assert waits["g"].clauses[0].text == "facts.x == 1"
