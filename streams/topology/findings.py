"""A finding: what is wrong in a topology file, where, and the next step; and how it is shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from streams.errors import UserError

Severity = Literal["error", "warning"]
SHOWN = 96
"""Longest part of a source line that is shown."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault or warning. Lines and columns count from 1; line 0: the file as a whole."""

    code: str
    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    length: int = 1
    text: str = ""
    """The source line."""
    hint: str = ""
    notes: tuple[str, ...] = ()
    """Further lines, for instance where the first of two stands."""
    severity: Severity = "error"

    def render(self, color: bool = False) -> str:
        """The finding as people read it: sentence, place, line, caret, hint."""
        head = f"{self.severity}[{self.code}]"
        if color:
            head = f"\033[{31 if self.severity == 'error' else 33};1m{head}\033[0m"
        lines = [f"{head}: {self.message}"]
        hint = self.hint
        if self.line:
            lines.append(f"  --> {self.file}:{self.line}:{self.column}")
            text, column, length = self._window()
            margin = f" {self.line} | "
            lines.append(f"   |{margin}{text}".rstrip())
            carets = "^" * length
            if color:
                carets = f"\033[31;1m{carets}\033[0m"
            lines.append(f"   |{' ' * (len(margin) + column - 1)}{carets} {hint}".rstrip())
            hint = ""
        elif self.file:
            lines.append(f"  --> {self.file}")
        lines.extend(f"   = {note}" for note in self.notes)
        if hint:
            lines.append(f"   = help: {hint}")
        return "\n".join(lines)

    def _window(self) -> tuple[str, int, int]:
        """The part of the line around the place, with the column and length inside it."""
        text = "".join(letter if letter.isprintable() else " " for letter in self.text)
        start = 0 if self.column + self.length <= SHOWN else max(0, self.column - 1 - SHOWN // 3)
        shown = text[start : start + SHOWN]
        length = max(1, min(self.length, len(shown) - (self.column - 1 - start)))
        return shown, self.column - start, length


class TopologyError(UserError):
    """Topology files with faults; carries every finding of all of them."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = sorted(findings, key=place_of)
        faults = [finding for finding in self.findings if finding.severity == "error"]
        first = (faults or self.findings)[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        where = f"{first.file}:{first.line}:{first.column}: " if first.line else f"{first.file}: "
        super().__init__(
            f"{where}{first.message}{more}",
            code=first.code,
            help=first.hint or f"streams explain {first.code}",
        )

    def render(self, color: bool = False) -> str:
        """All findings, in the order of the files."""
        return "\n".join(finding.render(color) for finding in self.findings)


def place_of(finding: Finding) -> tuple[str, int, int, str]:
    """Sort key: file, line, column."""
    return finding.file, finding.line, finding.column, finding.code


def did_you_mean(word: str, known: Iterable[str], what: str = "") -> str:
    """A hint that names the nearest known word, else the known words."""
    words = sorted(set(known))
    if not words:
        return f"there are no {what}" if what else ""
    by_fold = {name.lower().replace("-", "_"): name for name in words}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(by_fold), 1, 0.6)
    if close:
        return f"did you mean `{by_fold[close[0]]}`?"
    return f"{what or 'known'}: {listed(words)}"


def listed(words: Sequence[str], most: int = 30) -> str:
    """The words with commas, cut off where it stops being useful."""
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")
