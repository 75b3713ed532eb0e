"""Indexes over a keeper's table: who waits for a fact, and who is due when."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from streams.engine.completion import next_due
from streams.engine.rows import decode_job, decode_row, head
from streams.topology.plan import Plan

ANY_FACT = "*"
"""In a gate's list of facts: which ones it reads is only known when it is judged."""

Hold = tuple[str, str]
"""Scope and part."""


class HoldIndex:
    """Kept up by the table's changes. Entries of the heap that no longer hold are left in place."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._plans = plans
        self._gates: dict[str, set[str]] = {}
        self._by_fact: dict[str, dict[Hold, None]] = {}
        self._facts_of: dict[Hold, tuple[str, ...]] = {}
        self._heap: list[tuple[int, str, str]] = []
        self._due: dict[Hold, int] = {}

    def changed(self, scope: str, part: str, before: bytes | None, data: bytes | None) -> None:
        """A row of the table is another one now."""
        if part == "@job":
            self._job(scope, data)
        elif part.startswith("@") and not part.startswith("@early/"):
            return
        elif data is not None and head(data).status == "WAITING":
            self._held(scope, part, data)
        elif before is not None:
            self._gone(scope, part)

    def _job(self, scope: str, data: bytes | None) -> None:
        if data is None:
            self._due.pop((scope, "@job"), None)
            return
        row = decode_job(data)
        self.schedule(scope, "@job", next_due(row, self._plans.get(row.plan)))

    def _held(self, scope: str, part: str, data: bytes) -> None:
        row = decode_row(data)
        wait = row.wait
        if row.status != "WAITING" or wait is None:
            self._gone(scope, part)
            return
        self.schedule(scope, part, wait.due)
        plan = self._plans.get(row.plan)
        if wait.kind != "gate" or plan is None:
            return
        self._gates.setdefault(scope, set()).add(part)
        gate = plan.by_path[part].gate
        if gate is not None and (scope, part) not in self._facts_of:
            self._facts_of[scope, part] = gate.facts
            for name in gate.facts:
                self._by_fact.setdefault(name, {})[scope, part] = None

    def _gone(self, scope: str, part: str) -> None:
        self._due.pop((scope, part), None)
        gates = self._gates.get(scope)
        if gates is not None:
            gates.discard(part)
            if not gates:
                del self._gates[scope]
        for name in self._facts_of.pop((scope, part), ()):
            holds = self._by_fact[name]
            holds.pop((scope, part), None)
            if not holds:
                del self._by_fact[name]

    def schedule(self, scope: str, part: str, due: int | None) -> None:
        """Looks at this hold again when `due`; None: never by time."""
        if due is None:
            self._due.pop((scope, part), None)
        elif self._due.get((scope, part)) != due:
            self._due[scope, part] = due
            heapq.heappush(self._heap, (due, scope, part))

    def has_gates(self, scope: str) -> bool:
        return scope in self._gates

    def gates(self) -> Iterator[Hold]:
        return ((scope, part) for scope, parts in self._gates.items() for part in parts)

    def waiting_for(self, fact: str) -> list[str]:
        """Scopes with a gate that reads this fact."""
        names = {fact, fact.partition(".")[0], ANY_FACT}
        found = (scope for name in sorted(names) for scope, _ in self._by_fact.get(name, ()))
        return list(dict.fromkeys(found))

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
