"""Gates that read each other, stages and facts: no gate is left behind that could be open."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.building import echo, gate, pipeline, sleep, stage
from tests.simulation.harness import World
from tests.simulation.storm import Storm

FACTS = ("f0", "f1", "f2")


def gated_plan(pick):
    """Half of the parts are gates on any other part's end, on a fact, or on a shared fact."""
    count = pick.randint(2, 9)
    names = [f"p{number}" for number in range(count)]
    parts = []
    for number, name in enumerate(names):
        to = [other for other in names[number + 1 :] if pick.random() < 0.25]
        condition = pick.choice(
            (
                f"stages.{pick.choice(names)}.status == 'SUCCESS'",
                f"stages.{pick.choice(names)}.status == 'SKIPPED'",
                f"has(facts.{pick.choice(FACTS)})",
                f"metadata.m{pick.randrange(count)} == true",
            )
        )
        make = pick.choice(
            (
                lambda n, *t, c=condition: gate(n, *t, until=c, facts=FACTS),
                lambda n, *t, c=condition: gate(n, *t, until=c, facts=FACTS),
                stage,
                lambda n, *t, i=number: echo(n, *t, sets={f"m{i}": True}),
                lambda n, *t: sleep(n, *t, seconds=1),
            )
        )
        parts.append(make(name, *to))
    return pipeline(*parts)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=200)
def test_a_gate_that_still_waits_at_rest_is_not_true(seed):
    """Level-triggered, by an index and not polled: whatever came in whatever order."""
    pick = random.Random(seed)
    world = World(gated_plan(pick))
    storm = Storm(world, seed)
    world.submit()
    for name in pick.sample(FACTS, pick.randint(0, 3)):
        if pick.random() < 0.5:
            storm.until_quiet()
        shared = pick.random() < 0.5
        world.signal("fact", job="" if shared else "j", facts={name: 1})
    storm.until_quiet()

    waits = world.waits()
    assert [wait.stage for wait in waits if wait.clauses and wait.clauses[0].passed] == []
    assert world.job().ended is (waits == [])
    world.crash_keeper()
    world.settle()
    assert world.waits() == waits
