"""Sync stages on the spot, and a loop that may be entered from anywhere.

In production a sync stage runs in a thread; a thread's timing is chance, so a test runs it where
it stands. What it may do in a thread (`asyncio.run`, for instance) it may do here: for as long as
it runs, its thread has no running loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.events import _get_running_loop, _set_running_loop
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

from streams.clock import Clock
from streams.runtime.call_threads import Work


@contextlib.contextmanager
def outside_of_any_loop() -> Iterator[None]:
    """Inside the block this thread has no running loop; afterwards all is as it was."""
    loop = _get_running_loop()
    task = asyncio.current_task(loop) if loop is not None else None
    if loop is not None and task is not None:
        _leave_task(loop, task)
    _set_running_loop(None)
    try:
        yield
    finally:
        _set_running_loop(loop)
        if loop is not None and task is not None:
            _enter_task(loop, task)


class OnTheSpot:
    """Runs each call when it is handed in; nothing ever waits for a thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def submit(self, run: Callable[[], Any]) -> Work:
        """The work, done."""
        work = Work(run, asyncio.get_running_loop())
        work.began = self._clock.monotonic()
        with outside_of_any_loop():
            work.future.set_result(copy_context().run(run))
        return work

    def abandon(self, work: Work) -> None:
        """Nobody waits for it any more."""
        work.future.cancel()

    def close(self) -> int:
        return 0
