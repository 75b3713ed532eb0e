"""Random plans, random lags, keepers that die: each part once, each join once, one end."""

import random
from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.rows import ENDED
from streams.engine.settle import floors
from tests.simulation.harness import World
from tests.simulation.plans import sketches

SEEDS = st.integers(0, 2**32)


class Storm:
    """Lets things happen in a random order: lags, crashes, transactions of many inputs."""

    def __init__(self, world, seed, *, zombies=False):
        self.world = world
        self.pick = random.Random(seed)
        self.zombies = zombies
        self.slow = []

    def until_quiet(self):
        world, pick = self.world, self.pick
        for _ in range(4_000):
            moves = [move for move in world.moves() if not self._taken(move)]
            chance = pick.random()
            if chance < 0.05:
                world.crash_keeper()
            elif chance < 0.15 and self.slow:
                self._end(self.slow.pop(pick.randrange(len(self.slow))))
            elif moves:
                self._move(pick.choice(moves))
            elif self.slow:
                self._end(self.slow.pop())
            elif world.turn is not None:
                world.commit_turn()
            elif (due := self._next_due()) is not None:
                world.now = max(world.now, due)
            else:
                return
        raise AssertionError("it never comes to rest")

    def _next_due(self):
        """Within the hour: what lies beyond is retention."""
        due = self.world.holds.next_due()
        return due if due is not None and due < self.world.now + 3_600_000 else None

    def _taken(self, move):
        """Deliveries of one part run one after another."""
        path = getattr(move, "__defaults__", None)
        return path is not None and any(work.part.path == path[0] for work in self.slow)

    def _move(self, move):
        world, pick = self.world, self.pick
        path = getattr(move, "__defaults__", None)
        if path is None:
            move()
            if pick.random() < 0.6:
                world.commit_turn()
        elif pick.random() < 0.4:
            work = world.begin(path[0])
            if work is not None:
                self.slow.append(work)
                if pick.random() < 0.5:
                    world.show_running(work)
        else:
            move()

    def _end(self, work):
        self.world.finish(work, sees_stop=not (self.zombies and self.pick.random() < 0.5))


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


@given(sketch=sketches(), seed=SEEDS)
@settings(max_examples=300)
def test_every_reached_part_runs_once_and_the_job_ends_once(sketch, seed):
    """Settle: no early, doubled or missing join or completion, whatever the lags and crashes."""
    world = World(sketch.plan, answers=copied(sketch.answers))
    world.submit()
    Storm(world, seed).until_quiet()

    assert ended_rows(world) == sketch.expected
    assert [done["status"] for done in world.done] == [all_skipped_or_succeeded(sketch.expected)]
    assert ran_to_the_end(world) == {
        path: 1 for path in sketch.expected if sketch.plan.by_path[path].kind == "stage"
    }
    assert not any(world.queues.values())
    assert not world.hold


@given(sketch=sketches(bad=True), seed=SEEDS)
@settings(max_examples=300)
def test_a_job_that_went_wrong_and_is_retried_ends_as_if_nothing_had(sketch, seed):
    """Retry: only what did not end well runs again, late results of the old epoch change nothing."""
    world = World(sketch.plan, answers=copied(sketch.answers))
    world.submit()
    storm = Storm(world, seed, zombies=True)
    storm.until_quiet()
    epoch = 1
    while world.job().status not in ("SUCCESS", "SKIPPED"):
        assert world.job().ended
        world.signal("retry", epoch=epoch)
        storm.until_quiet()
        assert world.job().last_signal == ""
        epoch += 1
        assert epoch <= 12

    assert ended_rows(world) == sketch.expected
    assert [done["epoch"] for done in world.done] == list(range(1, epoch + 1))
    assert world.done[-1]["status"] == all_skipped_or_succeeded(sketch.expected)
    assert not any(world.queues.values())
    assert not world.hold


@given(sketch=sketches(), seed=SEEDS, before=st.integers(0, 60))
@settings(max_examples=150)
def test_a_job_cancelled_at_any_moment_ends_and_can_be_retried(sketch, seed, before):
    """Cancel: within 10 s everything is over; a retry completes what was left."""
    world = World(sketch.plan, answers=copied(sketch.answers))
    world.submit()
    world.take_intake()
    world.commit_turn()
    pick = random.Random(seed)
    for _ in range(before):
        if moves := world.moves():
            pick.choice(moves)()
            world.commit_turn()
    world.signal("cancel", by="me")
    started = world.now
    storm = Storm(world, seed, zombies=True)
    storm.until_quiet()
    job = world.job()
    assert job.ended
    assert world.now - started <= 10_500 or job.status != "CANCELLED"
    if job.status == "CANCELLED":
        world.signal("retry")
        storm.until_quiet()
        if "nothing failed" in world.job().last_signal:
            return

    assert ended_rows(world) == sketch.expected
    assert world.done[-1]["status"] == all_skipped_or_succeeded(sketch.expected)


def copied(answers):
    return {path: list(a) if isinstance(a, list) else a for path, a in answers.items()}


def all_skipped_or_succeeded(expected):
    return "skipped" if set(expected.values()) == {"SKIPPED"} else "succeeded"


def ran_to_the_end(world):
    """Part → how many of its deliveries were not put off."""
    ended = Counter(
        part for (part, *_), row in _final_rows(world) if row.status in ENDED
    )
    return dict(ended)


def _final_rows(world):
    for key, data in world.ledger:
        _, _, part = key.decode().partition("|")
        if data is None or part.startswith("@") or "~" in part:
            continue
        if world.plan_of().by_path[part].kind == "stage":
            from streams.engine.rows import decode_row

            yield (part,), decode_row(data)


_ = msgspec
