"""Positions as sets: which offsets a committed position counts as finished."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from streams.broker.port import Committed
from streams.engine.frontier import parse


class Mark(NamedTuple):
    """A position, read: all below `offset` is finished, what is below `high` and not listed, and
    what was taken before its turn."""

    offset: int
    high: int
    unfinished: frozenset[int]
    ahead: tuple[tuple[int, int], ...] = ()

    @property
    def end(self) -> int:
        """It counts nothing from here on as finished."""
        return max(self.offset, self.high, *(last + 1 for _, last in self.ahead))

    def has(self, offset: int) -> bool:
        """Whether it counts this offset as finished."""
        if offset < self.offset:
            return True
        if any(first <= offset <= last for first, last in self.ahead):
            return True
        return self.offset < offset < self.high and offset not in self.unfinished

    def forgets(self, before: Mark) -> bool:
        """Whether something counts as unfinished again that was finished before."""
        if self.offset < before.offset:
            return True
        if any(before.has(offset) for offset in self.unfinished):
            return True
        if self.high > self.offset and before.has(self.offset):
            return True
        beyond = range(max(self.high, self.offset), before.end)
        return any(before.has(offset) and not self.has(offset) for offset in beyond)


NOTHING = Mark(0, 0, frozenset())
"""Where a group stands that has never committed."""


@lru_cache(maxsize=4096)
def mark_of(position: Committed | None) -> Mark:
    """The position as a mark. Raises `LogError` for metadata that nobody can read."""
    if position is None:
        return NOTHING
    offset, metadata = position
    if not metadata:
        return Mark(offset, offset, frozenset())
    _, _, _, high, ahead, unfinished = parse(offset, metadata)
    runs = tuple(zip(ahead[::2], ahead[1::2], strict=True))
    return Mark(offset, max(high, offset), frozenset(unfinished), runs)
