"""Every line of the table of transitions can happen, and every one is needed.

A fixed set of small stories in the engine harness. Each change they make is held against the table
by the harness itself; here the table is held against the changes.
"""

import pytest

from streams.engine.transitions import TRANSITIONS, is_legal
from streams.outcome import Cancel, Fail, Ok, Retry, Skip
from streams.topology.plan import Backoff, Policy
from tests.simulation.building import echo, fault, gate, pipeline, sleep, stage
from tests.simulation.harness import World

DAY = 24 * 3600
NO = Fail("no", retriable=False)


def begun(*parts, asleep=(), answers=None, params=None, **more):
    world = World(pipeline(*parts, **more), answers=answers)
    world.asleep = set(asleep)
    world.submit(**(params or {}))
    return world.settle()


def again(world, start="", **answers):
    """The job is retried, and comes to rest."""
    world.answers.update(answers)
    world.signal("retry", **{"from": start})
    return world.later(15)


def gone(world):
    """The job's rows are purged."""
    world.later(31 * DAY)
    assert world.rows() == {}
    return world


# -- stages ---------------------------------------------------------------------------------


def every_verdict(*, shown):
    """Each end of a stage, in its first turn and in a later one; then the purge."""
    for verdict in (Ok(), Skip(), NO, Cancel("enough"), Retry(5)):
        world = World(pipeline(stage("a")), answers={"a": [verdict, Ok()]})
        world.submit()
        world.take_intake()
        world.commit_turn()
        work = world.begin("a")
        if shown:
            world.show_running(work)
            world.show_running(work)
        world.finish(work)
        world.later(15)
        yield gone(world)


def a_stage_seen_to_stop():
    """Cancelled while it runs, shown or not."""
    for shown in (False, True):
        world = World(pipeline(stage("a")))
        world.submit()
        world.take_intake()
        world.commit_turn()
        work = world.begin("a")
        if shown:
            world.show_running(work)
        world.signal("cancel")
        world.settle()
        world.finish(work)
        yield gone(world)


def a_stage_cut_off():
    """It never stops: its row still shows RUNNING when the job is purged."""
    world = World(pipeline(stage("a")))
    world.submit()
    world.take_intake()
    world.commit_turn()
    world.show_running(world.begin("a"))
    world.settle()
    world.signal("cancel")
    world.later(11)
    yield gone(world)


def a_second_turn(verdict, *, shown=False):
    world = World(pipeline(stage("a")), answers={"a": [Retry(5), verdict, Ok()]})
    world.submit()
    world.settle()
    world.asleep = {"a"}
    world.later(5)
    work = world.begin("a")
    if shown:
        world.show_running(work)
    world.finish(work)
    world.asleep = set()
    return gone(world.later(15))


def a_stage_in_a_later_turn():
    """What stood in the turn before is overwritten by each of its ends."""
    for verdict in (Ok(), Skip(), NO, Cancel("enough"), Retry(5)):
        yield a_second_turn(verdict)
    yield a_second_turn(Ok(), shown=True)


def a_stage_cancelled_while_it_waits_for_its_retry():
    """`part~` goes with the job, RETRYING stays until the purge."""
    world = begun(stage("a"), answers={"a": Retry(60)})
    world.signal("cancel")
    yield gone(world.later(15))


# -- parts without user code ----------------------------------------------------------------


def folded_parts():
    """Behind a stage (its agent writes them) and behind a gate (the keeper does), twice."""
    tails = {
        "success": [echo("e")],
        "skipped": [echo("e", condition="false")],
        "failed": [fault("e")],
    }
    for tail in tails.values():
        world = begun(stage("a", "e"), *tail)
        yield gone(again(world, "a"))
        world = begun(gate("g", "e", until="facts.go"), *tail)
        world.signal("fact", facts={"go": True})
        yield gone(again(world.settle(), "g"))


# -- gates and sleeps -----------------------------------------------------------------------


