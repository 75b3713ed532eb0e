"""Broker time, guessed without asking: deadlines must not trust a worker's own clock blindly.

Deadlines are set from the log's append times. While nothing arrives, time is the local clock, as
long as it agrees with the append times of fresh records; where it is off by more than `SKEW`, it
is the newest append time seen plus what a monotonic clock has counted since. It never goes back.
"""

from __future__ import annotations

from streams.clock import Clock
from streams.observe.logs import get_logger

SKEW = 5_000
"""How far (ms) the local clock may be from the log's before it is no longer believed."""

SET_BACK = 1_000
"""A clock that falls by more than this (ms) was set; by less, time waits for it."""

log = get_logger(__name__)


class PartitionTime:
    """The time of one partition."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._newest = 0
        self._seen_at = 0.0
        self._last = 0
        self._last_at = 0.0
        self.skewed = False

    def saw(self, timestamp: int, *, fresh: bool) -> None:
        """A record's append time; `fresh` if it was appended only just now."""
        if timestamp > self._newest:
            self._newest = timestamp
            self._seen_at = self._clock.monotonic()
        if fresh:
            skewed = abs(self._clock.now() - timestamp) > SKEW
            if skewed and not self.skewed:
                log.warning("clock.skewed", local=self._clock.now(), log=timestamp)
            self.skewed = skewed

    def now(self) -> int:
        """Never falls, and never stands still for longer than `SET_BACK`."""
        monotonic = self._clock.monotonic()
        counted = self._newest + round((monotonic - self._seen_at) * 1000)
        believed = counted if self.skewed and self._newest else self._clock.now()
        if believed < self._last - SET_BACK:
            # The local clock was set back: time goes on, or no deadline would come until it has
            # caught up again.
            believed = self._last + round((monotonic - self._last_at) * 1000)
        believed = max(believed, self._newest)
        if believed > self._last:
            self._last, self._last_at = believed, monotonic
        return self._last
