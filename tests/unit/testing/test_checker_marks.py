"""Positions as the checker reads them: as sets of offsets, without asking the frontier."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.broker.port import Committed
from streams.engine.frontier import Frontier
from streams.errors import LogError
from streams.testing.checker.marks import NOTHING, Mark, mark_of

offsets = st.lists(st.integers(0, 60), unique=True, min_size=1).map(sorted)


@given(handed=offsets, data=st.data())
def test_a_mark_counts_as_finished_what_was_finished(handed, data):
    """C7 rests on it: of what was handed out, exactly the rest is unfinished."""
    frontier = Frontier()
    for offset in handed:
        frontier.start(offset)
    finished = data.draw(st.sets(st.sampled_from(handed)))
    for offset in finished:
        frontier.finish(offset)
    mark = mark_of(Committed(*frontier.commit()))
    assert {offset for offset in handed if mark.has(offset)} == finished


@given(handed=offsets, data=st.data())
def test_finishing_more_never_forgets(handed, data):
    """No honest run may be called a step back."""
    frontier, marks = Frontier(), [NOTHING]
    for offset in handed:
        frontier.start(offset)
        if data.draw(st.booleans()):
            frontier.finish(offset)
        marks.append(mark_of(Committed(*frontier.commit())))
    for before, after in pairwise(marks):
        assert not after.forgets(before)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Mark(5, 5, frozenset()), Mark(4, 4, frozenset())),
        (Mark(5, 9, frozenset({7})), Mark(5, 9, frozenset({6, 7}))),
        (Mark(5, 9, frozenset({7})), Mark(5, 5, frozenset())),
        (Mark(5, 9, frozenset({7})), Mark(6, 9, frozenset({7}))),
    ],
    ids=["lower offset", "listed again", "beyond its high", "first of all again"],
)
def test_a_position_that_takes_something_back_is_seen(before, after):
    """Offsets only move on, also those above the first unfinished one."""
    assert after.forgets(before)
    assert not before.forgets(before)


def test_a_position_of_an_unknown_form_is_refused():
    """A newer worker's metadata is no reason to guess."""
    with pytest.raises(LogError):
        mark_of(Committed(3, "9;what;is;this;here"))
