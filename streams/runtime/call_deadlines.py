"""Time limits of running calls: one sleeping task for all of them, whatever their number."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable

from streams.clock import Clock


class Deadline:
    """A call back that is due; `cancel` takes it off."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Deadlines:
    """Calls back when the clock passes a time. Made for limits that are rarely reached."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Deadline]] = []
        self._order = itertools.count()
        self._task: asyncio.Task[None] | None = None
        self._sleeping_until = 0.0

    def after(self, seconds: float, callback: Callable[[], None]) -> Deadline:
        """Calls `callback` in `seconds`, unless it is cancelled before."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        deadline = Deadline(callback)
        due = self._clock.monotonic() + seconds
        heapq.heappush(self._heap, (due, next(self._order), deadline))
        if self._task is None or self._task.done() or due < self._sleeping_until:
            self._restart()
        return deadline

    def elapsed(self, since: float) -> float:
        """Seconds since a monotonic time of the same clock."""
        return self._clock.monotonic() - since

    async def close(self) -> None:
        """Forgets all deadlines and ends the task."""
        self._heap.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _restart(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._sleeping_until = self._heap[0][0]
        self._task = asyncio.create_task(self._watch(), name="stage-deadlines")

    async def _watch(self) -> None:
        while self._heap:
            due, _, deadline = self._heap[0]
            if deadline.callback is None:
                heapq.heappop(self._heap)
                continue
            wait = due - self._clock.monotonic()
            if wait > 0:
                self._sleeping_until = due
                await self._clock.sleep(wait)
                continue
            heapq.heappop(self._heap)
            deadline.callback()
