"""How many jobs wait at which gate, and since when, without a memory of each.

Kept up by the table's changes, in steps of a second: of 100,000 jobs that came within a minute
there are sixty numbers.
"""

from __future__ import annotations

import msgspec

_HELD = b'{"s":"WAITING"'
"""How a row that waits begins, behind its flags."""


class _Wait(msgspec.Struct):
    kind: str = ""
    since: int = 0


class _Held(msgspec.Struct):
    wait: _Wait | None = None


_held = msgspec.json.Decoder(_Held)


def waits(data: bytes | None) -> bool:
    """Whether a row's bytes say WAITING."""
    return data is not None and data.startswith(_HELD, 1)


def gate_since(data: bytes | None) -> int | None:
    """Since when (ms) the row waits at a gate; None if it does not."""
    if data is None or not data.startswith(_HELD, 1):
        return None
    wait = _held.decode(memoryview(data)[1:]).wait
    return wait.since if wait is not None and wait.kind == "gate" else None


class WaitingJobs:
    """Counts of one partition."""

    def __init__(self) -> None:
        self._seconds: dict[str, dict[int, int]] = {}
        """Gate → second in which they came → how many of them wait still."""

    def changed(self, part: str, before: bytes | None, data: bytes | None) -> None:
        """A row of the table is another one now."""
        if part.startswith("@"):
            return
        came, was = gate_since(data), gate_since(before)
        if came == was:
            return
        seconds = self._seconds.setdefault(part, {})
        if came is not None:
            seconds[came // 1000] = seconds.get(came // 1000, 0) + 1
        if was is not None:
            left = seconds.get(was // 1000, 0) - 1
            if left > 0:
                seconds[was // 1000] = left
            else:
                seconds.pop(was // 1000, None)

    def gates(self) -> dict[str, tuple[int, int]]:
        """Gate → how many jobs wait, and since when (ms) the first of them."""
        return {
            gate: (sum(seconds.values()), min(seconds) * 1000)
            for gate, seconds in self._seconds.items()
            if seconds
        }
