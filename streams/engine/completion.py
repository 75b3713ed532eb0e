"""The end of a job: settling, stopping what still runs, completing, forgetting."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.engine import arrivals, gates
from streams.engine.actions import Forget, PutControl
from streams.engine.messages import DONE, make
from streams.engine.rows import PUBLIC, Failure, JobRow, Status
from streams.engine.settle import Settled, way
from streams.engine.turn import Turn, origin_of_job
from streams.engine.view import ScopeRows, settled_rows, standing
from streams.event import Event
from streams.topology.plan import USER_CODE, Plan

STOP_AT_LEAST = 2_000
"""A stopping job is not called stopped before this (ms): agents have to hear of it."""
STOP_AT_MOST = 10_000
"""Nor later than this: a part that still shows RUNNING then is cut off."""
DEAD_RETENTION = 30 * 24 * 3600 * 1000
"""An unresolved dead letter keeps its job at most as long as the dead topic keeps the event."""


def follow(turn: Turn, scope: str) -> None:
    """Everything that follows from what this turn has changed: arrivals go on, joins fire, gates
    that read a changed row open, the job ends."""
    while True:
        arrivals.drain(turn)
        if settle_scope(turn, scope):
            return  # Its gates have ended with it.
        if not gates.look_again(turn, scope, since_change=True):
            return


def settle_scope(turn: Turn, scope: str) -> bool:
    """Fires the joins that became ready and closes the job if nothing of it is open. True if it is
    over, so that nothing follows any more."""
    while True:
        rows = turn.read(scope)
        job = rows.job
        if job is None or job.ended:
            return True
        if job.stopping is not None:
            conclude(turn, scope)
            return False
        plan = turn.plan(job.plan)
        if not _fire_joins(turn, plan, scope, rows):
            break
    if not rows.stages and plan.parts:
        return False  # Nothing has ended yet.
    if rows.arrivals and not job.restarts and not _has_bad_end(rows):
        return False  # A join that waits for another way in is open.
    settled = settled_rows(plan, rows)
    if settled.failed:
        failed = rows.stages[settled.failed[0]]
        reason = f"stage {settled.failed[0]} failed"
        if settled.complete:
            complete(turn, scope, rows, "FAILED", reason=reason, err=failed.err)
        else:
            stop(turn, scope, "FAILED", reason=reason, err=failed.err)
    elif settled.cancelled:
        # The `cancel` verdict's row; its signal may still be on its way.
        path = settled.cancelled[0]
        reason = rows.stages[path].reason or f"stage {path} asked for it"
        stop(turn, scope, "CANCELLED", reason=reason)
    elif settled.complete:
        complete(turn, scope, rows, _good_end(plan, rows))
        return True
    return False


def _fire_joins(turn: Turn, plan: Plan, scope: str, rows: ScopeRows) -> bool:
    if not rows.arrivals:
        return False
    fired = False
    for path in plan.order:
        if path in rows.arrivals:
            fired |= arrivals.fire_if_ready(turn, plan, plan.by_path[path], scope)
    if fired:
        arrivals.drain(turn)
    return fired


def _has_bad_end(rows: ScopeRows) -> bool:
    return any(row.status in ("FAILED", "CANCELLED") for row in rows.stages.values())


def _good_end(plan: Plan, rows: ScopeRows) -> Status:
    """Every stage skipped: skipped. Else succeeded."""
    statuses = {row.status for row in standing(plan, rows).values()}
    return "SKIPPED" if statuses == {"SKIPPED"} else "SUCCESS"


def stop(
    turn: Turn, scope: str, to: Status, *, reason: str = "", err: Failure | None = None
) -> None:
    """Ends the job as `to`, once what runs has been told. Holds end here and now."""
    rows = turn.read(scope)
    job = rows.job
    if job is None or job.ended or job.stopping is not None:
        return
    root = job.root or scope
    record = {"below": job.epoch + 1, "at": turn.now, "reason": reason}
    turn.do(PutControl(f"stop/{root}", msgspec.json.encode(record)))
    for path, row in rows.stages.items():
        if row.status == "WAITING":
            ended = msgspec.structs.replace(
                row, status="CANCELLED", phase=2, n=row.n + 1, wait=None, at=turn.now, reason=reason
            )
            turn.put(scope, path, ended, closing=True)
    turn.sweep(scope, rows)
    turn.put(
        scope,
        "@job",
        msgspec.structs.replace(
            job, stopping=to, stopping_since=turn.now, reason=reason, err=err,
            updated=turn.now, n=job.n + 1,
        ),
    )  # fmt: skip
    conclude(turn, scope)


def conclude(turn: Turn, scope: str) -> None:
    """Closes a stopping job when nothing of it can be running any more."""
    rows = turn.read(scope)
    job = rows.job
    if job is None or job.stopping is None or job.ended:
        return
    plan = turn.plan(job.plan)
    waited = turn.now - job.stopping_since
    running = any(row.status == "RUNNING" for row in standing(plan, rows).values())
    if not may_run(plan, rows, settled_rows(plan, rows)) or waited >= STOP_AT_MOST:
        complete(turn, scope, rows, job.stopping, reason=job.reason, err=job.err)
    elif waited >= STOP_AT_LEAST and not running:
        complete(turn, scope, rows, job.stopping, reason=job.reason, err=job.err)


def may_run(plan: Plan, rows: ScopeRows, settled: Settled) -> bool:
    """Whether an agent may be running a part of this job, or is about to."""
    counting = standing(plan, rows)
    for path in settled.open:
        part, row = plan.by_path[path], counting.get(path)
        if part.kind not in USER_CODE:
            continue
        if row is not None and row.status == "RUNNING":
            return True
        ways = [way(up, path, settled.states, rows.stages) for up, _ in plan.incoming[path]]
        reached = not ways or ("live" in ways and "open" not in ways)
        if reached and path not in rows.parked and path not in rows.arrivals:
            return True
    return False


def complete(
    turn: Turn,
    scope: str,
    rows: ScopeRows,
    status: Status,
    *,
    reason: str = "",
    err: Failure | None = None,
) -> None:
    """Writes the job's end and tells the world. `rows`: all of the scope, as they are now."""
    job = rows.job
    assert job is not None
    plan = turn.plan(job.plan)
    turn.sweep(scope, rows)
    ended = msgspec.structs.replace(
        job, status=status, phase=2, n=job.n + 1, completed=turn.now, updated=turn.now,
        stopping=None, reason=reason, err=err,
    )  # fmt: skip
    turn.put(scope, "@job", ended)
    turn.say_done(scope, lambda: _done_event(turn, plan, scope, ended, rows))


