"""Signals: facts and acts from outside, each carried out at most once."""

import pytest

from streams.engine import intake
from streams.engine.messages import SIGNAL
from streams.engine.rows import decode_fact
from streams.event import Event
from streams.outcome import Retry
from tests.simulation.building import gate, pipeline, stage
from tests.simulation.harness import NOW, World


@pytest.fixture
def world():
    made = World(pipeline(gate("g", "a", until="facts.go == 2"), stage("a")))
    made.submit()
    return made.settle()


def test_a_signal_is_carried_out_once_by_its_id(world):
    """Deduped by id (the last 32)."""
    world.signal("fact", id="same", facts={"x": 1})
    world.signal("fact", id="same", facts={"x": 2})
    world.settle()

    assert world.view().facts == {"x": 1}


def test_the_last_32_ids_are_remembered(world):
    """A bound on the row."""
    for _ in range(40):
        world.signal("fact", facts={"x": 1})
    world.settle()
    assert len(world.job().signals) == 32
    assert world.job().signals[-1] == "signal-40"


def test_a_signal_meant_for_another_epoch_is_answered_and_not_done(world):
    """A retry typed twice must not start two."""
    world.signal("cancel", epoch=2)
    world.settle()

    assert world.view().status == "waiting"
    assert world.job().last_signal == (
        "2027-01-15T08:00:00.000Z cancel: meant for epoch 2, the job is at 1"
    )


def test_a_fact_is_a_row_with_who_and_when(world):
    """Facts are durable and have a history."""
    world.signal("fact", facts={"x": {"y": [1]}}, by="ann")
    world.signal("fact", facts={"x": 3}, by="bob")
    world.settle()
    fact = decode_fact(world.rows()["@fact/x"])

    assert (fact.value, fact.by, fact.at, fact.n) == (3, "bob", NOW, 2)


def test_facts_may_be_set_after_the_end(world):
    """They are a record of what is known, not an act."""
    world.signal("fact", facts={"go": 2})
    world.signal("fact", facts={"late": 1})
    world.settle()
    assert world.view().facts == {"go": 2, "late": 1}


@pytest.mark.parametrize("kind", ["cancel", "release", "reject"])
def test_an_act_on_a_job_that_has_ended_is_answered(world, kind):
    """No act on a state that is not there."""
    world.signal("fact", facts={"go": 2})
    world.settle()
    world.signal(kind, gate="g")
    world.settle()
    assert world.job().status == "SUCCESS"
    assert world.job().last_signal.endswith(f"{kind}: the job has ended")


def test_a_retry_of_a_running_job_is_answered(world):
    """`job-running`."""
    world.signal("retry")
    world.settle()
    assert "job-running" in world.job().last_signal
    assert world.job().epoch == 1


def test_discarding_what_is_not_there_is_answered(world):
    """`discard` ends `part~dead`."""
    world.signal("discard", part="a")
    world.settle()
    assert world.job().last_signal.endswith("discard: nothing to discard")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "V043"),
        (b'{"kind": "explode"}', "V043"),
        (b'{"kind": "fact", "facts": {"1x": 1}}', "V043"),
        (b'{"kind": "fact", "facts": {"a|b": 1}}', "V043"),
    ],
)
def test_a_signal_that_makes_no_sense_is_refused(world, body, code):
    """For the dead letters, with its place."""
    world.intake.append(
        Event("bad", "/x", SIGNAL, body, "application/json", extensions={"job": "j"})
    )
    world.settle()
    assert world.refused == [("bad", code)]


def test_a_pause_is_a_record_of_the_control_topic(world):
    """Pause and resume are durable facts that every worker reads."""
    world.signal("pause", job="", stage="a", by="ann")
    world.settle()
    assert world.control["pause/a"] == b'{"at":1800000000000,"by":"ann","reason":""}'
    world.signal("resume", job="", stage="a")
    world.settle()
    assert world.control["pause/a"] is None


def test_a_jobless_signal_belongs_to_the_state_of_what_it_names():
    """Global facts are turned in one partition only."""

    def scope(body):
        return intake.scope_of(Event("s", "/x", SIGNAL, body, "application/json"))

    assert scope(b'{"kind":"pause"}') == "@pause/*"
    assert scope(b'{"kind":"pause","stage":"a"}') == "@pause/a"
    assert scope(b'{"kind":"fact","facts":{"b":1,"a":2}}') == "@global/a"


def test_a_release_sends_a_delayed_retry_on_at_once():
    """`part~`: due or released."""
    world = World(pipeline(stage("a")), answers={"a": [Retry(600), Retry(600)]})
    world.submit()
    world.settle()
    assert world.view().status == "retrying"
    world.signal("release", part="a")
    world.settle()
    assert [turn for _, _, turn, _ in world.ran] == [1, 2]
