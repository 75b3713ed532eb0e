"""Who goes first, and that nobody waits for ever."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.priority import PATIENCE, PRIORITIES, Ranked, priority_of


class D(NamedTuple):
    priority: str
    number: int


RANK = {name: place for place, name in enumerate(PRIORITIES)}
arrivals = st.lists(st.sampled_from(["high", "normal", "low", "take"]), max_size=120)


def ranked(*priorities):
    return Ranked(lambda d: d.priority, [D(each, n) for n, each in enumerate(priorities)])


def taken(queue, most=1000):
    return [queue.popleft() for _ in range(min(most, len(queue)))]


def test_higher_first_and_equals_in_their_order():
    """The rule in one line."""
    queue = ranked("low", "normal", "high", "normal", "high")

    assert [d.number for d in taken(queue)] == [2, 4, 1, 3, 0]


def test_under_a_load_of_high_ones_that_never_ends_one_start_in_nine_is_a_low_one_s():
    """Ageing: `PATIENCE` starts may pass the first low one, then it is its turn."""
    queue = ranked(*["low"] * 3, *["high"] * 100)

    order = [d.priority for d in taken(queue, 27)]

    assert order == ([*["high"] * PATIENCE, "low"] * 3)


def test_low_and_normal_ones_both_have_their_turn():
    """The lowest first when both have waited long enough: it waits on more."""
    queue = ranked("low", "normal", *["high"] * 50)

    assert [d.priority for d in taken(queue, 10)] == [*["high"] * 8, "low", "normal"]


def test_nothing_waits_where_nothing_is():
    """As a deque."""
    with pytest.raises(IndexError):
        ranked().popleft()


def test_an_unknown_word_is_normal():
    """A stranger's attribute of the same name may mean anything."""
    assert [priority_of(word) for word in ("high", "low", "normal", "urgent", 3, None)] == [
        "high", "low", "normal", "normal", "normal", "normal",
    ]  # fmt: skip


@given(arrivals)
def test_whoever_is_first_of_its_priority_is_passed_by_few(steps):
    """The bound that makes starvation impossible, for any mix of arrivals and starts."""
    queue, passed, number = Ranked(lambda d: d.priority), {}, 0
    for step in steps:
        if step != "take":
            number += 1
            queue.append(D(step, number))
            continue
        if not len(queue):
            continue
        waiting = {d.priority for d in queue}
        start = queue.popleft()
        for each in waiting - {start.priority}:
            passed[each] = passed.get(each, 0) + 1
        passed[start.priority] = 0
        assert passed.get("low", 0) <= PATIENCE
        assert passed.get("normal", 0) <= PATIENCE + 1


@given(arrivals)
def test_nothing_is_lost_nothing_doubled_and_equals_keep_their_order(steps):
    """Whatever is decided about priorities, a queue stays a queue."""
    queue, given_in, given_out = Ranked(lambda d: d.priority), [], []
    for number, step in enumerate(steps):
        if step == "take":
            given_out += taken(queue, 1)
        else:
            given_in.append(D(step, number))
            queue.append(given_in[-1])
    given_out += taken(queue)

    assert sorted(given_out) == sorted(given_in)
    for name in PRIORITIES:
        theirs = [d for d in given_out if d.priority == name]
        assert theirs == sorted(theirs)


@given(arrivals)
def test_the_next_is_the_highest_unless_a_lower_one_has_waited_long_enough(steps):
    """No other reason lets a lower one go first."""
    queue, waited = Ranked(lambda d: d.priority), dict.fromkeys(PRIORITIES, 0)
    for number, step in enumerate(steps):
        if step != "take":
            queue.append(D(step, number))
            continue
        waiting = sorted({d.priority for d in queue}, key=RANK.__getitem__)
        if not waiting:
            continue
        start = queue.popleft().priority
        assert start == waiting[0] or waited[start] >= PATIENCE
        for each in waiting:
            waited[each] = 0 if each == start else waited[each] + 1


def test_what_waits_keeps_its_turn_when_others_are_taken_out():
    """A rebalance in between must not let the count begin anew."""
    queue = ranked("low", *["high"] * 20)
    taken(queue, PATIENCE)
    queue.drop(lambda d: d.number == 20)

    assert queue.popleft().priority == "low"
    assert len(queue) == 20 - PATIENCE - 1