def _done_event(turn: Turn, plan: Plan, scope: str, job: JobRow, rows: ScopeRows) -> Event:
    data = msgspec.json.encode(_done(plan, scope, job, rows))
    origin = origin_of_job(scope, job)
    return make(DONE, plan, origin, "@job", f"{scope}:{job.epoch}", data, turn.now)


def _done(plan: Plan, scope: str, job: JobRow, rows: ScopeRows) -> dict[str, Any]:
    last = [part.path for part in plan.parts if not part.edges]
    outputs = {
        path: row.out
        for path in last
        if (row := rows.stages.get(path)) is not None and len(row.out)
    }
    return {
        "job": scope,
        "pipeline": plan.pipeline,
        "status": PUBLIC[job.status],
        "epoch": job.epoch,
        "outputs": outputs,
        "reason": job.reason,
        "error": job.err,
        "created_at": job.created,
        "completed_at": job.completed,
    }


def next_due(job: JobRow, plan: Plan | None) -> int | None:
    """When time alone will change something about this job."""
    if job.ended:
        return job.completed + (plan.retention_ms if plan else 0)
    if job.stopping is not None:
        return job.stopping_since + STOP_AT_LEAST
    return job.deadline


def time_for_job(turn: Turn, scope: str) -> int | None:
    """What time has brought a job: its end, its deadline, or its purge. Answers when to look again."""
    rows = turn.read(scope)
    job = rows.job
    if job is None:
        return None
    if job.ended:
        return _purge(turn, scope, job, rows)
    if job.stopping is not None:
        conclude(turn, scope)
        return turn.now + 500
    if job.deadline is not None and turn.now >= job.deadline:
        stop(turn, scope, "CANCELLED", reason="deadline passed")
        return turn.now + STOP_AT_LEAST
    return job.deadline


def _purge(turn: Turn, scope: str, job: JobRow, rows: ScopeRows) -> int | None:
    plan = turn.plan(job.plan)
    due = job.completed + plan.retention_ms
    if rows.dead:
        due = max(due, job.completed + DEAD_RETENTION)
    if turn.now < due:
        return due
    forget(turn, scope, job.root or scope)
    return None


def forget(turn: Turn, scope: str, root: str) -> None:
    """Deletes every row of the scope, and the job's blobs with its last scope."""
    for part in tuple(turn.rows(scope)):
        turn.drop(scope, part)
    if scope == root:
        turn.do(Forget(root))
