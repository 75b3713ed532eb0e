"""Times at which something has to be looked at again, the earliest first."""

from __future__ import annotations

import heapq

Hold = tuple[str, str]
"""Scope and part."""

MOST_STALE = 1_000


class Timers:
    """One time for each hold. Entries of the heap that no longer hold are left in place, until
    they are more than those that do."""

    def __init__(self) -> None:
        self._due: dict[Hold, int] = {}
        self._heap: list[tuple[int, str, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def schedule(self, hold: Hold, due: int | None) -> None:
        """Comes up when `due`, and not at any other time; None: never."""
        if due is None:
            self._due.pop(hold, None)
        elif self._due.get(hold) != due:
            self._due[hold] = due
            if len(self._heap) > 2 * len(self._due) + MOST_STALE:
                self._heap = [(at, *each) for each, at in self._due.items()]
                heapq.heapify(self._heap)
            else:
                heapq.heappush(self._heap, (due, *hold))

    def next_due(self) -> int | None:
        while self._heap:
            due, scope, part = self._heap[0]
            if self._due.get((scope, part)) == due:
                return due
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: int, most: int) -> list[Hold]:
        """Holds whose time has come, earliest first."""
        found: list[Hold] = []
        while len(found) < most and (due := self.next_due()) is not None and due <= now:
            _, scope, part = heapq.heappop(self._heap)
            del self._due[scope, part]
            found.append((scope, part))
        return found

    def take(self, most: int) -> dict[Hold, int]:
        """Some of them and their times, for whoever minds them from now on."""
        if most >= len(self._due):
            taken, self._due = self._due, {}
            self._heap.clear()
            return taken
        return dict(self._due.popitem() for _ in range(most))
