"""Offsets: what may be committed, and what a restart must not do again."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.frontier import LONGEST, Frontier
from streams.errors import LogError

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(("take", "take", "take", "finish", "finish", "restart", "commit")),
              st.integers(0, 300)),
    max_size=120,
)  # fmt: skip


class Log:
    """The model: offsets of records (gaps are markers), and the set of those that are finished."""

    def __init__(self, base):
        self.next = base
        self.offsets = []
        self.finished = set()
        self.base = base

    def append(self, gap):
        self.offsets.append(self.next + gap)
        self.next += gap + 1

    @property
    def unfinished(self):
        return [offset for offset in self.offsets if offset not in self.finished]


@given(base=st.integers(0, 2**40), operations=OPERATIONS)
def test_no_commit_passes_an_unfinished_event_and_no_restart_repeats_a_finished_one(
    base, operations
):
    """Random gaps, any order of ends, commits and restarts, against the simplest model."""
    log, frontier = Log(base), Frontier(base)
    in_hand, committed = [], (base, "")
    finished_then = set()
    for name, number in operations:
        if name == "take":
            log.append(number)
            assert frontier.start(log.offsets[-1])
            assert not frontier.start(log.offsets[-1])
            in_hand.append(log.offsets[-1])
        elif name == "finish" and in_hand:
            offset = in_hand.pop(number % len(in_hand))
            log.finished.add(offset)
            frontier.finish(offset)
            assert not frontier.start(offset)
        elif name == "commit":
            committed = frontier.commit()
            finished_then = set(log.finished)
        elif name == "restart":
            log.finished = set(finished_then)
            frontier = Frontier(*committed)
            again = [o for o in log.offsets if o >= committed[0] and frontier.start(o)]
            assert again == log.unfinished
            in_hand = again
        assert frontier.in_hand == len(in_hand)
        offset, text = frontier.commit()
        assert offset == (log.unfinished or [offset])[0]
        assert not log.offsets or offset <= log.next
        assert len(text) <= LONGEST


@given(gaps=st.lists(st.integers(0, 100_000), min_size=1, max_size=60))
def test_all_that_may_be_unfinished_at_once_fits_into_the_metadata(gaps):
    """Longest metadata a broker takes: 4,095 characters; `full` leaves room for one more poll."""
    frontier, offset = Frontier(5), 5
    steps = itertools.cycle(gaps)
    while not frontier.full and frontier.in_hand < 3_000:
        frontier.start(offset := offset + next(steps) + 1)
    for _ in range(500):
        frontier.start(offset := offset + next(steps) + 1)
    start, text = frontier.commit()

    assert len(text) <= LONGEST
    again = Frontier(start, text)
    assert again.commit() == (start, text)


def test_too_many_unfinished_offsets_are_an_error_and_not_a_cut_list():
    """K030."""
    frontier = Frontier(0)
    for offset in range(0, 4_000_000, 1_000):
        frontier.start(offset)
    with pytest.raises(LogError) as caught:
        frontier.commit()
    assert caught.value.code == "K030"


def test_the_metadata_names_the_unfinished_offsets():
    """`version;deaths;suspect;high;gaps`: literal, because older workers wrote it."""
    frontier = Frontier(10)
    assert frontier.commit() == (10, "1;0;;;")
    for offset in (10, 11, 12, 300):
        frontier.start(offset)
    frontier.finish(11)
    assert frontier.commit() == (10, "1;0;;301;0-yo")
    frontier.finish(10)
    frontier.finish(12)
    assert frontier.commit() == (300, "1;0;;301;")
    frontier.finish(300)
    assert frontier.commit(clean=True) == (301, "1c;0;;;")


@pytest.mark.parametrize("text", ["2;0;;;", "3;0;;;;", "x", "1;0;;", "1d;0;;;"])
def test_metadata_of_an_unknown_version_is_refused(text):
    """K031: never taken for "nothing is finished"."""
    with pytest.raises(LogError) as caught:
        Frontier(0, text)
    assert caught.value.code == "K031"


class TestDeaths:
    """Poison: each takeover of an unclean one counts, a clean one does not."""

    def test_an_owner_that_leaves_in_order_is_no_death(self):
        """A rolling restart must not make anything suspect."""
        frontier = Frontier(0)
        frontier.start(0)
        for _ in range(5):
            frontier = Frontier(*frontier.commit(clean=True))
            frontier.take_over(10)
        assert frontier.deaths == 0

    def test_each_owner_that_dies_is_counted(self):
        """Committed before the first run, else it could never count."""
        frontier = Frontier(0)
        frontier.start(0)
        for deaths in range(1, 5):
            frontier = Frontier(*frontier.commit())
            frontier.take_over(10)
            assert frontier.deaths == deaths
            assert frontier.commit()[1].split(";")[1] == str(deaths)

    def test_the_suspect_is_known_to_the_next_owner(self):
        """The event that was running alone when the last one went."""
        frontier = Frontier(0)
        for offset in (7, 8):
            frontier.start(offset)
        frontier.suspect = 8
        frontier = Frontier(*frontier.commit())
        assert frontier.suspect == 8
        frontier.take_over(9)
        assert frontier.suspect == 8

    def test_deaths_are_forgotten_when_all_that_was_unfinished_then_is_finished(self):
        """What came later does not keep the partition in trouble."""
        frontier = Frontier(0)
        for offset in range(3):
            frontier.start(offset)
        frontier = Frontier(*frontier.commit())
        frontier.take_over(3)
        for offset in (0, 1, 2, 3):
            frontier.start(offset)
        frontier.finish(0)
        frontier.finish(1)
        assert frontier.commit() == (2, "1;1;;4;0R")
        frontier.finish(2)
        assert frontier.commit() == (3, "1;0;;4;")
        assert frontier.suspect is None


class TestAhead:
    """Events of higher priority, taken before their turn from behind a backlog."""

    def test_what_was_finished_before_its_turn_is_named_until_the_reading_comes_to_it(self):
        """`2;deaths;suspect;high;runs;unfinished`: literal, because newer workers read it."""
        frontier = Frontier(10)
        for offset in (10, 11):
            frontier.start(offset)
        assert frontier.start_ahead(14)
        assert frontier.start_ahead(20)
        frontier.finish(14)
        assert frontier.commit() == (10, "2;0;;12;AgA=;0R")

        again = Frontier(10, "2;0;;12;AgA=;0R")
        assert [offset for offset in range(10, 21) if again.start(offset)] == [
            10, 11, 12, 13, 15, 16, 17, 18, 19, 20,
        ]  # fmt: skip
        for offset in range(10, 21):
            again.finish(offset)
        assert again.commit(clean=True) == (21, "1c;0;;;")

    def test_what_is_in_hand_before_its_turn_is_not_handed_out_again_in_its_turn(self):
        """It becomes one of the unfinished ones then."""
        frontier = Frontier(0)
        assert frontier.start_ahead(1)
        assert not frontier.start_ahead(1)
        assert frontier.start(0)
        assert not frontier.start(1)
        frontier.finish(0)
        assert frontier.commit() == (1, "1;0;;2;")
        frontier.finish(1)
        assert frontier.commit() == (2, "1;0;;;")

    def test_what_has_had_its_turn_is_not_taken_before_it(self):
        """Two readers of one partition hand out each event once."""
        frontier = Frontier(0)
        frontier.start(5)
        assert [frontier.start_ahead(offset) for offset in (3, 5, 6)] == [False, False, True]

    def test_no_more_are_taken_than_the_metadata_has_room_for(self):
        """The widest list of unfinished ones, and the longest of those taken before their turn."""
        frontier, offset = Frontier(2**40), 2**40
        while not frontier.full:
            frontier.start(offset := offset + 1)
        for _ in range(500):
            frontier.start(offset := offset + 100)
        taken = 0
        while frontier.start_ahead(offset := offset + 30_000):
            frontier.finish(offset)
            taken += 1
        assert taken == 100
        start, text = frontier.commit()
        assert len(text) <= LONGEST
        assert Frontier(start, text).commit() == (start, text)

    def test_a_run_without_others_between_takes_no_more_room_than_one_event(self):
        """High jobs behind the backlog may be as many as they like."""
        frontier, before = Frontier(0), None
        frontier.start(0)
        for offset in range(10, 20_000, 2):  # markers between them
            assert frontier.start_ahead(offset, before)
            frontier.finish(offset)
            before = offset
        start, text = frontier.commit()

        assert len(text) < 40
        again = Frontier(start, text)
        assert [o for o in range(20_002) if again.start(o)] == [*range(10), 19_999, 20_000, 20_001]

    @given(
        lows=st.lists(st.booleans(), min_size=1, max_size=60),
        steps=st.lists(
            st.tuples(st.sampled_from(["read", "scout", "finish", "commit", "crash"]),
                      st.integers(0, 100)),
            max_size=150,
        ),
    )  # fmt: skip
    def test_each_event_runs_until_a_commit_counts_it_and_never_after(self, lows, steps):
        """Reading, looking ahead, ends in any order, crashes: against the simplest model."""
        frontier, read_at, scout_at, before = Frontier(0), 0, 0, None
        committed, counted, finished, in_hand = (0, ""), set(), set(), []
        for name, number in steps:
            if name == "read" and read_at < len(lows):
                if frontier.start(read_at):
                    assert read_at not in counted
                    in_hand.append(read_at)
                read_at += 1
            elif name == "scout" and scout_at < len(lows):
                if not lows[scout_at] and frontier.start_ahead(scout_at, before):
                    assert scout_at not in counted
                    in_hand.append(scout_at)
                before = scout_at
                scout_at += 1
            elif name == "finish" and in_hand:
                offset = in_hand.pop(number % len(in_hand))
                finished.add(offset)
                frontier.finish(offset)
            elif name == "commit":
                committed, counted = frontier.commit(), set(finished)
            elif name == "crash":
                frontier, finished, in_hand = Frontier(*committed), set(counted), []
                read_at = scout_at = committed[0]
                before = None
            assert len(in_hand) == len(set(in_hand))
        frontier = Frontier(*committed)
        left = [o for o in range(committed[0], len(lows)) if frontier.start(o)]
        assert set(left) | counted == set(range(len(lows)))
        assert not set(left) & counted
