"""What scrolls by in `dev`: one line a change, and who waits at which gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from streams.cli.gate import gate_line
from streams.cli.output import paint
from streams.cli.wording import span, time_of_day
from streams.client import Change
from streams.engine.rows import ENDED, PUBLIC, JobRow, Row
from streams.inspection.jobs import Job

GateOf = Callable[[str, str], str | None]
"""(plan digest, part) → the name of its gate."""


class LiveView:
    """Turns changes of rows into lines; remembers who waits where."""

    def __init__(self, gate_of: GateOf, waiting: Iterable[Job] = ()) -> None:
        self._gate_of = gate_of
        self._seen: dict[tuple[str, str, str], tuple[int, str]] = {}
        self._waiting: dict[tuple[str, str], list[str]] = {}
        self._dirty: set[tuple[str, str]] = set()
        for job in waiting:
            for path, stage in job.view.stages.items():
                gate = job.plan.by_path[path].gate
                if gate is not None and stage.status == "waiting":
                    self._enter((job.view.pipeline, gate.name), job.view.id)

    def lines_of(self, change: Change) -> list[str]:
        """What to print for this change; nothing if it is no news for a person."""
        row = change.row
        if isinstance(row, JobRow):
            return self._of_job(change, row)
        if not isinstance(row, Row) or "~" in change.part or change.part.startswith("@"):
            return []
        status = PUBLIC[row.status]
        self._gates(change, row)
        if self._told(change, row.epoch, status):
            return []
        took = ""
        if row.ended and row.times:
            took = span(row.times[-1].ended - row.times[-1].started)
        said = row.err.message if row.err else row.reason
        return [_line(change, change.part, status, took, said)]

    def gate_lines(self) -> list[str]:
        """One line for each gate whose waiting jobs changed since the last call."""
        changed, self._dirty = sorted(self._dirty), set()
        return [
            paint(gate_line(gate, jobs), "waiting")
            for pipeline, gate in changed
            if (jobs := self._waiting.get((pipeline, gate)))
        ]

    def _of_job(self, change: Change, row: JobRow) -> list[str]:
        if not row.ended or self._told(change, row.epoch, row.status):
            return []
        for place in self._waiting:
            self._leave(place, change.job)
        said = row.err.message if row.err else row.reason
        return [_line(change, "job", PUBLIC[row.status], span(row.completed - row.created), said)]

    def _gates(self, change: Change, row: Row) -> None:
        gate = self._gate_of(row.plan, change.part)
        if gate is None:
            return
        place = (change.pipeline, gate)
        if row.status == "WAITING":
            self._enter(place, change.job)
        elif row.status in ENDED:
            self._leave(place, change.job)

    def _enter(self, place: tuple[str, str], job: str) -> None:
        jobs = self._waiting.setdefault(place, [])
        if job not in jobs:
            jobs.append(job)
            self._dirty.add(place)

    def _leave(self, place: tuple[str, str], job: str) -> None:
        if job in self._waiting.get(place, []):
            self._waiting[place].remove(job)
            self._dirty.add(place)

    def _told(self, change: Change, epoch: int, status: str) -> bool:
        """A row may be written again without news: a gate counts how often it was looked at."""
        place = (change.pipeline, change.job, change.part)
        if self._seen.get(place) == (epoch, status):
            return True
        self._seen[place] = (epoch, status)
        if change.part == "@job":
            for each in [key for key in self._seen if key[:2] == place[:2] and key != place]:
                del self._seen[each]
        return False


def _line(change: Change, what: str, status: str, took: str, said: str) -> str:
    cells = [
        time_of_day(change.at),
        change.pipeline,
        change.job.ljust(12),
        what.ljust(12),
        paint(status, status) + " " * (9 - len(status)),
        took,
        said,
    ]
    return "  ".join(cell for cell in cells if cell).rstrip()
