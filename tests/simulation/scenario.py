"""One run as data: what is asked, what breaks, and when. A seed makes one; shrinking makes it less.

Everything that chance decides stands in the steps, so that a run with a step taken out is the same
run without it. Only the latency of single calls is drawn while it plays, from the seed.
"""

import random

import msgspec

from tests.simulation.shapes import TEXTS

WORKERS = ("w1", "w2")
KEEPER = "k3"
EVERYBODY = (*WORKERS, KEEPER)
POINTS = ("before_begin", "after_produce", "after_offsets", "in_commit", "after_commit")
FAULTS = ("ABORTED", "UNKNOWN", "UNKNOWN_COMMITTED", "FENCED", "LATE")
SIGNALS = ("fact", "fact", "release", "cancel", "retry", "reject")
BLOWING = 14.0
"""Virtual seconds in which steps happen; then everything heals."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is done at a moment. `seconds`: how long, where it is something that ends."""

    at: float
    do: str
    who: str = ""
    what: str = ""
    seconds: float = 0.0


class Scenario(msgspec.Struct, frozen=True):
    """A pipeline, who works on it, and the steps in the order of their time."""

    seed: int
    shape: str
    partitions: int
    steps: tuple[Step, ...]

    @property
    def jobs(self):
        """Submitted at least once, whatever was answered."""
        return sorted({step.who for step in self.steps if step.do == "submit"})


def generate(seed):
    """The scenario of a seed."""
    chance = random.Random(seed)
    shape = chance.choice(tuple(TEXTS))
    jobs = [f"j{n}" for n in range(chance.randint(3, 6))]
    steps = [Step(_moment(chance, 6.0), "submit", job) for job in jobs]
    steps += [_signal(chance, jobs) for _ in range(chance.randint(1, 5))]
    if chance.random() < 0.3:
        steps.append(Step(_moment(chance), "submit", chance.choice(jobs), "again"))
    steps += [_trouble(chance) for _ in range(chance.choice((0, 2, 4, 8, 12)))]
    if chance.random() < 0.15:
        what = chance.choice(("agents", "keeper", "both"))
        steps.append(Step(_moment(chance), "forget", what=what, seconds=_moment(chance, 4.0)))
    ordered = tuple(sorted(steps, key=lambda step: step.at))
    return Scenario(seed, shape, chance.choice((1, 2, 3)), ordered)


def _moment(chance, most=BLOWING):
    return round(chance.uniform(0.2, most), 3)


def _signal(chance, jobs):
    kind = chance.choice(SIGNALS)
    if kind == "fact" and chance.random() < 0.2:
        return Step(_moment(chance), "share", what="open")
    what = {"fact": chance.choice(("fact go", "fact soon"))}.get(kind, kind)
    return Step(_moment(chance), "signal", chance.choice(jobs), what)


def _trouble(chance):
    at = _moment(chance)
    who = chance.choice(EVERYBODY)
    some = round(chance.choice((0.1, 1.0, 3.0, 12.0)) * (0.5 + chance.random()), 3)
    return chance.choice(
        (
            Step(at, "kill", who, seconds=some),
            Step(at, "crash", who, chance.choice(POINTS), some),
            Step(at, "crash", who, chance.choice(POINTS), some),
            Step(at, "fault", who, chance.choice(FAULTS)),
            Step(at, "fault", who, chance.choice(FAULTS)),
            Step(at, "fault", who, chance.choice(FAULTS)),
            Step(at, "freeze", who, seconds=some),
            Step(at, "leave", who, seconds=some),
            Step(at, "join", "w4", seconds=some),
            Step(at, "clock", who, seconds=chance.choice((-3600, -2, 2, 60, 86400))),
            Step(at, "lag", who, seconds=min(some, 4.0)),
            Step(at, "down", seconds=min(some, 4.0)),
            Step(at, "compact"),
        )
    )
