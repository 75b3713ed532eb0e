"""What comes to the keeper: joins, `@ledger` parts, delayed retries, and more than fits in a turn."""

import msgspec

from streams.engine.messages import read
from streams.engine.turn import INLINE_ARRIVALS
from streams.outcome import Fail, Ok, Retry, Route, Skip
from streams.topology.plan import Backoff, Policy
from tests.simulation.building import echo, gate, pipeline, sleep, stage
from tests.simulation.harness import NOW, World


def outputs(work):
    return {path: msgspec.json.decode(r.out) for path, r in work.payload.stages.items()}


class TestJoins:
    def test_a_join_starts_with_the_last_of_its_ways_and_all_their_outputs(self):
        """Fired once, with everything."""
        seen = []
        world = World(pipeline(stage("a", "j"), stage("b", "j"), stage("j")))
        world.answers = {"a": Ok(1), "b": Ok(2), "j": lambda w: seen.append(outputs(w)) or Ok()}
        world.asleep = {"b"}
        world.submit()
        world.settle()
        assert world.statuses() == {"a": "succeeded", "b": "queued", "j": "waiting"}
        (wait,) = world.waits()
        assert (wait.stage, wait.kind, wait.arrived, wait.missing) == ("j", "join", ("a",), ("b",))
        world.asleep = set()
        world.settle()

        assert seen == [{"a": 1, "b": 2}]

    def test_a_join_does_not_wait_for_a_way_that_nobody_takes(self):
        """The dead way's row is closing, so the keeper settles at once."""
        world = World(
            pipeline(stage("a", "x", "j"), stage("b", "j"), stage("x", "y"), stage("y"), stage("j"))
        )
        world.answers = {"a": Route("x")}
        world.asleep = {"x"}
        world.submit()
        world.settle()

        assert ("j", 1, 1, 1) in world.ran
        assert world.statuses() == {
            "a": "succeeded", "b": "succeeded", "x": "queued", "j": "succeeded",
        }  # fmt: skip

    def test_a_join_whose_ways_are_all_dead_is_never_reached(self):
        """And shows as skipped."""
        world = World(pipeline(stage("a", "x", "j"), stage("b", "x", "j"), stage("x"), stage("j")))
        world.answers = {"a": Route("x"), "b": Route("x")}
        world.submit()
        world.settle()

        assert world.statuses()["j"] == "skipped"
        assert world.view().stages["j"].reason == "not reached"
        assert world.job().status == "SUCCESS"

    def test_gates_sleeps_and_echoes_may_be_joins(self):
        """The keeper runs what has no user code."""
        for join in (gate("j", "z", until="has(facts.no)", on_timeout="skip", timeout_ms=1_000),
                     sleep("j", "z", seconds=1), echo("j", "z")):  # fmt: skip
            world = World(pipeline(stage("a", "j"), stage("b", "j"), join, stage("z")))
            world.submit()
            world.later(2)
            assert world.statuses()["z"] == "succeeded"
            assert world.ran.count(("z", 1, 1, 1)) == 1

    def test_a_skipped_way_counts_as_arrived(self):
        """Without an output: null."""
        seen = []
        world = World(pipeline(stage("a", "j"), stage("b", "j"), stage("j")))
        world.answers = {"a": Skip(), "b": Ok(2), "j": lambda w: seen.append(outputs(w)) or Ok()}
        world.submit()
        world.settle()

        assert seen == [{"a": None, "b": 2}]


class TestTheLedgerView:
    def test_a_ledger_stage_gets_facts_metadata_and_stages(self):
        """Upstream → hold → keeper adds the view → stage topic."""
        seen = []
        world = World(pipeline(stage("a", "b"), stage("b", ledger=True)))
        world.answers = {
            "a": Ok({"n": 1}, metadata={"pages": 3}),
            "b": lambda w: seen.append(w.payload.ledger) or Ok(),
        }
        world.asleep = {"a"}
        world.submit()
        world.signal("fact", facts={"ok": True})
        world.settle()
        world.asleep = set()
        world.settle()
        (view,) = seen

        assert view["facts"] == {"ok": True}
        assert view["metadata"]["pages"] == 3
        assert view["pages"] == 3
        assert view["stages"]["a"]["n"] == 1
        assert view["stages"]["a"]["status"] == "SUCCESS"

    def test_a_first_part_may_want_the_ledger(self):
        """It starts by way of the keeper."""
        world = World(pipeline(stage("a", ledger=True)))
        world.submit()
        world.settle()
        assert world.statuses() == {"a": "succeeded"}

    def test_a_retried_ledger_stage_sees_what_came_meanwhile(self):
        """Else a stage that asks again in a while would never find what it waits for."""
        seen = []

        def look(work):
            seen.append(dict(work.payload.ledger["facts"]))
            return Ok() if seen[-1] else Retry(10)

        world = World(pipeline(stage("a", ledger=True)), answers={"a": look})
        world.submit()
        world.settle()
        world.signal("fact", facts={"x": 1})
        world.later(11)
        assert seen == [{}, {"x": 1}]


