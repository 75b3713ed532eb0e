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

log = get_logger(__name__)


class PartitionTime:
    """The time of one partition."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._newest = 0
        self._seen_at = 0.0
        self._last = 0
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
        """Never falls."""
        elapsed = round((self._clock.monotonic() - self._seen_at) * 1000)
        counted = self._newest + elapsed if self._newest else 0
        believed = counted if self.skewed and counted else max(self._clock.now(), self._newest)
        self._last = max(self._last, believed)
        return self._last
