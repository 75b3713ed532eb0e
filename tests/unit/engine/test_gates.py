"""Gates and sleeps: what holds a job, what lets it go, and what its rows say about it."""

import msgspec
import pytest

from streams.outcome import Ok, Route
from streams.topology.plan import Clause
from tests.simulation.building import echo, gate, pipeline, sleep, stage
from tests.simulation.harness import NOW, World


def held(*parts, **answers):
    """A world whose job has gone as far as it can."""
    world = World(pipeline(*parts), answers=answers)
    world.submit()
    return world.settle()


def at_gate(**rule):
    return held(gate("g", "after", **rule), stage("after"))


class TestConditions:
    def test_a_gate_waits_until_a_fact_of_its_job_makes_it_true(self):
        """The form `until`."""
        world = at_gate(until="facts.approved == true")
        assert world.view().status == "waiting"
        world.signal("fact", facts={"approved": False})
        world.settle()
        assert world.view().status == "waiting"
        world.signal("fact", facts={"approved": True})
        world.settle()

        assert world.statuses() == {"g": "succeeded", "after": "succeeded"}

    def test_a_gate_that_is_true_on_arrival_holds_nobody(self):
        """No WAITING row: at once its end."""
        world = World(pipeline(gate("g", "after", until="params.x > 1"), stage("after")))
        world.submit(x=2)
        world.take_intake()
        world.commit_turn()

        assert [key for key, _ in world.ledger if key == b"j|g"] == [b"j|g"]
        assert world.row("g").status == "SUCCESS"

    def test_a_gate_whose_when_is_false_lets_pass_at_once(self):
        """`when` says whether the gate applies at all."""
        world = at_gate(when="params.big == true", until="has(facts.never)")
        assert world.view().status == "waiting"  # `params.big` is missing: it applies
        world = World(pipeline(gate("g", when="1 > 2", until="has(facts.never)")))
        world.submit()
        world.settle()

        assert world.statuses() == {"g": "succeeded"}
        assert world.row("g").reason == "its `when` is false"

    def test_a_gate_reads_what_stages_wrote_into_the_ledger(self):
        """`metadata.x` is looked up in facts, metadata and the job's own fields."""
        world = held(
            stage("a", "g"),
            gate("g", until="metadata.pages > 3"),
            a=Ok(metadata={"pages": 4}),
        )
        assert world.statuses() == {"a": "succeeded", "g": "succeeded"}

    def test_a_gate_opens_when_a_stage_beside_it_ends(self):
        """K5: a row seen judges exactly the holds of its scope."""
        world = World(pipeline(gate("g", until="stages.a.status == 'SUCCESS'"), stage("a")))
        world.asleep = {"a"}
        world.submit()
        world.settle()
        assert world.statuses() == {"g": "waiting", "a": "queued"}
        world.asleep = set()
        world.settle()

        assert world.view().status == "succeeded"

    def test_a_fact_releases_a_gate_on_a_metadata_field(self):
        """`fact set JOB pdf_ir_ready=true` releases `metadata.pdf_ir_ready`."""
        world = at_gate(clauses=(Clause("pdf_ir_ready", "equals", True),))
        world.signal("fact", facts={"pdf_ir_ready": True})
        world.settle()

        assert world.view().status == "succeeded"

    @pytest.mark.parametrize(
        ("clause", "facts", "opens"),
        [
            (Clause("x", "exists"), {"y": 1}, False),
            (Clause("x", "exists"), {"x": None}, False),
            (Clause("x", "exists"), {"x": 0}, True),
            (Clause("x", "equals", 1), {"x": 2}, False),
            (Clause("x", "equals", 1), {"x": True}, False),
            (Clause("x", "equals", 1), {"x": 1.0}, True),
            (Clause("x.y", "equals", "z"), {"x": {"y": "z"}}, True),
            (Clause("x.y", "equals", "z"), {"x.y": "z"}, True),
            (Clause("status", "equals", "running"), {"y": 1}, True),
            (Clause("x", "changed"), {"y": 1}, False),
            (Clause("x", "changed"), {"x": 1}, True),
        ],
    )
    def test_a_clause_compares_a_field(self, clause, facts, opens):
        """exists, equals without Python's `True == 1`, changed since the first look."""
        world = at_gate(clauses=(clause, Clause("go", "exists")))
        world.signal("fact", facts={**facts, "go": 1})
        world.settle()

        assert (world.view().status == "succeeded") is opens

    def test_changed_compares_with_the_value_kept_in_the_row(self):
        """A keeper that takes over compares with the same value."""
        plan = pipeline(stage("a", "g"), gate("g", clauses=(Clause("x", "changed"),)))
        world = World(plan)
        world.asleep = {"a"}
        world.submit()
        world.signal("fact", facts={"x": 1})
        world.settle()
        world.asleep = set()
        world.settle()
        world.crash_keeper()
        world.settle()
        world.signal("fact", facts={"x": 1})
        world.settle()
        assert world.view().status == "waiting"
        world.signal("fact", facts={"x": 2})
        world.settle()

        assert world.view().status == "succeeded"

    def test_mode_any_needs_one_clause_and_mode_all_every_one(self):
        """Default: all."""
        clauses = (Clause("x", "exists"), Clause("y", "exists"))
        for mode, status in (("any", "succeeded"), ("all", "waiting")):
            world = at_gate(clauses=clauses, mode=mode)
            world.signal("fact", facts={"y": 1})
            world.settle()
            assert world.view().status == status

    def test_a_shared_fact_opens_the_gates_of_all_jobs_that_read_it(self):
        """Global facts are pushed by the index of names, not polled."""
        world = World(pipeline(gate("g", until="facts.open", facts=("open",))))
        world.submit("one")
        world.submit("two")
        world.settle()
        world.signal("fact", job="", facts={"open": True}, **{"global": True})
        world.settle()

        assert world.job("one").status == world.job("two").status == "SUCCESS"
        assert world.facts == {"open": True}

    def test_a_jobs_own_fact_wins_over_the_shared_one(self):
        """The nearer word counts."""
        world = World(pipeline(gate("g", until="facts.open", facts=("open",))))
        world.submit()
        world.signal("fact", facts={"open": False})
        world.signal("fact", job="", facts={"open": True})
        world.settle()

        assert world.view().status == "waiting"


