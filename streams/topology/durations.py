"""Durations as authors write them: `500ms`, `30s`, `1h30m`, `3d`."""

from __future__ import annotations

import re

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
MAX_MS = 10 * 366 * UNITS["d"]
HELP = "write a number with a unit: 500ms, 30s, 30m, 1h30m, 3d"
PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$"

_PIECE = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d|w)")


def duration_ms(text: str, allow_zero: bool = False) -> int:
    """Milliseconds; ValueError with a sentence if it is not a duration within the limits."""
    compact = text.strip().replace(" ", "")
    pieces = _PIECE.findall(compact)
    if not pieces or "".join(number + unit for number, unit in pieces) != compact:
        raise ValueError(f"`{text[:40]}` is not a duration")
    return limited_ms(sum(float(number) * UNITS[unit] for number, unit in pieces), text, allow_zero)


def limited_ms(ms: float, written: object, allow_zero: bool = False) -> int:
    """Whole milliseconds; ValueError outside of what a duration may be (also for nan)."""
    if not (0 <= ms <= MAX_MS) or (round(ms) == 0 and not allow_zero):
        least = "not below 0" if allow_zero else "longer than 0"
        raise ValueError(f"`{written}` is out of range: {least} and at most 10 years")
    return round(ms)


def spell(ms: int) -> str:
    """The shortest spelling of a duration."""
    if ms == 0:
        return "0s"
    words = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, UNITS[unit])
        if count:
            words.append(f"{count}{unit}")
    return "".join(words)
