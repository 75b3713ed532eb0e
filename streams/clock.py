"""Time, sleep and randomness as one port, so that a test or a simulation can own them.

Nothing else in the package reads a clock, sleeps or draws a random number (lint bans it).
Times are integers: milliseconds since 1970 (UTC), as in the log's records.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
import uuid
from typing import Protocol


class Clock(Protocol):
    """What the runtime may ask of time and chance."""

    def now(self) -> int:
        """Wall clock, ms since 1970; may jump."""

    def monotonic(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds` of this clock."""

    def random(self) -> float:
        """A number in [0, 1), for jitter."""

    def new_id(self) -> str:
        """A fresh id for something that comes from outside (a submission without one)."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random(self) -> float:
        return random.random()

    def new_id(self) -> str:
        return uuid.uuid4().hex


class ManualClock:
    """A clock that moves only when told; sleepers wake in order of their time."""

    def __init__(self, start: int = 1_800_000_000_000, seed: int = 0) -> None:
        self._now = start
        self._start = start
        self._random = random.Random(seed)
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start) / 1000

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due = self._now + max(1, round(seconds * 1000))
        heapq.heappush(self._sleepers, (due, next(self._order), future))
        await future

    def random(self) -> float:
        return self._random.random()

    def new_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def next_due(self) -> int | None:
        """The time of the earliest sleeper, or None."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def advance(self, seconds: float) -> None:
        """Moves on and wakes whoever is due by then."""
        self._now += round(seconds * 1000)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
