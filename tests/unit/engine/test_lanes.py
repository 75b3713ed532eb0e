"""Lanes: order per address, limits per part, turns between parts."""

from collections import Counter, defaultdict
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.lanes import Lanes


class D(NamedTuple):
    part: str
    job: str
    number: int = 0
    priority: str = "normal"


def lanes(limit=16):
    return Lanes(
        lambda d: d.part, lambda d: (d.job, d.part), lambda part: limit, lambda d: d.priority
    )


def drain(queue):
    found = []
    while (each := queue.next()) is not None:
        found.append(each)
    return found


def test_deliveries_of_one_address_run_one_after_another_in_order():
    """Lane (S, part)."""
    queue = lanes()
    first, second, other = D("a", "j", 1), D("a", "j", 2), D("a", "k", 3)
    for each in (first, second, other):
        queue.add(each)
    assert drain(queue) == [first, other]
    queue.done(first)
    assert drain(queue) == [second]


def test_a_part_runs_no_more_at_once_than_its_limit():
    """Per-stage `concurrency`."""
    queue = lanes(limit=2)
    jobs = [D("a", f"j{n}") for n in range(5)]
    for each in jobs:
        queue.add(each)
    assert drain(queue) == jobs[:2]
    assert queue.running("a") == 2
    queue.done(jobs[1])
    assert drain(queue) == [jobs[2]]
    assert queue.waiting == 2


def test_a_part_with_a_long_queue_starves_nobody():
    """Parts take turns."""
    queue = lanes()
    for n in range(10):
        queue.add(D("a", f"j{n}"))
    queue.add(D("b", "j"))
    queue.add(D("c", "j"))
    assert [d.part for d in drain(queue)][:6] == ["a", "b", "c", "a", "a", "a"]


def test_a_paused_part_keeps_its_queue():
    """And the others go on."""
    queue = lanes()
    queue.paused = {"a"}
    queue.add(D("a", "j"))
    queue.add(D("b", "j"))
    assert drain(queue) == [D("b", "j")]
    queue.paused = set()
    assert drain(queue) == [D("a", "j")]


def test_forgetting_drops_what_was_not_started_and_frees_who_waits_behind_it():
    """Partitions that went to somebody else."""
    queue = lanes(limit=1)
    running, head, behind, lost = D("a", "j", 1), D("a", "k", 2), D("a", "k", 3), D("a", "j", 4)
    for each in (running, head, behind, lost):
        queue.add(each)
    assert queue.next() == running
    assert set(queue.forget(lambda d: d.number in (1, 2, 4))) == {head, lost}
    queue.done(running)
    assert drain(queue) == [behind]
    queue.done(behind)
    assert queue.waiting == 0


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(("add", "add", "add", "next", "next", "done", "done", "pause", "forget")),
        st.sampled_from("abc"),
        st.integers(0, 3),
    ),
    max_size=150,
)


@given(operations=OPERATIONS, limit=st.integers(1, 3))
def test_lanes_agree_with_the_simplest_model(operations, limit):
    """Queues by address, a set of what runs."""
    queue = lanes(limit)
    waiting = defaultdict(list)
    running, number = [], 0
    for name, part, pick in operations:
        if name == "add":
            number += 1
            queue.add(D(part, f"j{pick}", number))
            waiting[part, f"j{pick}"].append(number)
        elif name == "next":
            busy = Counter(each.part for each in running)
            held = {(each.part, each.job) for each in running}
            may = {
                left[0]
                for address, left in waiting.items()
                if left
                and address not in held
                and address[0] not in queue.paused
                and busy[address[0]] < limit
            }
            each = queue.next()
            assert (each.number in may) if may else each is None
            if each is not None:
                waiting[each.part, each.job].remove(each.number)
                running.append(each)
        elif name == "done" and running:
            queue.done(running.pop(pick % len(running)))
        elif name == "pause":
            queue.paused = queue.paused ^ {part}
        elif name == "forget":
            gone = {n for left in waiting.values() for n in left if n % 4 == pick}
            assert {d.number for d in queue.forget(lambda d, g=gone: d.number in g)} == gone
            for left in waiting.values():
                left[:] = [n for n in left if n not in gone]
        assert queue.waiting == sum(map(len, waiting.values()))
    queue.paused = set()
    while running or queue.waiting:
        running += drain(queue)
        queue.done(running.pop())
    assert queue.next() is None


def test_a_higher_priority_passes_what_came_before_it():
    """Issue 5.7: among what is fetched the higher goes first; equals keep their order."""
    queue = lanes(limit=3)
    low = [D("a", f"l{n}", priority="low") for n in range(3)]
    normal, high = D("a", "n"), D("a", "h", priority="high")
    for each in (*low, normal, high):
        queue.add(each)

    assert drain(queue) == [high, normal, low[0]]


def test_an_address_keeps_its_order_whatever_the_priority():
    """Lane (S, part): nothing overtakes within it."""
    queue = lanes()
    first, second = D("a", "j", 1), D("a", "j", 2, "high")
    queue.add(first)
    queue.add(second)

    assert drain(queue) == [first]
    queue.done(first)
    assert drain(queue) == [second]


def test_what_is_forgotten_keeps_the_order_of_the_rest():
    """A partition went to another worker, the others' priorities stand."""
    queue = lanes()
    given = [D("a", "x", priority="low"), D("a", "gone", priority="high"), D("a", "y")]
    for each in given:
        queue.add(each)
    queue.forget(lambda d: d.job == "gone")

    assert [d.job for d in drain(queue)] == ["y", "x"]
