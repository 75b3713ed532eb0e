"""When a member of a group starts anew after trouble with the log, and when it has to end.

After an unknown outcome, a fence or an outage nothing in memory can be believed, so agents and
keepers drop it all and begin again from what is committed. Who is fenced time and again has a
namesake that does the same: the two would throw each other out for ever, so one must go.
"""

from __future__ import annotations

from collections import deque

from streams.clock import Clock
from streams.errors import Fenced, LogError, LogUnavailable, OutcomeUnknown
from streams.observe.logs import get_logger

PASSING = (OutcomeUnknown, Fenced, LogUnavailable)
"""Trouble after which a new beginning helps."""
MOST_FENCES = 5
WITHIN = 60.0
"""So many fences within so many seconds are no accident."""
PAUSE = 0.2
LONGEST_PAUSE = 5.0

log = get_logger(__name__)


class Comebacks:
    """Counts the new beginnings of one member."""

    def __init__(self, clock: Clock, who: str) -> None:
        self._clock = clock
        self._who = who
        self._fences: deque[float] = deque(maxlen=MOST_FENCES)
        self._outages = 0
        self._last = clock.monotonic()

    async def after(self, error: LogError) -> None:
        """Returns when it is time to begin anew; raises the error if that would never end."""
        now = self._clock.monotonic()
        log.warning("member.restarts", member=self._who, code=error.code, error=error.message)
        if isinstance(error, Fenced):
            self._fences.append(now)
            if len(self._fences) == MOST_FENCES and now - self._fences[0] < WITHIN:
                raise error
        self._outages = self._outages + 1 if now - self._last < WITHIN else 0
        self._last = now
        pause = PAUSE
        if isinstance(error, LogUnavailable):
            pause = min(PAUSE * 2 ** min(self._outages, 10), LONGEST_PAUSE)
        await self._clock.sleep(pause)
