"""The log's time, without trusting a worker's own clock: no deadline comes early, however wrong it is.

Whenever a record is read, the log's clock has passed the time at which it was appended; from then
on a monotonic clock counts. What is known that way is never ahead of the log. To know it closely
from the start, a keeper writes one record to the control topic and reads it back; it asks again
when its own clock runs away from what was counted, as after a machine was asleep.
"""

from __future__ import annotations

from streams.clock import Clock
from streams.observe.logs import get_logger

SKEW = 5_000
"""A local clock that is further (ms) from the log's than this is worth a warning."""
DRIFT = 5
"""A local clock that moves this far (ms) ahead of what was counted makes one ask again."""
PATIENCE = 1.0
"""Seconds that an answer may take before the question is asked again."""
A_MICROSECOND = 0.001
"""In ms: what a float may lack of a whole number."""

log = get_logger(__name__)


class LogTime:
    """What one process knows of the log's time. It never falls."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = float(-(2**62))
        """Log's time less monotonic time (ms): the most that was proven."""
        self._newest = 0
        self._skew = 0
        """Local clock less log's time (ms), when the log was last asked."""
        self._asked: float | None = None
        """When a question went out that has no answer yet."""

    def now(self) -> int:
        """Milliseconds since 1970, at most the log's own."""
        return max(self._newest, int(self._ahead + self._counted() + A_MICROSECOND))

    def saw(self, timestamp: int) -> None:
        """A record of this append time was read."""
        if timestamp > self._newest:
            self._newest = timestamp
            self._ahead = max(self._ahead, timestamp - self._counted())

    @property
    def in_doubt(self) -> bool:
        """Whether the log should be asked what time it is."""
        if self._asked is not None and self._clock.monotonic() - self._asked < PATIENCE:
            return False
        return self._clock.now() - self.now() - self._skew > DRIFT

    def asks(self) -> None:
        """The log is being asked."""
        self._asked = self._clock.monotonic()

    def heard(self) -> None:
        """The answer was read: how wrong the local clock is, is known now."""
        skew = self._clock.now() - self.now()
        if abs(skew) > SKEW and abs(skew - self._skew) > SKEW:
            log.warning("clock.skewed", ahead_ms=skew)
        self._skew, self._asked = skew, None

    def _counted(self) -> float:
        """Monotonic time in ms, with fractions: rounded, they would add up to a deadline that is
        early."""
        return self._clock.monotonic() * 1000
