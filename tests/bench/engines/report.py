"""Tables for people: on the terminal, and between their markers in a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import machine


class Bar(NamedTuple):
    """A figure that was asked for."""

    what: str
    found: str
    goal: str
    met: bool

    @property
    def row(self) -> tuple[str, ...]:
        return (self.what, self.found, self.goal, "met" if self.met else "MISSED")


class Section(NamedTuple):
    """One table and what it was to reach."""

    name: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]
    bars: list[Bar]
    how: str
    """How much was measured: repeats, documents."""
    better: str = ""
    """Where a peer is better than the product."""

    def on_terminal(self) -> str:
        parts = [f"\n{self.name}: {self.how}", machine.table(self.heads, self.rows)]
        if self.bars:
            parts.append(machine.table(BAR_HEADS, [bar.row for bar in self.bars]))
        return "\n".join([*parts, self.better] if self.better else parts)

    def in_page(self, measured: str) -> str:
        parts = [f"{self.how} {measured}", markdown(self.heads, self.rows)]
        if self.bars:
            parts.append(markdown(BAR_HEADS, [bar.row for bar in self.bars]))
        return "\n\n".join([*parts, self.better] if self.better else parts)


BAR_HEADS = ("asked for", "found", "goal", "")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """First column to the left, the others to the right."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(page: Path, name: str, text: str) -> None:
    """What stands between the section's markers is this now."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before = page.read_text(encoding="utf-8")
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", before, re.DOTALL)
    if found is None:
        raise SystemExit(f"{page} has no place for `{name}`: {begin} … {end}")
    after = f"{before[: found.start()]}{begin}\n{text}\n{end}{before[found.end() :]}"
    page.write_text(after, encoding="utf-8")
