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
import heapq
import itertools
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

START = 1_800_000_000_000
"""Where virtual wall clocks begin (ms): a round moment of January 2027."""


SAME_MOMENT = 1e-6
"""Seconds: finer than any sleep, coarser than a float's last digit after years of virtual time."""
MOST_CANCELLED = 100
"""Timers that may wait for nothing, before they are thrown away if they are the majority."""


class _Numbered:
    """Mixin: hashed by when it was made. Sets of tasks and futures (`asyncio.wait` makes them) are
    then gone through in the same order in every run, not by where they happen to lie in memory."""

    _number: int

    def __hash__(self) -> int:
        return self._number


class NumberedTask(_Numbered, asyncio.Task):  # type: ignore[type-arg]
    """A task of a virtual loop."""


class NumberedFuture(_Numbered, asyncio.Future):  # type: ignore[type-arg]
    """A future of a virtual loop."""


class Stuck(RuntimeError):
    """Everything waits and no timer is set: in real life this would hang for ever."""


class _Timer(asyncio.TimerHandle):
    """A timer that knows whether it is still to come."""

    __slots__ = ("waits",)
    waits: bool


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order they were scheduled, in virtual time; timers of one moment in
    the order in which they were set."""

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self, busy: Callable[[], bool] | None = None) -> None:
        super().__init__()
        self._virtual = 0.0
        self._busy = busy or (lambda: False)
        self._woken = threading.Event()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._set = itertools.count()
        self._vain = 0
        """How many of the timers are cancelled."""
        self._numbers = itertools.count()
        self.set_task_factory(_new_task)

    def create_future(self) -> asyncio.Future[Any]:
        future = NumberedFuture(loop=self)
        future._number = next(self._numbers)  # noqa: SLF001 - same module
        return future

    def time(self) -> float:
        return self._virtual

    # The base class's turn looks for sockets, measures its callbacks and compares timers in
    # Python. Nothing of that is of use here, and a simulation is mostly turns.

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready and not self._stopping:
            self._pass_time()
        limit = self._virtual + SAME_MOMENT
        while timers and timers[0][0] < limit:
            timer = self._pop_timer()
            if not timer.cancelled():
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:  # noqa: SLF001 - a loop's own
                handle._run()  # noqa: SLF001

    def _pass_time(self) -> None:
        """Nothing is ready: it is the time of the next timer, or a thread has something to say."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            self._pop_timer()
        if self._woken.is_set():
            self._woken.clear()
        elif self._busy():
            # A thread is at work. It will say so; the timeout is for one that never does.
            self._woken.wait(0.05)
        elif timers:
            self._virtual = max(self._virtual, timers[0][0])
        else:
            raise Stuck("everything waits and no timer is set")

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Calls it when that time has come."""
        timer = _Timer(when, callback, args, self, context)
        timer.waits = True
        heapq.heappush(self._timers, (when, next(self._set), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Calls it after so many seconds."""
        return self.call_at(self._virtual + delay, callback, *args, context=context)

    def _pop_timer(self) -> asyncio.TimerHandle:
        timer = heapq.heappop(self._timers)[2]
        timer.waits = False
        if timer.cancelled():
            self._vain -= 1
        return timer

    def _timer_handle_cancelled(self, timer: _Timer) -> None:
        """What the base class calls when a timer is cancelled, for the first time."""
        if not timer.waits:
            return
        self._vain += 1
        if self._vain > MOST_CANCELLED and self._vain > len(self._timers) // 2:
            # This one says that it is cancelled only after this.
            self._timers[:] = [
                each for each in self._timers if each[2] is not timer and not each[2].cancelled()
            ]
            heapq.heapify(self._timers)
            timer.waits = False
            self._vain = 0

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


def _end(wait: asyncio.Future[None]) -> None:
    if not wait.done():
        wait.set_result(None)


def _new_task(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
    assert isinstance(loop, VirtualLoop)
    task = NumberedTask.__new__(NumberedTask)
    task._number = next(loop._numbers)  # noqa: SLF001 - same module; before it is put into sets
    task.__init__(work, loop=loop, **more)  # type: ignore[misc]
    return task


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
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        # `asyncio.sleep` without its detours: half of what waits in a simulation waits here.
        over: asyncio.Future[None] = asyncio.Future(loop=self._loop)
        timer = self._loop.call_later(seconds, _end, over)
        try:
            await over
        finally:
            timer.cancel()

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
