"""The runtime under every fault that a broker and a machine can think of, seed by seed.

Two thousand seeds a commit, in slices, so that a failure is found where it is and cores can share
them. `python -m tests.simulation.judge --seed N` plays one again.
"""

import pytest

from tests.simulation.judge import faults, kept, search, told
from tests.simulation.play import play, trace
from tests.simulation.scenario import Scenario, Step, generate
from tests.simulation.shapes import TEXTS
from tests.simulation.shrink import shrink

SLICE = 100
SLICES = 20


@pytest.mark.parametrize("number", range(SLICES))
def test_no_rule_is_broken_whatever_happens(number):
    """C1 to C9: lost 0, double 0, torn 0, early 0, whoever dies, stalls, lies about the time."""
    found = search(range(number * SLICE, (number + 1) * SLICE))
    assert not found, "\n\n".join(told(generate(seed), what) for seed, what in found.items())


def test_one_seed_is_one_run():
    """A hundred seeds, played twice, give the same trace: else no failure could be looked into."""
    for seed in range(100):
        scenario = generate(seed)
        assert trace(play(scenario)) == trace(play(scenario)), seed


def test_the_seeds_do_what_they_are_for():
    """Over a few hundred of them every pipeline and every kind of trouble comes up."""
    scenarios = [generate(seed) for seed in range(400)]
    assert {scenario.shape for scenario in scenarios} == set(TEXTS)
    done = {(step.do, step.what) for scenario in scenarios for step in scenario.steps}
    assert {
        "kill",
        "crash",
        "fault",
        "freeze",
        "leave",
        "join",
        "clock",
        "lag",
        "down",
        "forget",
    } <= {do for do, _ in done}
    points = ("before_begin", "after_produce", "after_offsets", "in_commit", "after_commit")
    assert {("crash", point) for point in points} <= done
    faults_of_commits = ("ABORTED", "UNKNOWN", "UNKNOWN_COMMITTED", "FENCED", "LATE")
    assert {("fault", fault) for fault in faults_of_commits} <= done


@pytest.mark.parametrize("name", kept())
def test_what_was_found_once_stays_mended(name):
    """Each file is a failure that was found, shrunk, and mended."""
    scenario = kept()[name]
    found = faults(scenario)
    assert not found, told(scenario, found)


def test_a_failure_shrinks_to_the_steps_that_make_it():
    """The failure below needs two of twelve steps, in their order."""
    steps = tuple(Step(float(n), "kill" if n in (3, 8) else "lag", "w1") for n in range(12))
    scenario = Scenario(1, "line", 1, steps)

    def fails(less):
        return [step.at for step in less.steps if step.do == "kill"] == [3.0, 8.0]

    assert [step.at for step in shrink(scenario, fails).steps] == [3.0, 8.0]
