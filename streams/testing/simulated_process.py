"""The processes that use a simulated log, and what can be done to them.

A killed process never hears from the log again; a frozen one (SIGSTOP) goes on where it stood
when it is thawed, whatever happened meanwhile; one that is cut off is told that the log cannot be
reached. None of them says so to the log: their members are missed when their session is over.
"""

from __future__ import annotations

import asyncio


class Process:
    """One life of a process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.cut = False
        self.frozen: asyncio.Future[None] | None = None
        self.silent_since: float | None = None
        """Since when (monotonic) its heartbeats have been missing."""

    @property
    def halted(self) -> bool:
        return not self.alive or self.frozen is not None

    async def runs(self) -> bool:
        """Returns when the process is not frozen: True, or False if it is dead."""
        while self.frozen is not None:
            await asyncio.shield(self.frozen)
        return self.alive

    async def gate(self) -> None:
        """Returns when the process runs: at once, after a thaw, or never."""
        if not await self.runs():
            await asyncio.get_running_loop().create_future()

    def kill(self, now: float) -> None:
        """Nothing it asked for, or asks for in its last breath, ever returns."""
        self.alive = False
        self._falls_silent(now)
        self._release()

    def freeze(self, now: float) -> None:
        """It stands still until `thaw`."""
        if self.frozen is None:
            self.frozen = asyncio.get_running_loop().create_future()
        self._falls_silent(now)

    def thaw(self) -> None:
        """It goes on, with all it believed when it was frozen."""
        self._release()
        self._is_heard()

    def cut_off(self, now: float) -> None:
        """It runs, but does not reach the log."""
        self.cut = True
        self._falls_silent(now)

    def mend(self) -> None:
        """It reaches the log again."""
        self.cut = False
        self._is_heard()

    def _release(self) -> None:
        if self.frozen is not None:
            self.frozen.set_result(None)
            self.frozen = None

    def _falls_silent(self, now: float) -> None:
        if self.silent_since is None:
            self.silent_since = now

    def _is_heard(self) -> None:
        if self.alive and not self.cut and self.frozen is None:
            self.silent_since = None
