"""How fast rows are committed over a trial, and how soon that is as it was after a fault."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

WINDOW = 2.0
STEP = 0.1
LASTING = 2.0
"""Seconds for which the rate has to stay what it was: a single good window is no recovery."""
ENOUGH = 0.9
"""Of the rate before: with that the load has recovered."""
SOON = 3.0
"""Seconds within which a fault shows, if it shows at all."""


class Rates:
    """Moments at which committed rows could be read, in their order."""

    def __init__(self, moments: Sequence[float]) -> None:
        self._moments = sorted(moments)

    def at(self, moment: float) -> float:
        """Rows a second in the window that begins then."""
        count = self.count(moment, moment + WINDOW)
        return count / WINDOW

    def count(self, since: float, until: float) -> int:
        return bisect_left(self._moments, until) - bisect_left(self._moments, since)

    def median(self, since: float, until: float) -> float:
        """Of the windows that lie between."""
        rates = [self.at(since + n * STEP) for n in range(int((until - since - WINDOW) / STEP))]
        return median(rates) if rates else 0.0

    def recovered(self, fault: float, base: float, until: float) -> float | None:
        """Seconds from the fault until the rate is back; 0 where it never fell, None where it is
        not back by then."""
        wanted = ENOUGH * base
        good_since: float | None = fault
        fell = False
        moment = fault
        while moment + WINDOW <= until:
            if self.at(moment) < wanted:
                good_since, fell = None, True
            elif good_since is None:
                good_since = moment
            elif moment - good_since >= (LASTING if fell else SOON):
                return good_since - fault
            moment += STEP
        return None

    def longest_silence(self, since: float, until: float) -> float:
        """Seconds for which nothing at all could be read."""
        first, last = bisect_left(self._moments, since), bisect_left(self._moments, until)
        marks = [since, *self._moments[first:last], until]
        return max(after - before for before, after in pairwise(marks))
