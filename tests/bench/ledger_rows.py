"""Rows of a ledger for the benches: jobs that have ended, and some that wait at a gate."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from streams.clock import SystemClock
from streams.engine.rows import InputRow, JobRow, Parked, Row, Wait, encode

ROWS_A_JOB = 5
SIZE = 300
NOW = SystemClock().now()


def rows_of(job: str, waits: bool, digest: str) -> Iterator[tuple[str, bytes]]:
    """Rows of 300 B each, as the engine encodes them."""
    yield "@input", encode(InputRow(params={"text": "x" * (SIZE - 30)}))
    state = JobRow("SUCCESS", plan=digest, root=job, digest="d" * 64, completed=NOW, updated=NOW)
    if waits:
        state = JobRow("RUNNING", phase=1, plan=digest, root=job, digest="d" * 64, updated=NOW)
    yield "@job", _filled(state)
    for n in range(ROWS_A_JOB - 3):
        yield f"stage-{n}", _filled(Row("SUCCESS", plan=digest, root=job, at=NOW))
    row = Row("SUCCESS", plan=digest, root=job, at=NOW)
    if waits:
        wait = Wait("gate", NOW, event=Parked(parent="p" * 36))
        row = Row("WAITING", phase=0, plan=digest, root=job, at=NOW, wait=wait)
    yield "wait", _filled(row)


def _filled(row: Row | JobRow) -> bytes:
    missing = SIZE - len(encode(row)) - len(',"reason":""')
    return encode(msgspec.structs.replace(row, reason="r" * max(0, missing)))
