"""How times, spans and values are written for people and read from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import typer

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def span(ms: int) -> str:
    """A length of time, in its two largest units: `40ms`, `1.3s`, `42s`, `3m 5s`, `2d 21h`."""
    if ms < 1000:
        return f"{max(ms, 0)}ms"
    if ms < 10_000:
        return f"{ms / 1000:.1f}s"
    seconds = ms // 1000
    for large, small, size in (("d", "h", 86_400), ("h", "m", 3600), ("m", "s", 60)):
        if seconds >= size:
            rest = seconds % size // {"h": 3600, "m": 60, "s": 1}[small]
            return (
                f"{seconds // size}{large} {rest}{small}" if rest else f"{seconds // size}{large}"
            )
    return f"{seconds}s"


def moment(ms: int | None) -> str:
    """A time in UTC: `2026-11-21 13:00:05Z`."""
    if ms is None:
        return "-"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def time_of_day(ms: int) -> str:
    """The local clock, for lines that scroll by."""
    return datetime.fromtimestamp(ms / 1000).strftime("%H:%M:%S")


def ago(ms: int | None, now: int) -> str:
    return "-" if ms is None else span(now - ms)


def milliseconds(text: str, *, flag: str) -> int:
    """A length of time such as `90s`, `2h` or `1h30m`."""
    steps = _STEP.findall(text.strip())
    if not steps or "".join(number + unit for number, unit in steps) != text.strip():
        raise typer.BadParameter(
            f"`{text}` is no length of time: write 90s, 15m, 2h, 3d", param_hint=flag
        )
    return round(sum(float(number) * _UNITS[unit] for number, unit in steps))


def assignments(pairs: Iterable[str], *, flag: str) -> dict[str, str]:
    """`k=v` pairs, each name once."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"`{pair}` is not NAME=VALUE", param_hint=flag)
        if name in found:
            raise typer.BadParameter(f"`{name}` is given twice", param_hint=flag)
        found[name] = text
    return found


def guess(text: str) -> Any:
    """JSON where it is JSON (`true`, `3`, `[1]`, `"3"`), else the text itself."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(name: str) -> Any:
    raise ValueError(name)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def compact(value: Any, limit: int = 60) -> str:
    """JSON on one line, cut where it gets long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"
