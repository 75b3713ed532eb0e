"""Where a worker stands: whether it makes progress, and whether it does its part.

Alive is who goes round its loop; the log may be away meanwhile (K8-4). Ready is who has its share
of the partitions, with their tables, and can reach the log. Reasons are words of a closed set, with
names of pipelines and stages and codes of errors, and nothing else: anybody may read them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streams.clock import Clock
from streams.errors import LogUnavailable, StreamsError

STALLED_AFTER = 60.0
"""Seconds without a turn of its loop after which a member is taken for stuck."""

Why = Literal[
    "starting",
    "opening-stages",
    "stage-not-open",
    "unassigned",
    "restoring",
    "log-unreachable",
    "restarting",
    "stalled",
    "source-halted",
    "draining",
]


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a worker is not ready."""

    reason: Why
    pipeline: str = ""
    member: str = ""
    detail: str = ""


class Pulse:
    """What one member, an agent or the keeper, last said of itself."""

    def __init__(self, clock: Clock, member: str) -> None:
        self.member = member
        self._clock = clock
        self._beat = clock.monotonic()
        self._assigned = False
        self._trouble: StreamsError | None = None

    def began(self) -> None:
        """It knows nothing yet of what it owns."""
        self._assigned = False
        self.beat()

    def beat(self) -> None:
        """It has gone round."""
        self._beat = self._clock.monotonic()

    def went_round(self, *, assigned: bool) -> None:
        """It has gone round, with the log: whatever trouble there was is over."""
        self.beat()
        self._assigned = self._assigned or assigned
        self._trouble = None

    def troubled(self, error: StreamsError) -> None:
        """It begins anew."""
        self.beat()
        self._assigned = False
        self._trouble = error

    def reasons(self, pipeline: str, restoring: str = "") -> list[Reason]:
        """What keeps it from its work. `restoring`: what it has not read yet."""
        found: list[Reason] = []

        def note(why: Why, detail: str = "") -> None:
            found.append(Reason(why, pipeline, self.member, detail))

        idle = self._clock.monotonic() - self._beat
        if idle > STALLED_AFTER:
            note("stalled", f"{idle:.0f} s")
        if self._trouble is not None:
            away = isinstance(self._trouble, LogUnavailable)
            note("log-unreachable" if away else "restarting", self._trouble.code)
        elif restoring:
            note("restoring", restoring)
        elif not self._assigned:
            note("unassigned")
        return found
