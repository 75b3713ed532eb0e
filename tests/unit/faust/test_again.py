"""A delivery that comes a second time writes what it wrote the first time, and runs nothing."""

import msgspec
import pytest

from streams.engine.actions import DeadLetter, Publish, PutRow
from streams.engine.flow import Flow
from streams.engine.messages import origin_of, read
from streams.engine.rows import decode_row
from streams.faust.again import is_done, repeated
from streams.outcome import Cancel, Fail, Ok, Retry, Route, Skip
from streams.topology.plan import Policy
from tests.simulation.building import echo, pipeline, stage
from tests.simulation.harness import NAMING, World


def first_time(verdict, **part):
    """The delivery to `a`, and what followed from it."""
    parts = (stage("a", "b", "j", "e", **part), stage("b"), stage("c", "j"), stage("j"), echo("e"))
    world = World(pipeline(*parts))
    world.answers = {"a": verdict}
    world.asleep = {"a", "c"}
    world.submit()
    world.settle()
    found = []
    world._commit = lambda actions, writer: found.extend(actions)
    work = world.begin("a")
    world.finish(work)
    row = next(decode_row(each.data) for each in found if isinstance(each, PutRow))
    return work, row, found


def second_time(work, row, *, stopped=False):
    flow = Flow(work.plan, NAMING, origin_of(work.delivery), work.started + 9, worker="other")
    return repeated(flow, work, row, Policy(max_attempts=3), stopped=stopped)


def events(actions):
    """Topic, id and data of each event: what makes a repeat the same."""
    told = [(each.topic, read(each.event)) for each in actions if isinstance(each, Publish)]
    return {(topic, event.id, event.data) for topic, event in told}


VERDICTS = [
    Ok({"n": 1}),
    Skip("not today"),
    Route("b"),
    Fail("no", code="S099"),
    Retry(60.0, "busy"),
    Cancel("enough"),
]


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: type(verdict).__name__)
def test_the_same_events_follow_from_the_row(verdict):
    """G2: a repeat carries the ids and the data of the first time, so that nobody acts twice."""
    work, row, first = first_time(verdict)

    second = second_time(work, row)

    assert events(second) == events(first) != set()
    assert [each.part for each in second if isinstance(each, PutRow)] == [
        each.part for each in first if isinstance(each, PutRow)
    ][1:]


def test_a_dead_letter_is_written_again():
    """It may be what the crash had kept from being written."""
    work, row, _ = first_time(Fail("no", code="S099"))

    letters = [each for each in second_time(work, row) if isinstance(each, DeadLetter)]

    assert [(each.part, each.failure.code) for each in letters] == [("a", "S099")]


def test_a_failure_with_attempts_left_is_offered_again():
    """The keeper drops the second `retry` of one delivery: it is known by its id."""
    work, row, first = first_time(Fail("no"), retry=Policy(max_attempts=3))

    assert {each[1] for each in events(second_time(work, row))} == {e[1] for e in events(first)}


def test_nothing_follows_where_the_part_went_on_since():
    """A row of a later turn: what followed from this delivery has been read."""
    work, row, _ = first_time(Ok(1))
    later = msgspec.structs.replace(row, turn=row.turn + 1)

    assert is_done(later, work)
    assert second_time(work, later) == []


def test_a_running_row_is_not_the_end():
    """Written after a second of work; the worker may have died right after."""
    work, row, _ = first_time(Ok(1))

    assert not is_done(msgspec.structs.replace(row, status="RUNNING", phase=1), work)
    assert not is_done(None, work)
    assert is_done(row, work)


def test_a_stopped_job_is_not_cancelled_again():
    """The stop is what cancelled it; a stage that asked for the cancel asks again."""
    work, row, _ = first_time(Cancel("enough"))

    assert second_time(work, row, stopped=True) == []
