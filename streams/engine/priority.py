"""Who goes first: the queue of what waits for one stage, by the priority of its job.

Higher first, and first come first served among equals. Ageing is counted, not timed: whoever is
first of a lower priority is passed by `PATIENCE` starts, then it is its turn, the lowest first. So
under a load of high jobs that never ends, low and normal ones have one start in nine each, and
nothing waits for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final, Generic, Literal, TypeVar, get_args

Priority = Literal["high", "normal", "low"]
NORMAL: Final[Priority] = "normal"
LOW: Final[Priority] = "low"
PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)
"""Highest first."""
PATIENCE: Final = 8
"""Starts that may pass the first of a lower priority."""

D = TypeVar("D")


def priority_of(word: object) -> Priority:
    """What an event says of its job; any other word, and none, is normal."""
    return word if word in PRIORITIES else NORMAL


class Ranked(Generic[D]):
    """A queue like a deque, but for who comes out next."""

    __slots__ = ("_passed", "_priority_of", "_queues")

    def __init__(self, priority_of: Callable[[D], Priority], items: Iterable[D] = ()) -> None:
        self._priority_of = priority_of
        self._queues: dict[Priority, deque[D]] = {each: deque() for each in PRIORITIES}
        self._passed: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        for item in items:
            self.append(item)

    def append(self, item: D) -> None:
        """It waits, behind those of its priority."""
        self._queues[self._priority_of(item)].append(item)

    def popleft(self) -> D:
        """The next to start. Raises `IndexError` where nothing waits."""
        waiting = [each for each in PRIORITIES if self._queues[each]]
        if not waiting:
            raise IndexError("nothing waits")
        chosen = waiting[0]
        for each in reversed(waiting[1:]):
            if self._passed[each] >= PATIENCE:
                chosen = each
                break
        for each in waiting:
            self._passed[each] += 1
        self._passed[chosen] = 0
        return self._queues[chosen].popleft()

    def drop(self, gone: Callable[[D], bool]) -> None:
        """Takes these out; what has been waiting keeps its turn."""
        for name, queue in self._queues.items():
            self._queues[name] = deque(item for item in queue if not gone(item))

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[D]:
        return chain.from_iterable(self._queues.values())
