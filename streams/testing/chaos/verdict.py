"""What became of a row of the plan of faults: a line of a table, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

Result = Literal["passed", "failed", "skipped"]


class Verdict(msgspec.Struct):
    """One row, all its repeats."""

    row: int
    fault: str
    repeats: int = 0
    recoveries: list[float] = []
    """Seconds each, from the fault or its end until the rate was back."""
    violations: list[str] = []
    """Rules broken; empty where it passed."""
    figures: dict[str, str] = {}
    skipped: str = ""
    """Why it was not run."""
    seconds: float = 0.0

    @property
    def result(self) -> Result:
        if self.skipped:
            return "skipped"
        return "failed" if self.violations else "passed"

    def fail(self, what: str) -> None:
        """A rule is broken."""
        self.violations.append(what)

    def demand(self, holds: object, what: str) -> None:
        """Fails with `what` unless it holds."""
        if not holds:
            self.fail(what)

    def recovered(self, seconds: float | None, most: float) -> None:
        """Notes how long one recovery took, and fails where that was too long."""
        if seconds is None:
            self.fail("the rate did not come back in time")
            return
        self.recoveries.append(round(seconds, 1))
        self.demand(seconds <= most, f"recovery took {seconds:.1f} s, more than {most:g}")

    @property
    def recovery(self) -> str:
        """Median, 95th percentile and maximum, as the table has them."""
        if not self.recoveries:
            return ""
        return (
            f"{percentile(self.recoveries, 50):.1f} / {percentile(self.recoveries, 95):.1f} / "
            f"{max(self.recoveries):.1f} s"
        )

    def as_object(self) -> dict[str, object]:
        """For `-o json`."""
        return {
            "row": self.row,
            "fault": self.fault,
            "result": self.result,
            "repeats": self.repeats,
            "recovery_seconds": self.recoveries,
            "figures": self.figures,
            "violations": self.violations,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 1),
        }


COLUMNS = ("row", "fault", "verdict", "repeats", "recovery p50 / p95 / max", "figures")


def cells(verdict: Verdict) -> list[str]:
    """One line of the table."""
    figures = ", ".join(f"{name} {value}" for name, value in verdict.figures.items())
    return [
        str(verdict.row),
        verdict.fault,
        verdict.result if not verdict.skipped else f"SKIP: {verdict.skipped}",
        str(verdict.repeats),
        verdict.recovery,
        figures,
    ]


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The table, and below it what was broken."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(cells(each))} |" for each in verdicts),
    ]
    for each in verdicts:
        if each.violations:
            lines += ["", f"Row {each.row} broke:", ""]
            lines += [f"- {what}" for what in each.violations[:20]]
    return "\n".join(lines) + "\n"


def percentile(values: Sequence[float], part: int) -> float:
    """The smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * part / 100) - 1)]
