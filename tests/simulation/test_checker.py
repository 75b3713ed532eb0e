"""The checker: honest histories of the real runtime pass, every spoilt one is refused."""

import asyncio
import functools
import time

import pytest

from streams.testing.checker.check import check
from tests.simulation.honest_runs import JOINED, RUNS, honest, played
from tests.simulation.mutants_of_history import BEYOND, SIXTEEN, NotHere

AT_LEAST = 2
"""Honest histories that every mutant must be made of."""


@functools.cache
def bases(mutant):
    """The runs whose history can be spoilt in this way."""
    found = []
    for name in RUNS:
        try:
            mutant(honest(name))
        except NotHere:
            continue
        found.append(name)
    return tuple(found)


@pytest.mark.parametrize("name", RUNS)
def test_an_honest_run_breaks_no_rule(name):
    """C1 to C9 and the table of transitions: what the runtime does is what the protocol promises."""
    assert check(honest(name)) == []


def test_there_are_sixteen_mutants():
    """reliability.md §3a: 16 of 16."""
    assert len(SIXTEEN) == 16


@pytest.mark.parametrize("mutant", [*SIXTEEN, *BEYOND], ids=lambda mutant: mutant.__name__)
def test_a_spoilt_history_is_refused_by_its_rule(mutant):
    """The tests are tested: a rule that lets one of these pass would let a real fault pass."""
    expected = (SIXTEEN | BEYOND)[mutant]
    assert len(bases(mutant)) >= AT_LEAST
    for name in bases(mutant):
        rules = {violation.rule for violation in check(mutant(honest(name)))}
        assert expected in rules, (name, rules)


async def many_jobs(rig):
    """Enough for a history of the size that the seeds make."""
    jobs = [f"j{n}" for n in range(19)]
    for n, job in enumerate(jobs):
        await rig.submit(job, n=n)
    await rig.ends(*jobs)


def test_a_seed_is_judged_in_milliseconds():
    """2,000 seeds in 120 s leave 8 ms each; twice that for slow machines. Best of ten, by the
    processor's time: others may be at work here."""
    history = asyncio.run(played(many_jobs, JOINED))
    assert len(history.records) > 400
    spent = []
    for _ in range(10):
        began = time.process_time()
        check(history)
        spent.append(time.process_time() - began)
    assert min(spent) < 0.016
