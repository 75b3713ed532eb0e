"""Random plans, random lags, keepers that die: each part once, each join once, one end."""

import random
from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.rows import ENDED, decode_row
from streams.engine.settle import floors
from tests.simulation.harness import World
from tests.simulation.plans import sketches
from tests.simulation.storm import Storm

SEEDS = st.integers(0, 2**32)


@given(sketch=sketches(), seed=SEEDS)
@settings(max_examples=200)
def test_every_reached_part_runs_once_and_the_job_ends_once(sketch, seed):
    """Settle: no early, doubled or missing join or completion, whatever the lags and crashes."""
    world = begun(sketch)
    Storm(world, seed).until_quiet()

    assert ended_rows(world) == sketch.expected
    assert [done["status"] for done in world.done] == [good_end(sketch)]
    assert Counter(ended_stages(world)) == {
        path: 1 for path in sketch.expected if sketch.plan.by_path[path].kind == "stage"
    }
    assert not any(world.queues.values())
    assert not world.hold


@given(sketch=sketches(bad=True), seed=SEEDS)
@settings(max_examples=200)
def test_a_job_that_went_wrong_and_is_retried_ends_as_if_nothing_had(sketch, seed):
    """Retry: what did not end well runs again; late results of an old epoch change nothing."""
    world = begun(sketch)
    storm = Storm(world, seed, zombies=True)
    storm.until_quiet()
    epoch = 1
    while world.job().status not in ("SUCCESS", "SKIPPED"):
        assert world.job().ended
        world.signal("retry", epoch=epoch)
        storm.until_quiet()
        epoch += 1
        assert world.job().epoch == epoch

    assert ended_rows(world) == sketch.expected
    assert [done["epoch"] for done in world.done] == list(range(1, epoch + 1))
    assert world.done[-1]["status"] == good_end(sketch)
    assert not any(world.queues.values())
    assert not world.hold


@given(sketch=sketches(), seed=SEEDS, before=st.integers(0, 60))
@settings(max_examples=100)
def test_a_job_cancelled_at_any_moment_is_over_in_time_and_can_be_retried(sketch, seed, before):
    """Cancel: within 10 s everything is over; a retry completes what was left."""
    world = begun(sketch)
    world.take_intake()
    world.commit_turn()
    pick = random.Random(seed)
    for _ in range(before):
        if moves := world.moves():
            pick.choice(moves)()
            world.commit_turn()
    world.signal("cancel", by="me")
    cancelled_at = world.now
    storm = Storm(world, seed, zombies=True)
    storm.until_quiet()
    job = world.job()
    assert job.ended
    if job.status == "CANCELLED":
        assert world.now - cancelled_at <= 10_500
        world.signal("retry")
        storm.until_quiet()
        if "nothing failed" in world.job().last_signal:
            return

    assert ended_rows(world) == sketch.expected
    assert world.done[-1]["status"] == good_end(sketch)


@given(sketch=sketches(bad=True), seed=SEEDS)
@settings(max_examples=100)
def test_a_job_retried_from_any_stage_at_any_end_comes_to_the_same_end(sketch, seed):
    """Retry from a named stage: what it needs is there or is made again, the rest is left alone."""
    world, pick = begun(sketch), random.Random(seed)
    storm = Storm(world, seed, zombies=True)
    for _ in range(4):
        storm.until_quiet()
        world.signal("retry", **{"from": pick.choice(sketch.plan.order)})
    storm.until_quiet()
    while world.job().status not in ("SUCCESS", "SKIPPED"):
        world.signal("retry")
        storm.until_quiet()

    assert ended_rows(world) == sketch.expected
    assert [done["epoch"] for done in world.done] == list(range(1, world.job().epoch + 1))


def begun(sketch):
    """A world with one submitted job, whose stages check that they get what they should."""
    world = World(sketch.plan)
    world.answers = {
        part.path: checking(sketch, part.path) for part in sketch.plan.parts if part.kind == "stage"
    }
    world.submit()
    return world


def checking(sketch, path):
    """The sketch's answers, one after another, each after a look at the inputs."""
    given = sketch.answers[path]
    left = list(given) if isinstance(given, list) else [given]
    wanted = {
        up: sketch.outputs[up]
        for up, _ in sketch.plan.incoming[path]
        if up in sketch.expected and path in sketch.taken[up]
    }

    def answer(work):
        got = {up: msgspec.json.decode(result.out) for up, result in work.payload.stages.items()}
        assert got == wanted
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


def ended_rows(world):
    """Status of every part whose row counts."""
    floor = floors(world.plan_of(), world.job().restarts)
    return {
        part.path: row.status
        for part in world.plan_of().parts
        if part.path in world.rows()
        and (row := world.row(part.path)).status in ENDED
        and row.epoch >= floor.get(part.path, 0)
    }


def ended_stages(world):
    """The stage of every end that an agent has written."""
    for key, data in world.ledger:
        part = key.decode().partition("|")[2]
        known = world.plan_of().by_path.get(part)
        if data and known and known.kind == "stage" and decode_row(data).status in ENDED:
            yield part


def good_end(sketch):
    return "skipped" if set(sketch.expected.values()) == {"SKIPPED"} else "succeeded"