class TestChainsOfGates:
    def test_a_gate_that_opens_another_opens_it_at_once(self):
        """Level-triggered: what one decision changes is judged within the same turn."""
        parts = (
            gate("g1", until="has(facts.go)"),
            gate("g2", until="stages.g1.status == 'SUCCESS'"),
            gate("g0", until="stages.g2.status == 'SUCCESS'"),
        )
        for order in (parts, parts[::-1]):
            world = held(*order)
            world.signal("fact", facts={"go": 1})
            world.settle()
            assert world.view().status == "succeeded"

    @pytest.mark.parametrize("kind", ["release", "reject"])
    def test_a_gate_ended_by_hand_opens_those_that_read_it(self, kind):
        """Not only facts and rows of stages count."""
        world = held(
            gate("b", until="stages.a.status != ''"),
            gate("a", until="has(facts.never)", on_timeout="skip"),
        )
        world.signal(kind, gate="a")
        world.settle()

        assert world.view().status in ("succeeded", "skipped")

    def test_a_sleep_that_ends_opens_the_gate_that_reads_it(self):
        """Time is an input like any other."""
        world = held(gate("g", until="stages.s.status == 'SUCCESS'"), sleep("s", seconds=5))
        world.later(6)

        assert world.view().status == "succeeded"

    def test_a_field_set_by_a_folded_part_opens_the_gate_that_reads_it(self):
        """`sets` of a part that follows a gate in the same step."""
        world = held(
            gate("other", until="metadata.ready == true"),
            gate("g", "e", until="has(facts.go)"),
            echo("e", sets={"ready": True}),
        )
        world.signal("fact", facts={"go": 1})
        world.settle()

        assert world.view().status == "succeeded"

    def test_a_row_read_in_the_turn_that_brought_the_job_to_the_gate_is_shown_to_it(self):
        """The index knows committed holds only; the turn knows its own (`holds_gate`)."""
        world = World(
            pipeline(
                stage("a", "g", "x"), stage("b", "g"), gate("g", until="metadata.ready == true"),
                stage("x"), stage("c", "d"), stage("d"),
            ),
            answers={"a": Route("x"), "c": Ok(metadata={"ready": True})},
        )  # fmt: skip
        world.asleep = {"a", "c", "x", "d"}
        world.submit()
        world.settle()
        world.run("a")
        world.run("c")
        world.read_row()  # the way from `a` is dead: the gate, a join, is entered
        assert "g" not in world.rows()
        world.read_row()  # what the gate waits for
        world.commit_turn()

        assert world.row("g").status == "SUCCESS"


