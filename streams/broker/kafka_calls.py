"""Calls of the client library from the loop: each in a thread of its client, each watched.

Every call of the library may block, some of them for longer than they promise. So none is made on
the loop, and a call that does not come back is given up: its client is of no use any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from streams.broker.kafka_errors import stuck
from streams.clock import Clock

T = TypeVar("T")

WATCHDOG = 45.0
"""Seconds after which a call that should have returned long ago is given up."""
GRACE = 3.0
"""Seconds by which a call may come back later than it promised."""
LOOK = 1.0
"""Seconds between looks at a call that takes long."""


class _Call:
    """Work to be done in the thread, and who waits for it."""

    __slots__ = ("future", "loop", "resumes", "work")

    def __init__(self, work: Callable[[], Any], resumes: bool) -> None:
        self.work = work
        self.resumes = resumes
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.future.add_done_callback(_heard)

    def answer(self, result: Any, error: BaseException | None = None) -> None:
        def tell() -> None:
            if self.future.done():
                return
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(tell)


def _heard(future: asyncio.Future[Any]) -> None:
    """Whoever asked may be gone; its error is no news then."""
    if not future.cancelled():
        future.exception()


class Hands:
    """One daemon thread that makes the calls of one client, in their order."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._current: _Call | None = None
        self._put_back: _Call | None = None
        self._ended = False
        self._due = math.inf
        """When the call that is being made should have come back by its own promise."""
        self.is_stuck = False

    # -- on the loop ------------------------------------------------------------------------

    async def do(self, work: Callable[[], T], seconds: float = WATCHDOG) -> T:
        """What `work` gives. Raises `LogUnavailable` if it does not come back in time."""
        return await self.answered(self.ask(work), seconds)

    def ask(self, work: Callable[[], T], *, resumes: bool = False) -> asyncio.Future[T]:
        """Begins `work` when what was asked before is done. One that `resumes` goes on where
        `hand_over` waits, instead of being done itself."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        call = _Call(work, resumes)
        self._calls.put(call)
        return call.future

    async def answered(self, future: asyncio.Future[T], seconds: float) -> T:
        """The answer; who is cancelled while waiting may ask for it again."""
        until = self._clock.monotonic() + seconds
        while not future.done():
            now = self._clock.monotonic()
            if self.is_stuck or now >= until or now >= self._due:
                self.is_stuck = True
                raise stuck(self._name, self._whereabouts())
            await asyncio.wait({future}, timeout=min(until - now, LOOK))
        return future.result()

    def _whereabouts(self) -> str:
        """The line of ours that made the call which does not come back."""
        ident = self._thread.ident if self._thread is not None else None
        frame = sys._current_frames().get(ident or 0)  # noqa: SLF001 - there is no other way
        if frame is None:
            return "nowhere"
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"

    async def end(self, last: Callable[[], Any], seconds: float) -> None:
        """The thread ends after one last call; never raises."""
        if self._ended:
            return
        self._ended = True
        if self._thread is not None:
            if not self.is_stuck:
                with contextlib.suppress(Exception):
                    await self.do(last, seconds)
            self._calls.put(None)

    # -- in the thread ----------------------------------------------------------------------

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the call that is being made."""
        return self._current is not None

    @contextlib.contextmanager
    def watched(self, seconds: float) -> Iterator[None]:
        """A call inside that promises to come back within `seconds` is held to that; some do not
        (librdkafka #5456, #5511: `send_offsets_to_transaction` while a coordinator is away)."""
        self._due = self._clock.monotonic() + seconds + GRACE
        try:
            yield
        finally:
            self._due = math.inf

    def hand_over(self, result: object, seconds: float) -> bool:
        """The call being made returns `result`; true when the next one that `resumes` has come,
        which the rest of this call then answers. False when time is up, or the client closes."""
        if self._current is not None:
            self._current.answer(result)
            self._current = None
        until = self._clock.monotonic() + seconds
        while True:
            try:
                call = self._calls.get(timeout=max(0.0, until - self._clock.monotonic()))
            except queue.Empty:
                return False
            if call is None:
                self._calls.put(None)
                return False
            if call.resumes:
                self._current = call
                return True
            if self._ended:
                self._put_back = call
                return False
            _make(call)

    def _serve(self) -> None:
        while True:
            call, self._put_back = self._put_back, None
            if call is None and (call := self._calls.get()) is None:
                return
            self._current = call
            result, error = None, None
            try:
                result = call.work()
            except BaseException as raised:  # noqa: BLE001 - handed to who awaits it
                error = raised
            answering, self._current = self._current, None
            if answering is not None:
                answering.answer(result, error)
            del call, answering, result, error


def _make(call: _Call) -> None:
    try:
        call.answer(call.work())
    except BaseException as error:  # noqa: BLE001 - handed to who awaits it
        call.answer(None, error)
