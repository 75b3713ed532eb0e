"""Submissions: one job for each id, whatever comes twice, too early or from a stranger."""

import msgspec
import pytest

from streams.engine import intake
from streams.engine.messages import SIGNAL, SUBMIT
from streams.errors import EventError
from streams.event import Event
from streams.topology.plan import Param
from tests.simulation.building import gate, pipeline, stage
from tests.simulation.harness import NOW, World


def waiting_world():
    return World(pipeline(gate("g", "a", until="has(facts.go)"), stage("a")))


def foreign(id="e1", data=b'{"x": 5}', type="com.example.created", **more):
    return Event(
        id=id, source="/shop", type=type, data=data, datacontenttype="application/json", **more
    )


class TestOnce:
    def test_the_same_submission_twice_is_one_job(self):
        """Dedupe by (source, id): a re-send is dropped in silence."""
        world = waiting_world()
        world.submit(x=1)
        world.submit(x=1)
        world.settle()

        assert world.refused == []
        assert len([key for key, _ in world.ledger if key == b"j|@input"]) == 1

    def test_a_job_id_with_another_body_is_a_conflict(self):
        """`id-conflict`: V040, never a second run, never a silent drop."""
        world = waiting_world()
        world.submit(x=1)
        world.submit(x=2, id="other")
        world.settle()

        assert world.refused == [("other", "V040")]
        assert world.view().params == {"x": 1}

    def test_a_foreign_event_is_a_job_named_by_its_source_and_id(self):
        """CE-2: source + id name an event."""
        event = foreign()
        world = waiting_world()
        world.intake += [event, event]
        world.settle()
        (job,) = world.truth.scopes()

        assert job == intake.scope_of(event)
        assert world.view(job).params == {}
        assert world.view(job).status == "waiting"


class TestTheSnapshot:
    def test_parameters_are_bound_once_and_frozen(self):
        """Defaults come from the plan the job begins with."""
        plan = pipeline(
            stage("a"),
            params=(Param("n", "integer", required=True), Param("mode", default="fast")),
        )
        world = World(plan)
        world.submit(n="4")
        world.settle()
        assert world.view().params == {"n": 4, "mode": "fast"}

    def test_a_submission_without_a_required_parameter_is_refused(self):
        """The error names the parameter; nothing of the job is left behind."""
        world = World(pipeline(stage("a"), params=(Param("n", "integer", required=True),)))
        world.submit()
        world.settle()

        assert world.refused == [("j", "P002")]
        assert world.rows() == {}

    def test_declared_parameters_are_found_in_a_foreign_events_data(self):
        """Strangers do not know our envelope."""
        world = World(pipeline(stage("a"), params=(Param("x", "integer", required=True),)))
        event = foreign(data=b'{"x": 5, "other": true}')
        world.intake.append(event)
        world.settle()

        assert world.view(intake.scope_of(event)).params == {"x": 5}

    def test_a_job_keeps_the_plan_it_began_with(self):
        """Two plans of a pipeline side by side."""
        old, new = pipeline(gate("g", "a", until="has(facts.go)"), stage("a")), pipeline(stage("b"))
        world = World(old, new)
        world.submit("one")
        world.settle()
        world.active = new.digest
        world.submit("two")
        world.signal("fact", "one", facts={"go": 1})
        world.settle()

        assert world.statuses("one") == {"g": "succeeded", "a": "succeeded"}
        assert world.statuses("two") == {"b": "succeeded"}

    def test_a_deadline_of_the_submission_wins_over_the_plans(self):
        """Given as an absolute time."""
        plan = pipeline(gate("g", until="has(facts.go)"), deadline_ms=60_000)
        world = World(plan)
        body = msgspec.json.encode({"deadline": NOW + 5_000})
        world.intake.append(foreign(type=SUBMIT, data=body, extensions={"job": "j"}))
        world.later(6)

        assert world.job().status == "CANCELLED"


class TestRefused:
    @pytest.mark.parametrize("job", ["a|b", "@global/x", "@pause/*", "a b", "x" * 129, "a/each[1]"])
    @pytest.mark.parametrize("type", [SUBMIT, SIGNAL])
    def test_an_id_that_would_break_addresses_is_refused(self, job, type):
        """Keys are `scope|part`; a stranger's signal may not make such a scope either."""
        event = foreign(type=type, data=b'{"kind": "fact"}', extensions={"job": job})
        with pytest.raises(EventError) as caught:
            intake.scope_of(event)
        assert caught.value.code == "V042"

    def test_what_only_the_engine_may_say_is_taken_off(self):
        """E11: a stranger cannot forge scope or epoch."""
        event = foreign(extensions={"scope": "other", "epoch": "9", "tenant": "t", "mine": "x"})
        assert intake.clean(event).extensions == {"mine": "x"}

    def test_a_submission_that_is_not_json_is_refused(self):
        """V041."""
        world = waiting_world()
        event = foreign(type=SUBMIT, data=b"{", extensions={"job": "j"})
        world.intake.append(event)
        world.settle()
        assert world.refused == [("e1", "V041")]


class TestEarlySignals:
    def test_a_signal_that_overtakes_its_submission_is_carried_out_with_it(self):
        """It may overtake a forwarded submit."""
        world = waiting_world()
        world.signal("fact", facts={"go": 1})
        world.settle()
        assert list(world.rows()) == ["@early/signal-1"]
        world.submit()
        world.settle()

        assert world.view().status == "succeeded"
        assert world.view().facts == {"go": 1}
        assert not [part for part in world.rows() if part.startswith("@early")]

    def test_early_signals_are_carried_out_in_the_order_they_came(self):
        """The last value of a fact counts."""
        world = waiting_world()
        for value in range(12):
            world.signal("fact", facts={"x": value})
        world.submit()
        world.settle()
        assert world.view().facts == {"x": 11}

    def test_an_early_cancel_ends_the_job_as_soon_as_it_comes(self):
        """The job is there, cancelled, and its submission is a duplicate from then on."""
        world = World(pipeline(stage("a")))
        world.signal("cancel", reason="too late")
        world.submit()
        world.later(3)

        assert world.job().status == "CANCELLED"
        assert world.ran == []

    def test_a_signal_whose_job_never_comes_is_dead_after_an_hour(self):
        """`unknown-job`: V046."""
        world = waiting_world()
        world.signal("fact", facts={"go": 1})
        world.later(3_599)
        assert world.refused == []
        world.later(2)

        assert world.refused == [("signal-1", "V046")]
        assert world.rows() == {}

    def test_a_hundred_signals_wait_for_an_unknown_job_and_no_more(self):
        """A bound on what a stranger can make the keeper hold."""
        world = waiting_world()
        for _ in range(101):
            world.signal("fact", facts={"x": 1})
        world.settle()
        assert world.refused == [("signal-101", "V045")]

    def test_an_early_signal_told_twice_is_kept_once(self):
        """Deduped by id before the job is there, too."""
        world = waiting_world()
        world.signal("fact", id="one", facts={"x": 1})
        world.signal("fact", id="two", facts={"x": 2})
        world.signal("fact", id="one", facts={"x": 1})
        world.submit()
        world.settle()

        assert world.view().facts == {"x": 2}
