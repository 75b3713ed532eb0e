"""Waits for running user code, but no longer than it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from streams.authoring.context import CancelToken
from streams.runtime.call_deadlines import Deadline, Deadlines

Stopped = Literal["cancel", "timeout"]


class Watch:
    """One call under supervision.

    Whoever comes first decides: the call's end, the time limit, or the token. After a stop the
    code has `grace` seconds to return by itself; then it is given up.
    """

    def __init__(
        self,
        *,
        token: CancelToken,
        deadlines: Deadlines,
        grace: float,
        interrupt: Callable[[], object],
        give_up: Callable[[], object],
        began: Callable[[], float | None] | None = None,
    ) -> None:
        self._token = token
        self._deadlines = deadlines
        self._grace = grace
        self._interrupt = interrupt
        self._give_up = give_up
        self._began = began
        """When the code really began, if it may have to wait for a thread."""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending: list[Deadline] = []
        self.stopped: Stopped | None = None
        self.given_up = False

    async def wait(self, done: asyncio.Future[Any], limit: float | None) -> None:
        """Returns when `done` is, or when the code was given up."""
        loop = asyncio.get_running_loop()
        done.add_done_callback(self._finish)
        parent = self._token.parent or self._token
        forget = parent.on_set(lambda: loop.call_soon_threadsafe(self._stop, "cancel"))
        if limit is not None:
            self._limit(limit, limit)
        try:
            await self._ended
        except asyncio.CancelledError:
            # The worker ends: the code is told, and not waited for.
            self._token.set("the worker is stopping")
            self._interrupt()
            self._give_up()
            raise
        finally:
            forget()
            for deadline in self._pending:
                deadline.cancel()

    def _limit(self, limit: float, wait: float) -> None:
        self._pending.append(self._deadlines.after(wait, lambda: self._expired(limit)))

    def _expired(self, limit: float) -> None:
        if self._began is not None:
            began = self._began()
            left = limit if began is None else limit - self._deadlines.elapsed(began)
            if left > 0.001:
                self._limit(limit, left)
                return
        self._stop("timeout")

    def _stop(self, why: Stopped) -> None:
        if self._ended.done() or self.stopped is not None:
            return
        self.stopped = why
        self._token.set("time is up" if why == "timeout" else "")
        self._pending.append(self._deadlines.after(self._grace, self._abandon))
        self._interrupt()

    def _abandon(self) -> None:
        if not self._ended.done():
            self.given_up = True
            self._ended.set_result(None)
            self._give_up()

    def _finish(self, _: asyncio.Future[Any]) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
