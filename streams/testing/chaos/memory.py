"""How the memory of worker processes grows, over all their lives."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, median

from streams.clock import Clock
from streams.testing.chaos.site import Site

PAGE = 4096
EVERY = 2.0
"""Seconds between two looks."""
GROWN_UP = 20.0
"""Seconds of a life that do not count: modules are imported, tables read, caches filled."""
MEBIBYTE = 1 << 20
HOUR = 3600.0

Sample = tuple[float, int]
"""Seconds since some moment, and resident bytes."""


class Memory:
    """Looks at every worker now and then; each start of one is a life of its own."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock
        self._lives: dict[str, dict[int, list[Sample]]] = defaultdict(dict)

    async def watch(self) -> None:
        """Looks until it is cancelled."""
        while True:
            now = self._clock.monotonic()
            for name in self._site.alive:
                pid = self._site.pid(name)
                if (size := resident(pid)) is not None:
                    self._lives[name].setdefault(pid, []).append((now, size))
            await asyncio.sleep(EVERY)

    def slope(self, name: str) -> float | None:
        """MiB an hour by which a worker of that name grows; None if no life was long enough."""
        return slope(self._grown_up(name))

    def typical(self, name: str) -> float:
        """MiB that it mostly has."""
        sizes = [size for life in self._grown_up(name) for _, size in life]
        return median(sizes) / MEBIBYTE if sizes else 0.0

    def names(self) -> list[str]:
        return sorted(self._lives)

    def _grown_up(self, name: str) -> list[list[Sample]]:
        lives = self._lives[name].values()
        return [[each for each in life if each[0] - life[0][0] >= GROWN_UP] for life in lives]


def slope(lives: Iterable[Sequence[Sample]]) -> float | None:
    """MiB an hour: least squares over all lives, each with a level of its own."""
    above = below = 0.0
    for life in lives:
        if len(life) < 2:
            continue
        middle, level = mean(at for at, _ in life), mean(size for _, size in life)
        above += sum((at - middle) * (size - level) for at, size in life)
        below += sum((at - middle) ** 2 for at, _ in life)
    return above / below * HOUR / MEBIBYTE if below else None


def resident(pid: int) -> int | None:
    """Bytes of memory that a process has; None if there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return None
