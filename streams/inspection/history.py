"""A job's past, as far as its rows still tell it."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.broker.port import Log
from streams.engine import rows as ledger_rows
from streams.engine.rows import PUBLIC, Address, AnyRow, FactRow, InputRow, JobRow, Row
from streams.inspection.jobs import Job, ledger_place
from streams.inspection.scan import scan


class Happening(msgspec.Struct, frozen=True):
    """One line of a job's history."""

    at: int
    stage: str
    """`job` for the job itself, `fact NAME` for a fact."""
    status: str
    attempt: int
    worker: str = ""
    detail: str = ""
    """A reason, an error, a value."""
    duration_ms: int | None = None


async def read_history(log: Log, job: Job) -> list[Happening]:
    """What every version of the job's rows that is still there tells, oldest first."""
    told: dict[tuple[str, str, int, int], Happening] = {}

    def take(part: str, value: bytes) -> None:
        if not ledger_rows.is_row(value):
            return
        for each in happened(part, ledger_rows.decode(part, value)):
            told.setdefault((each.stage, each.status, each.attempt, each.at), each)

    scope = job.view.id
    for part, value in job.rows.items():
        take(part, value)
    if not job.untaken:
        start = f"{scope}|".encode()
        async for record in scan(log, [ledger_place(job.pipeline, scope)]):
            if record.value is not None and record.key is not None and record.key.startswith(start):
                take(Address.of(record.key).part, record.value)
    return sorted(told.values(), key=lambda each: (each.at, each.stage != "job"))


def happened(part: str, row: AnyRow) -> list[Happening]:
    """What one version of one row tells of the past."""
    if isinstance(row, InputRow):
        return []
    if isinstance(row, FactRow):
        name = part.removeprefix("@fact/")
        return [Happening(row.at, f"fact {name}", "set", 0, row.by, _short(row.value))]
    if isinstance(row, JobRow):
        return _of_job(row)
    return _of_stage(part, row)


def _of_job(row: JobRow) -> list[Happening]:
    told = [Happening(row.created, "job", "submitted", 0, detail=f"plan {row.plan}")]
    if row.stopping is not None:
        told.append(Happening(row.stopping_since, "job", "stopping", row.epoch, detail=row.reason))
    if row.epoch > 1 and not row.ended:
        told.append(Happening(row.updated, "job", "restarted", row.epoch))
    if row.completed:
        said = row.err.message if row.err else row.reason
        took = row.completed - row.created
        told.append(
            Happening(
                row.completed, "job", PUBLIC[row.status], row.epoch, detail=said, duration_ms=took
            )
        )
    return told


def _of_stage(part: str, row: Row) -> list[Happening]:
    stage, companion, _ = part.partition("~")
    wait = row.wait
    if wait is not None and wait.kind in ("gate", "sleep", "retry"):
        status = "retrying" if wait.kind == "retry" else "waiting"
        told = [Happening(wait.since, stage, status, row.attempt, detail=wait.reason or wait.kind)]
    else:
        told = []
    if companion:
        return told
    last = row.times[-1] if row.times else None
    tries = [
        Happening(
            tried.ended,
            stage,
            PUBLIC[tried.status],
            tried.attempt,
            row.worker,
            tried.error or (row.reason if tried is last else ""),
            tried.ended - tried.started,
        )
        for tried in row.times
    ]
    if row.status != "WAITING" and not (last is not None and row.status == last.status):
        said = row.err.message if row.err else row.reason
        told.append(Happening(row.at, stage, PUBLIC[row.status], row.attempt, row.worker, said))
    return tries + told


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:79] + "…"