class TestDelayedRetries:
    def test_a_failure_is_tried_again_after_its_delay(self):
        """Above 2 s: RETRYING, `part~` with the due time, turn 2."""
        policy = Policy(max_attempts=2, backoff=Backoff("linear", 10, 60, jitter=False))
        world = World(pipeline(stage("a", retry=policy)), answers={"a": [Fail("once"), Ok()]})
        world.submit()
        world.settle()
        row, parked = world.row("a"), world.row("a~")
        assert (row.status, row.turn, row.attempt, row.err.message) == ("RETRYING", 1, 1, "once")
        assert (parked.turn, parked.wait.due, parked.wait.event.attempt) == (2, NOW + 10_000, 2)
        assert world.view().status == "retrying"
        assert world.view().waiting_for.deadline == NOW + 10_000
        assert world.waits()[0].kind == "retry"
        world.later(10)

        assert world.ran == [("a", 1, 1, 1), ("a", 1, 2, 2)]
        assert "a~" not in world.rows()
        stage_view = world.view().stages["a"]
        assert (stage_view.attempts, stage_view.retries) == (2, 1)
        assert [each.status for each in stage_view.tries] == ["RETRYING", "SUCCESS"]

    def test_a_short_delay_is_waited_out_in_the_same_turn(self):
        """Up to 2 s in place: no row."""
        policy = Policy(max_attempts=3, backoff=Backoff("none"))
        world = World(
            pipeline(stage("a", retry=policy)), answers={"a": [Fail("x"), Fail("x"), Ok()]}
        )
        world.submit()
        world.settle()

        assert world.ran == [("a", 1, 1, 1), ("a", 1, 1, 2), ("a", 1, 1, 3)]
        assert [key for key, _ in world.ledger].count(b"j|a") == 1
        assert world.view().stages["a"].attempts == 3

    def test_the_verdict_retry_spends_no_attempt(self):
        """However often."""
        policy = Policy(max_attempts=1)
        answers = {"a": [Retry(60), Retry(60), Retry(60), Ok()]}
        world = World(pipeline(stage("a", retry=policy)), answers=answers)
        world.submit()
        world.later(200)

        assert world.ran == [("a", 1, turn, 1) for turn in (1, 2, 3, 4)]
        assert world.view().status == "succeeded"
        assert world.view().stages["a"].retries == 0

    def test_the_last_attempt_fails_the_job(self):
        """Both attempts stand in the row."""
        policy = Policy(max_attempts=2, backoff=Backoff("linear", 10, 60, jitter=False))
        world = World(pipeline(stage("a", retry=policy)), answers={"a": Fail("still")})
        world.submit()
        world.later(30)

        assert world.job().status == "FAILED"
        assert [each.attempt for each in world.row("a").times] == [1, 2]
        assert world.dead[0].attempts == 2

    def test_a_cancel_drops_the_delayed_retry(self):
        """`part~`: WAITING → tombstone by stop."""
        world = World(pipeline(stage("a")), answers={"a": Retry(60)})
        world.submit()
        world.settle()
        world.signal("cancel")
        world.later(100)

        assert "a~" not in world.rows()
        assert len(world.ran) == 1
        assert world.job().status == "CANCELLED"


class TestChains:
    def test_echoes_are_folded_after_agents_and_after_joins(self):
        """Rows in the same transaction, by the same writer."""
        world = World(
            pipeline(stage("a", "e1"), echo("e1", "j"), stage("b", "j"), echo("j", "e2"),
                     echo("e2", "z"), stage("z"))
        )  # fmt: skip
        world.submit()
        world.settle()

        assert world.view().status == "succeeded"
        assert [part for _, part, _ in world.echoes] == ["e1", "j", "e2"]
        assert world.row("e1").worker == "agent"
        assert world.row("e2").worker == "keeper"

    def test_a_chain_longer_than_a_turn_goes_on_through_the_hold_topic(self):
        """At most 64 keeper-run successors in one transaction."""
        count = INLINE_ARRIVALS * 2 + 5
        gates = [gate(f"g{n}", f"g{n + 1}", until="1 < 2") for n in range(count)]
        world = World(pipeline(*gates, gate(f"g{count}", until="1 < 2")))
        world.submit()
        world.take_intake()
        world.commit_turn()
        assert len(world.hold) == 1
        assert read(world.hold[0]).part == f"g{INLINE_ARRIVALS}"
        world.settle()

        assert world.job().status == "SUCCESS"

    def test_a_condition_that_cannot_be_judged_fails_its_part(self):
        """Never "false": the error names the path."""
        for part in (stage("a", condition="params.x > 1"), echo("a", condition="params.x > 1"),
                     sleep("a", condition="params.x > 1")):  # fmt: skip
            world = World(pipeline(part))
            world.submit()
            world.settle()
            assert (world.job().status, world.job().err.code) == ("FAILED", "X004")
            assert "params.x" in world.job().err.message
            assert world.ran == []

    def test_a_condition_that_is_false_skips_the_part_and_goes_on(self):
        """`if` false → SKIPPED with all edges taken."""
        world = World(
            pipeline(stage("a", "b", "c", condition="params.v == 2"), stage("b"), echo("c"))
        )
        world.submit(v=1)
        world.settle()

        assert world.statuses() == {"a": "skipped", "b": "succeeded", "c": "succeeded"}
        assert world.view().stages["a"].reason == "if is false"
        assert world.ran == [("b", 1, 1, 1)]