class TestTheRow:
    def test_a_gates_row_counts_looks_and_records_when_it_passed(self):
        """`gate.<name>.attempts`, `passed_at`, `elapsed_seconds`."""
        world = at_gate(until="facts.n == 2")
        world.later(10)
        world.signal("fact", facts={"n": 1})
        world.settle()
        world.later(20)
        world.signal("fact", facts={"n": 2})
        world.settle()

        assert world.view().metadata == {
            "gate.g.attempts": 3,
            "gate.g.passed_at": NOW + 30_000,
            "gate.g.elapsed_seconds": 30.0,
        }

    def test_a_new_owner_does_not_count_its_first_look(self):
        """Restarts must not look like evaluations."""
        world = at_gate(until="facts.n == 2")
        for _ in range(3):
            world.crash_keeper()
            world.settle()
        world.signal("fact", facts={"n": 2})
        world.settle()

        assert world.view().metadata["gate.g.attempts"] == 2

    def test_waits_are_explained_with_the_values_of_the_moment(self):
        """`streams why` says which clause is missing."""
        world = at_gate(clauses=(Clause("x", "exists"), Clause("y", "equals", 1)), timeout_ms=9_000)
        world.signal("fact", facts={"y": 2})
        world.settle()
        (wait,) = world.waits()

        assert (wait.stage, wait.kind, wait.gate, wait.since) == ("g", "gate", "g", NOW)
        assert (wait.due, wait.on_timeout) == (NOW + 9_000, "fail")
        assert [(each.text, each.passed, each.actual) for each in wait.clauses] == [
            ("x exists", False, {}),
            ("y == 1", False, {"y": 2}),
        ]
        waiting = world.view().waiting_for
        assert (waiting.stage, waiting.kind, waiting.gate) == ("g", "gate", "g")


class TestTimeouts:
    def timed_out(self, **rule):
        world = at_gate(until="has(facts.never)", timeout_ms=60_000, **rule)
        world.later(59.9)
        assert world.view().status == "waiting"
        return world.later(0.1)

    def test_fail_is_what_a_timeout_does_unless_told_otherwise(self):
        """G001, a dead letter, and the job is over."""
        world = self.timed_out()

        assert world.statuses() == {"g": "failed", "after": "skipped"}
        assert (world.job().err.code, world.job().err.message) == (
            "G001",
            "gate g timed out after 60 s",
        )
        assert [letter.part for letter in world.dead] == ["g"]

    def test_skip_goes_on_as_if_the_gate_were_not_there(self):
        """A skipped part counts as done."""
        world = self.timed_out(on_timeout="skip")
        assert world.statuses() == {"g": "skipped", "after": "succeeded"}
        assert world.row("g").reason == "timed out"

    def test_continue_goes_on_as_if_it_had_passed(self):
        """With the number of looks, but without `passed_at`."""
        world = self.timed_out(on_timeout="continue")
        assert world.statuses() == {"g": "succeeded", "after": "succeeded"}
        assert world.view().metadata == {"gate.g.attempts": 1, "gate.g.elapsed_seconds": 60.0}

    def test_route_takes_the_way_aside_only(self):
        """`on_timeout: <stage>`."""
        plan = pipeline(
            gate("g", "after", aside="late", until="has(facts.ok)", timeout_ms=1_000),
            stage("after"),
            stage("late"),
        )
        world = World(plan)
        world.submit("slow")
        world.later(2)
        assert world.statuses("slow") == {"g": "succeeded", "after": "skipped", "late": "succeeded"}
        world.submit("fast")
        world.signal("fact", "fast", facts={"ok": 1})
        world.later(2)
        assert world.statuses("fast") == {"g": "succeeded", "after": "succeeded", "late": "skipped"}

    def test_a_gate_that_opened_is_not_timed_out_later(self):
        """First of release and deadline wins; the row's end shuts the other out."""
        world = at_gate(until="has(facts.ok)", timeout_ms=60_000)
        world.signal("fact", facts={"ok": 1})
        world.later(120)

        assert world.view().status == "succeeded"

    def test_a_deadline_that_passed_while_nobody_looked_fires_at_the_takeover(self):
        """All down for days: deadlines fire within 2 s after K1."""
        world = at_gate(until="has(facts.never)", timeout_ms=60_000)
        world.now += 3 * 24 * 3_600_000
        world.crash_keeper()
        world.settle()

        assert world.job().status == "FAILED"

    def test_a_gate_without_a_timeout_waits_for_ever(self):
        """No timeout = waits for ever."""
        world = at_gate(until="has(facts.never)")
        world.later(40 * 24 * 3600)
        assert world.view().status == "waiting"


