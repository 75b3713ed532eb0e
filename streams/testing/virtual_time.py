"""An event loop whose time is a number: hours pass in milliseconds, and every run is the same.

When nothing is ready the loop does not sleep, it moves its time to the next timer. Work for other
threads (`asyncio.to_thread`) is done on the spot, in its turn, so that nothing outside the loop
decides what comes first. Where real threads cannot be avoided, time stands still while `busy`
says that one of them is at work.

Two times, as on a real machine: the loop's own, which only moves on, and the wall clock of
`VirtualClock`, which may be set (a leap of 400 days, a clock that is wrong) without a single timer
of the loop firing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

START = 1_800_000_000_000
"""Where virtual wall clocks begin (ms): a round moment of January 2027."""


class Stuck(RuntimeError):
    """Everything waits and no timer is set: in real life this would hang for ever."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order they were scheduled, in virtual time."""

    def __init__(self, busy: Callable[[], bool] | None = None) -> None:
        super().__init__()
        self._virtual = 0.0
        # Finer than any sleep, coarser than a float's last digit after years of virtual time.
        self._clock_resolution = 1e-6
        self._busy = busy or (lambda: False)
        self._woken = threading.Event()
        self._selector = self

    def time(self) -> float:
        return self._virtual

    def select(self, timeout: float | None) -> list[Any]:
        """What the loop calls where others wait for sockets."""
        if self._woken.is_set():
            self._woken.clear()
        elif timeout is None or timeout > 0:
            if self._busy():
                # A thread is at work. It will say so; the timeout is for one that never does.
                self._woken.wait(0.05)
                self._woken.clear()
            elif timeout is None:
                raise Stuck("everything waits and no timer is set")
            else:
                self._virtual += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        self._woken.set()

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Done here and now: a thread's timing would be chance."""
        del executor
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed to who awaits it
            future.set_exception(error)
        return future

    def run(self, work: Awaitable[T]) -> T:
        """What `work` gives."""
        return self.run_until_complete(work)


class VirtualClock:
    """The wall clock and the chance of one machine on a virtual loop."""

    def __init__(self, loop: VirtualLoop, *, start: int = START, seed: int = 0) -> None:
        self._loop = loop
        self._start = start
        self._random = random.Random(seed)
        self.offset = 0
        """How far (ms) this machine's wall clock is set off the time that passes."""

    def now(self) -> int:
        return self._start + round(self._loop.time() * 1000) + self.offset

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random(self) -> float:
        return self._random.random()

    def new_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def leap(self, seconds: float) -> None:
        """The wall clock is that much later at once; no timer of the loop fires for it."""
        self.offset += round(seconds * 1000)


@contextlib.contextmanager
def virtual_loop(busy: Callable[[], bool] | None = None) -> Iterator[VirtualLoop]:
    """A loop for one run; whatever was left running on it is cancelled at the end."""
    loop = VirtualLoop(busy)
    try:
        yield loop
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
