"""Threads for sync stages: bounded, and none of them can keep the process from ending.

The standard pool joins its threads at exit, so one stage that never returns would hang the
worker's shutdown. These are daemons; a thread that is given up is replaced by a fresh one, up to
twice the size, and ends by itself if its stage ever returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Protocol

from streams.clock import Clock


class Work:
    """One call on its way through a thread."""

    __slots__ = ("abandoned", "began", "future", "loop", "run", "running")

    def __init__(self, run: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.run = run
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.running = False
        self.abandoned = False
        self.began: float | None = None
        """When a thread took it, by the clock's monotonic time: waiting for one is not running."""


class Threading(Protocol):
    """Where sync stages run. Production has `Threads`; a test driver may run them on the spot."""

    def submit(self, run: Callable[[], Any]) -> Work: ...
    def abandon(self, work: Work) -> None: ...
    def close(self) -> int: ...


class Threads:
    """Runs calls in at most `size` threads; the rest wait in order."""

    def __init__(self, size: int, clock: Clock, name: str = "stage") -> None:
        self._size = size
        self._clock = clock
        self._name = name
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._lost = 0
        self._made = 0
        self._closed = False

    @property
    def lost(self) -> int:
        """Threads that were given up and still run."""
        return self._lost

    def submit(self, run: Callable[[], Any]) -> Work:
        """Starts `run` in a thread, with the caller's context variables; it must not raise."""
        context = copy_context()
        work = Work(lambda: context.run(run), asyncio.get_running_loop())
        with self._lock:
            if self._closed:
                raise RuntimeError("the thread pool is closed")
            self._queue.put(work)
            if self._idle:
                self._idle -= 1
            else:
                self._grow()
        return work

    def abandon(self, work: Work) -> None:
        """Stops waiting for `work`: what it returns is dropped, and its thread is replaced."""
        with self._lock:
            work.abandoned = True
            work.future.cancel()
            if work.running:
                self._lost += 1
                if not self._queue.empty():
                    self._grow()

    def close(self, grace: float = 1.0) -> int:
        """Ends all threads; returns how many did not end within the grace."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            for _ in threads:
                self._queue.put(None)
        for thread in threads:
            # Given-up ones are not waited for: they had their time.
            thread.join(grace if not self._lost else 0.05)
        return sum(thread.is_alive() for thread in threads)

    def _grow(self) -> None:
        """One more thread, unless there are enough. The lock is held."""
        if len(self._threads) - self._lost >= self._size or len(self._threads) >= 2 * self._size:
            return
        self._made += 1
        thread = threading.Thread(
            target=self._serve, name=f"{self._name}-{self._made}", daemon=True
        )
        self._threads.add(thread)
        thread.start()

    def _serve(self) -> None:
        try:
            while (work := self._queue.get()) is not None:
                if self._do(work):
                    return
                with self._lock:
                    self._idle += 1 if self._queue.empty() else 0
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _do(self, work: Work) -> bool:
        """Runs one call; True if this thread was given up meanwhile and has to end."""
        with self._lock:
            if work.abandoned:
                return False
            work.running = True
            work.began = self._clock.monotonic()
        result = work.run()
        if self._was_abandoned(work):
            return True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            work.loop.call_soon_threadsafe(_deliver, work.future, result)
        return False

    def _was_abandoned(self, work: Work) -> bool:
        with self._lock:
            work.running = False
            self._lost -= work.abandoned
            return work.abandoned


def _deliver(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)