class TestByHand:
    def test_a_release_lets_the_job_pass_and_names_who_did_it(self):
        """By the gate's name."""
        world = at_gate(until="has(facts.never)")
        world.signal("release", gate="g", by="ann", reason="known good")
        world.settle()

        assert world.view().status == "succeeded"
        assert world.row("g").reason == "released by ann: known good"
        assert world.view().metadata["gate.g.released_by"] == "ann"

    @pytest.mark.parametrize(
        ("rule", "statuses"),
        [
            ("fail", {"g": "failed", "after": "skipped"}),
            ("continue", {"g": "failed", "after": "skipped"}),
            ("skip", {"g": "skipped", "after": "succeeded"}),
        ],
    )
    def test_a_reject_ends_the_wait_as_on_timeout_says_but_never_as_a_success(self, rule, statuses):
        """`reject` by on_timeout."""
        world = at_gate(until="has(facts.never)", on_timeout=rule)
        world.signal("reject", gate="g", by="ann", reason="bad scan")
        world.settle()

        assert world.statuses() == statuses
        if rule == "fail":
            assert world.job().err.code == "G002"
            assert world.job().err.message == "gate g: rejected by ann: bad scan"

    @pytest.mark.parametrize("kind", ["release", "reject"])
    def test_a_gate_where_the_job_does_not_wait_is_an_answer(self, kind):
        """Signals act only on the state they name, else answer in `last_signal`."""
        world = World(pipeline(stage("a", "g"), gate("g", until="has(facts.x)")))
        world.asleep = {"a"}
        world.submit()
        world.signal(kind, gate="g")
        world.signal(kind, part="g")
        world.settle()

        assert world.view().status == "queued"
        assert "g" in world.job().last_signal
        assert "wait" in world.job().last_signal

    def test_a_sleep_may_be_cut_short_but_not_rejected(self):
        """A sleep has no on_timeout that could say what a rejection means."""
        world = held(sleep("s", "a", seconds=600), stage("a"))
        world.signal("reject", part="s")
        world.settle()
        assert world.view().status == "waiting"
        assert "s does not wait at a gate" in world.job().last_signal
        world.signal("release", part="s")
        world.settle()
        assert world.view().status == "succeeded"


class TestSleeps:
    def test_a_sleep_holds_the_job_for_its_length(self):
        """Durable: a row, no timer in a process."""
        world = held(sleep("s", "a", seconds=60), stage("a"))
        assert world.view().status == "waiting"
        assert world.waits()[0].kind == "sleep"
        world.later(59)
        world.crash_keeper()
        world.settle()
        assert world.view().status == "waiting"
        world.later(1)

        assert world.statuses() == {"s": "succeeded", "a": "succeeded"}

    def test_a_sleep_may_be_computed(self):
        """`sleep: ${{ params.pause }}`."""
        part = msgspec.structs.replace(sleep("s"), sleep="params.pause * 2.0")
        world = World(pipeline(part))
        world.submit(pause=3.0)
        world.later(5.9)
        assert world.view().status == "waiting"
        world.later(0.1)
        assert world.view().status == "succeeded"

    @pytest.mark.parametrize("pause", [-1, 1801, "x", None, True])
    def test_a_length_that_is_none_fails_the_sleep(self, pause):
        """X020: a number of seconds from 0 to 1800."""
        world = World(pipeline(msgspec.structs.replace(sleep("s"), sleep="params.pause")))
        world.submit(pause=pause)
        world.settle()

        assert world.job().status == "FAILED"
        assert world.job().err.code == "X020"

    def test_a_condition_that_is_false_skips_gates_and_sleeps(self):
        """`if` on any part."""
        world = held(
            sleep("s", "g", condition="1 > 2"),
            gate("g", until="has(facts.never)", condition="1 > 2"),
        )
        assert world.view().status == "skipped"
