"""Indexes over a keeper's table: who waits for a fact, and who is due when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streams.engine.completion import next_due
from streams.engine.rows import decode_job, decode_row, head
from streams.runtime.timers import Hold, Timers
from streams.topology.plan import Plan

ANY_FACT = "*"
"""In a gate's list of facts: which ones it reads is only known when it is judged."""

Gates = tuple[tuple[str, tuple[str, ...]], ...]
"""The gates that hold one scope, and the facts that each reads."""


class HoldIndex:
    """Kept up by the table's changes. Of 100,000 jobs at one gate each has an entry in two tables
    and nothing of its own in them: what the entries say is shared."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._plans = plans
        self._gates: dict[str, Gates] = {}
        self._by_fact: dict[str, dict[str, None]] = {}
        self._shared: dict[Gates, Gates] = {}
        self._timers = Timers()
        self._retention = Timers()
        """When ended jobs are to be purged, until somebody else minds that."""

    def __len__(self) -> int:
        """How many things are minded here."""
        return len(self._gates) + len(self._timers) + len(self._retention)

    def changed(self, scope: str, part: str, before: bytes | None, data: bytes | None) -> None:
        """A row of the table is another one now."""
        if part == "@job":
            self._job(scope, data)
        elif part.startswith("@") and not part.startswith("@early/"):
            return
        elif data is not None and b'"WAITING"' in data and head(data).status == "WAITING":
            self._held(scope, part, data)
        elif before is not None:
            self._gone(scope, part)

    def _job(self, scope: str, data: bytes | None) -> None:
        hold = (scope, "@job")
        if data is None:
            self._timers.schedule(hold, None)
            self._retention.schedule(hold, None)
            return
        row = decode_job(data)
        due = next_due(row, self._plans.get(row.plan))
        self._timers.schedule(hold, None if row.ended else due)
        self._retention.schedule(hold, due if row.ended else None)

    def _held(self, scope: str, part: str, data: bytes) -> None:
        row = decode_row(data)
        wait = row.wait
        if wait is None:
            self._gone(scope, part)
            return
        self.schedule(scope, part, wait.due)
        plan = self._plans.get(row.plan)
        if wait.kind != "gate" or plan is None:
            return
        gate = plan.by_path[part].gate
        facts = gate.facts if gate is not None else ()
        here = self._gates.get(scope, ())
        if any(path == part for path, _ in here):
            return
        self._set_gates(scope, (*here, (part, facts)))
        for name in facts:
            self._by_fact.setdefault(name, {})[scope] = None

    def _gone(self, scope: str, part: str) -> None:
        self.schedule(scope, part, None)
        here = self._gates.get(scope)
        if here is None:
            return
        left = tuple(gate for gate in here if gate[0] != part)
        self._set_gates(scope, left)
        still = {name for _, facts in left for name in facts}
        for path, facts in here:
            for name in facts:
                if path == part and name not in still:
                    holds = self._by_fact[name]
                    holds.pop(scope, None)
                    if not holds:
                        del self._by_fact[name]

    def _set_gates(self, scope: str, gates: Gates) -> None:
        if gates:
            self._gates[scope] = self._shared.setdefault(gates, gates)
        else:
            del self._gates[scope]

    def schedule(self, scope: str, part: str, due: int | None) -> None:
        """Looks at this hold again when `due`; None: never by time."""
        self._timers.schedule((scope, part), due)

    def has_gates(self, scope: str) -> bool:
        return scope in self._gates

    def gates(self) -> Iterator[Hold]:
        return ((scope, part) for scope, gates in self._gates.items() for part, _ in gates)

    def waiting_for(self, fact: str) -> list[str]:
        """Scopes with a gate that reads this fact."""
        names = {fact, fact.partition(".")[0], ANY_FACT}
        found = (scope for name in sorted(names) for scope in self._by_fact.get(name, ()))
        return list(dict.fromkeys(found))

    def next_due(self) -> int | None:
        dues = [
            due
            for timers in (self._timers, self._retention)
            if (due := timers.next_due()) is not None
        ]
        return min(dues, default=None)

    def pop_due(self, now: int, most: int) -> list[Hold]:
        """Holds whose time has come: those of open jobs, then jobs to be purged."""
        found = self._timers.pop_due(now, most)
        return found + self._retention.pop_due(now, most - len(found))

    @property
    def ended(self) -> int:
        """Ended jobs whose purge is minded here."""
        return len(self._retention)

    def take_ended(self, most: int) -> dict[str, int]:
        """Ended jobs and when they are to be purged, for whoever minds that from now on."""
        return {scope: due for (scope, _), due in self._retention.take(most).items()}

    def keep_ended(self, scope: str, due: int) -> None:
        """Minds the purge of an ended job."""
        self._retention.schedule((scope, "@job"), due)
