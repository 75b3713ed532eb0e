"""Verdict and plan to actions: what a stage agent writes."""

import msgspec
import pytest

from streams.engine.actions import DeadLetter, Publish, PutRow
from streams.engine.messages import read
from streams.engine.rows import decode_row, is_closing
from streams.outcome import Cancel, Fail, Ok, Retry, Route, Skip
from tests.simulation.building import pipeline, stage
from tests.simulation.harness import World


def step(verdict, **how):
    """Actions of one delivery of `a`, which goes on to `b` (a topic) and `j` (a join)."""
    world = World(pipeline(stage("a", "b", "j"), stage("b"), stage("c", "j"), stage("j")))
    world.answers = {"a": verdict}
    world.asleep = {"a", "c"}
    world.submit()
    world.settle()
    found = []
    world._commit = lambda actions, writer: found.extend(actions)
    world.run("a", **how)
    return found


def said(actions):
    """Actions in short: rows by status, events by topic and type."""
    short = []
    for action in actions:
        match action:
            case PutRow(_, part, data):
                row = decode_row(data)
                short.append((part, row.status, row.taken, is_closing(data)))
            case Publish(topic, _, event):
                short.append((topic, event.type.split(".", 1)[1], read(event).part))
            case DeadLetter():
                short.append(("dead", action.part, action.failure.code))
    return short


@pytest.mark.parametrize(
    ("verdict", "actions"),
    [
        (
            Ok(1),
            [
                ("a", "SUCCESS", ("b", "j"), False),
                ("test.pipe.b", "stage.input.v1", "b"),
                ("test.pipe.hold", "hold.arrive.v1", "j"),
            ],
        ),
        (
            Skip(),
            [
                ("a", "SKIPPED", ("b", "j"), False),
                ("test.pipe.b", "stage.input.v1", "b"),
                ("test.pipe.hold", "hold.arrive.v1", "j"),
            ],
        ),
        (
            Route("b"),
            [("a", "SUCCESS", ("b",), True), ("test.pipe.b", "stage.input.v1", "b")],
        ),
        (
            Route("x"),
            [
                ("a", "FAILED", (), True),
                ("dead", "a", "S040"),
                ("test.pipe.hold", "hold.dead.v1", "a"),
            ],
        ),
        (
            Fail("no", code="S099"),
            [
                ("a", "FAILED", (), True),
                ("dead", "a", "S099"),
                ("test.pipe.hold", "hold.dead.v1", "a"),
            ],
        ),
        (
            Retry(30),
            [("a", "RETRYING", (), False), ("test.pipe.hold", "hold.retry.v1", "a")],
        ),
        (
            Cancel("x"),
            [("a", "CANCELLED", (), True), ("test.pipe.hold", "signal.v1", "@job")],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_verdict_becomes_a_row_and_its_events(verdict, actions):
    """Stage agent, step 5: row and outputs in one transaction."""
    found = step(verdict)
    if isinstance(verdict, Cancel):
        event = found[1].event
        assert msgspec.json.decode(event.data)["kind"] == "cancel"
        assert event.extensions["job"] == "j"
        assert [*said(found[:1]), (found[1].topic, "signal.v1", "@job")] == actions
    else:
        assert said(found) == actions


def test_the_result_of_a_stopped_job_is_dropped():
    """Step 4: the row says CANCELLED, the outputs go nowhere."""
    world = World(pipeline(stage("a", "b"), stage("b")), answers={"a": Ok("lost")})
    world.asleep = {"a"}
    world.submit()
    world.settle()
    work = world.begin("a")
    world.signal("cancel")
    world.settle()
    world.finish(work)

    row = world.row("a")
    assert (row.status, row.taken, bytes(memoryview(row.out))) == ("CANCELLED", (), b"")
    assert "b" not in world.queues


def test_events_have_ids_that_follow_from_their_cause():
    """A delivery done twice makes the same events."""
    ids = [[a.event.id for a in step(Ok(1)) if isinstance(a, Publish)] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_an_output_above_one_kibibyte_is_not_kept_in_the_row():
    """It travels in the events; rows stay small."""
    row = next(decode_row(a.data) for a in step(Ok("x" * 1_023)) if isinstance(a, PutRow))
    assert bytes(memoryview(row.out)) == b""
    row = next(decode_row(a.data) for a in step(Ok("x" * 1_022)) if isinstance(a, PutRow))
    assert len(bytes(memoryview(row.out))) == 1_024