def gates_that_hold():
    """Released, timed out by each rule, stopped; then entered again by a retry."""
    world = begun(gate("g", until="facts.go"))
    for value in (False, True):
        world.signal("fact", facts={"go": value})
        world.settle()
    yield gone(again(world, "g"))
    for rule in ("skip", "fail"):
        world = begun(gate("g", until="facts.go", timeout_ms=900, on_timeout=rule)).later(1)
        yield gone(again(world, "g"))
    world = begun(gate("g", until="facts.go"))
    world.signal("cancel")
    again(world.later(3), "g")
    world.signal("cancel")
    yield gone(world.later(3))


def gates_that_hold_nobody():
    """At once their end, in the first turn and after a retry."""
    yield gone(again(begun(gate("g", until="true")), "g"))
    yield gone(again(begun(sleep("s", condition="false")), "s"))
    yield gone(again(begun(sleep("s", condition="params.x > 1"))))


# -- joins ----------------------------------------------------------------------------------


def joins():
    """All arrive and it fires; or the job is over before the second one comes."""
    yield gone(begun(stage("a", "j"), stage("b", "j"), stage("j")))
    world = begun(stage("a", "j"), stage("b", "j"), stage("j"), asleep={"b"})
    world.signal("cancel")
    yield gone(world.later(15))


# -- the job --------------------------------------------------------------------------------


def jobs():
    """Each end, a signal after it, a retry, the purge."""
    for verdict in (Ok(), Skip(), NO, Cancel("enough")):
        world = begun(stage("a"), answers={"a": verdict}).later(15)
        world.signal("release", gate="g")
        world.settle()
        yield gone(again(world, "a"))


def signals_before_their_job():
    """One is claimed by its submission, one never."""
    world = World(pipeline(stage("a")))
    world.signal("fact", facts={"x": 1})
    world.settle()
    world.submit()
    world.settle()
    world.signal("fact", facts={"x": 2})
    yield gone(world.settle())
    world = World(pipeline(stage("a")))
    world.signal("fact", facts={"x": 1})
    yield world.later(3_700)


def retries_that_come_and_go():
    """`part~` is written, and goes when it is due."""
    policy = Policy(max_attempts=2, backoff=Backoff("linear", initial=5.0))
    yield gone(begun(stage("a", retry=policy), answers={"a": [Fail("x"), Ok()]}).later(15))


STORIES = [
    lambda: every_verdict(shown=False),
    lambda: every_verdict(shown=True),
    a_stage_seen_to_stop,
    a_stage_cut_off,
    a_stage_in_a_later_turn,
    a_stage_cancelled_while_it_waits_for_its_retry,
    folded_parts,
    gates_that_hold,
    gates_that_hold_nobody,
    joins,
    jobs,
    signals_before_their_job,
    retries_that_come_and_go,
]


@pytest.fixture(scope="module")
def seen():
    """Every change of every story; what stood in a lower turn is all the same."""
    return {
        change._replace(before="SUCCESS") if change.higher else change
        for story in STORIES
        for world in story()
        for change in world.changes
    }


def by_line(line):
    return f"{line.row}-{line.after}-{line.trigger}"


@pytest.mark.parametrize("line", TRANSITIONS, ids=by_line)
def test_every_way_of_a_line_happens(line, seen):
    """A line that nothing produces would hide a fault: whatever wrote it would pass."""
    assert [change for change in line.changes() if change not in seen] == []


@pytest.mark.parametrize("line", TRANSITIONS, ids=by_line)
def test_no_line_can_be_left_out(line, seen):
    """A mutant of the table: without any one of its lines something that happens is refused."""
    others = [other for other in TRANSITIONS if other is not line]
    refused = [change for change in seen if not is_legal(*change, table=others)]

    assert refused
    assert all(line.allows(change) for change in refused)


def test_nothing_else_happens(seen):
    """The stories and the table agree in both directions."""
    known = {change for line in TRANSITIONS for change in line.changes()}
    assert seen - known == set()
