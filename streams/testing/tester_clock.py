"""The wall clock of a test: it stands still unless somebody works, and leaps when told to."""

from __future__ import annotations

from streams.testing.virtual_time import START, VirtualClock, VirtualLoop

__all__ = ["START", "LogClock", "TesterClock"]


class TesterClock(VirtualClock):
    """The loop's time goes on while workers poll for work; a test's `advance(seconds=9)` must mean
    nine seconds all the same. So the wall clock runs only while `running` is set."""

    __test__ = False

    def __init__(self, loop: VirtualLoop, *, start: int = START, seed: int = 0) -> None:
        super().__init__(loop, start=start, seed=seed)
        self._wall = float(start)
        self._leapt = 0.0
        self._since: float | None = None
        """Loop time at which it was set going; None while it stands."""

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self._exactly())

    def monotonic(self) -> float:
        """Seconds that somebody worked: what leaps, leaps past everybody's monotonic clock."""
        return (self._exactly() - self._leapt - self._start) / 1000

    def go(self) -> None:
        """Somebody works: time passes."""
        if self._since is None:
            self._since = self._loop.time()

    def stand(self) -> None:
        """Nobody works."""
        self._wall, self._since = self._exactly(), None

    def leap(self, seconds: float) -> None:
        """It is that much later at once; no timer of the loop fires for it."""
        self._wall += seconds * 1000
        self._leapt += seconds * 1000

    def _exactly(self) -> float:
        passed = 0.0 if self._since is None else self._loop.time() - self._since
        return self._wall + passed * 1000


class LogClock(VirtualClock):
    """The log's clock: the wall's time for its records, the loop's for who is alive."""

    def __init__(self, loop: VirtualLoop, wall: TesterClock) -> None:
        super().__init__(loop)
        self._of = wall

    def now(self) -> int:
        """Milliseconds since 1970, as everybody's in the test."""
        return self._of.now()
