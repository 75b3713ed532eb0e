"""Which delivery may run next.

Deliveries of one address (scope and part) run one after another, in the order they came; different
addresses at will, up to a limit for each part. Parts take turns, so that a part with a long queue
starves nobody; within a part jobs of a higher priority go first (`priority`). A paused part keeps
its queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from streams.engine.priority import NORMAL, Priority, Ranked

D = TypeVar("D")


class Lanes(Generic[D]):
    """Queues by address, turns by part. `part_of`, `address_of` and `priority_of` read a delivery."""

    def __init__(
        self,
        part_of: Callable[[D], Hashable],
        address_of: Callable[[D], Hashable],
        limit_of: Callable[[Hashable], int],
        priority_of: Callable[[D], Priority],
    ) -> None:
        self._part_of = part_of
        self._address_of = address_of
        self._limit_of = limit_of
        self._priority_of = priority_of
        self._ready: dict[Hashable, deque[D] | Ranked[D]] = {}
        """Ranked from the first delivery that is not of normal priority until the queue is empty."""
        self._blocked: dict[Hashable, deque[D]] = {}
        self._running: dict[Hashable, int] = {}
        self._turns: deque[Hashable] = deque()
        self.paused: set[Hashable] = set()

    def add(self, delivery: D) -> None:
        """Queues it: ready at once, or behind the delivery of its address that is under way."""
        address = self._address_of(delivery)
        if address in self._blocked:
            self._blocked[address].append(delivery)
            return
        self._blocked[address] = deque()
        self._make_ready(delivery)

    def next(self) -> D | None:
        """The next delivery that may run, or None."""
        turns = self._turns
        for _ in range(len(turns)):
            part = turns[0]
            queue = self._ready.get(part)
            if not queue:
                turns.popleft()
                self._ready.pop(part, None)
                continue
            turns.rotate(-1)
            running = self._running.get(part, 0)
            if part in self.paused or running >= self._limit_of(part):
                continue
            self._running[part] = running + 1
            return queue.popleft()
        return None

    def done(self, delivery: D) -> None:
        """Its address is free for the next one."""
        part, address = self._part_of(delivery), self._address_of(delivery)
        left = self._running[part] - 1
        if left:
            self._running[part] = left
        else:
            del self._running[part]
        self._free(address)

    def forget(self, gone: Callable[[D], bool]) -> list[D]:
        """Drops what was not started yet and is `gone`; returns it."""
        dropped: list[D] = []
        for address, queue in self._blocked.items():
            dropped += filter(gone, queue)
            self._blocked[address] = deque(d for d in queue if not gone(d))
        heads = [d for queue in self._ready.values() for d in queue if gone(d)]
        for part, waiting in self._ready.items():
            if isinstance(waiting, Ranked):
                waiting.drop(gone)
            else:
                self._ready[part] = deque(d for d in waiting if not gone(d))
        for head in heads:
            self._free(self._address_of(head))
        return dropped + heads

    def running(self, part: Hashable) -> int:
        return self._running.get(part, 0)

    @property
    def waiting(self) -> int:
        """Deliveries that have not started."""
        return sum(map(len, self._ready.values())) + sum(map(len, self._blocked.values()))

    def _make_ready(self, delivery: D) -> None:
        part = self._part_of(delivery)
        queue = self._ready.get(part)
        if queue is None:
            queue = self._ready[part] = deque()
            self._turns.append(part)
        if type(queue) is deque and self._priority_of(delivery) != NORMAL:
            queue = self._ready[part] = Ranked(self._priority_of, queue)
        queue.append(delivery)

    def _free(self, address: Hashable) -> None:
        queue = self._blocked[address]
        if queue:
            self._make_ready(queue.popleft())
        else:
            del self._blocked[address]
