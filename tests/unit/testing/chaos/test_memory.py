"""The growth of processes that are killed and started again all the time."""

import os

from streams.testing.chaos.memory import MEBIBYTE, resident, slope


def test_each_life_has_a_level_of_its_own():
    """Row 40: a restarted worker begins small; that is no shrinking, and no growth either."""
    first = [(second, (100 + second / 60) * MEBIBYTE) for second in range(0, 600, 10)]
    second = [(1_000 + second, (50 + second / 60) * MEBIBYTE) for second in range(0, 600, 10)]

    assert round(slope([first, second]), 6) == 60.0


def test_a_single_look_says_nothing_of_growth():
    """A worker that was killed at once."""
    assert slope([[(0.0, 1)], []]) is None


def test_the_memory_of_a_process_is_known_while_it_lives():
    """Its number may be another's, or nobody's, a moment later."""
    assert resident(os.getpid()) > MEBIBYTE
    assert resident(0x7FFFFFF) is None
