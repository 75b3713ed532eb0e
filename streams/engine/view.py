"""The ledger view of a job: the merge of its rows, as users, gates and `@ledger` stages see it.

One pure reading of the rows, used by keeper, client and (later) gateway alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from streams.engine import payload as payloads
from streams.engine.holds import ClauseFinding, judge
from streams.engine.priority import NORMAL, Priority
from streams.engine.rows import (
    ENDED,
    OWNED,
    PUBLIC,
    Attempt,
    Decoders,
    Failure,
    InputRow,
    JobRow,
    Row,
    decode_fact,
)
from streams.engine.settle import Settled, floors, settle, way
from streams.topology.plan import USER_CODE, Plan

PublicStatus = Literal[
    "queued", "running", "waiting", "retrying", "succeeded", "skipped", "failed", "cancelled"
]


class StageView(msgspec.Struct):
    """One stage of one job."""

    status: PublicStatus
    attempts: int = 0
    retries: int = 0
    created_at: int | None = None
    started_at: int | None = None
    completed_at: int | None = None
    duration_ms: int | None = None
    outputs: Any = None
    error: Failure | None = None
    reason: str = ""
    metadata: dict[str, Any] = {}
    worker: str = ""
    tries: tuple[Attempt, ...] = ()


class WaitingFor(msgspec.Struct):
    """What the job waits for. kind: gate, sleep, retry or join."""

    stage: str
    kind: str
    gate: str | None
    since: int
    deadline: int | None
    reason: str = ""


class JobView(msgspec.Struct):
    """A job, merged from its rows. Times in ms since 1970."""

    id: str
    pipeline: str
    status: PublicStatus
    current_stage: str | None
    attempts: int
    stages: dict[str, StageView]
    metadata: dict[str, Any]
    facts: dict[str, Any]
    waiting_for: WaitingFor | None
    params: dict[str, Any]
    created_at: int | None
    updated_at: int | None
    completed_at: int | None
    duration_ms: int | None
    deadline: int | None
    plan: str
    version: str
    epoch: int
    reason: str
    error: Failure | None
    tenant: str = ""
    priority: Priority = NORMAL
    last_signal: str = ""


class ScopeRows(msgspec.Struct):
    """The rows of one scope, decoded once."""

    job: JobRow | None
    input: InputRow
    stages: dict[str, Row]
    parked: dict[str, Row]
    """Delayed retries, by the part they belong to."""
    arrivals: dict[str, dict[str, Row]]
    """Join → upstream → arrival, of joins that have not fired."""
    fired: dict[str, dict[str, Row]]
    dead: dict[str, Row]
    """Failed events kept for a retry, by part."""
    facts: dict[str, Any]


def read_rows(rows: Mapping[str, bytes], decoders: Decoders = OWNED) -> ScopeRows:
    """Sorts the rows of a scope by what they are."""
    found = ScopeRows(None, InputRow(), {}, {}, {}, {}, {}, {})
    for part, data in rows.items():
        if part == "@job":
            found.job = decoders.job(data)
        elif part == "@input":
            found.input = decoders.input(data)
        elif part.startswith("@fact/"):
            found.facts[part[6:]] = decode_fact(data).value
        elif part.startswith("@"):
            continue
        elif "~" not in part:
            found.stages[part] = decoders.row(data)
        else:
            path, _, kind = part.partition("~")
            if not kind:
                found.parked[path] = decoders.row(data)
            elif kind == "dead":
                found.dead[path] = decoders.row(data)
            else:
                row = decoders.row(data)
                table = found.arrivals if row.status == "WAITING" else found.fired
                table.setdefault(path, {})[kind] = row
    return found


def settled_rows(plan: Plan, rows: ScopeRows) -> Settled:
    return settle(plan, rows.stages, floors(plan, rows.job.restarts if rows.job else {}))


def standing(plan: Plan, rows: ScopeRows) -> dict[str, Row]:
    """Rows that count: those of a part that was started anew since do not."""
    if rows.job is None or not rows.job.restarts:
        return rows.stages
    floor = floors(plan, rows.job.restarts)
    return {path: row for path, row in rows.stages.items() if row.epoch >= floor.get(path, 0)}


def metadata_of(plan: Plan, rows: ScopeRows) -> dict[str, Any]:
    """Fields written by stages, in plan order: a later stage wins."""
    merged: dict[str, Any] = {}
    counting = standing(plan, rows)
    for path in plan.order:
        row = counting.get(path)
        if row is not None:
            merged.update(row.meta)
    return merged


def gate_names(
    job_id: str, plan: Plan, rows: ScopeRows, shared: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Names a gate's condition sees, and the view given to `@ledger` stages as `ledger`."""
    facts = {**(shared or {}), **rows.facts}
    metadata = metadata_of(plan, rows)
    job = rows.job
    counting = standing(plan, rows)
    own: dict[str, Any] = {
        "id": job_id,
        "job_id": job_id,
        "pipeline": plan.pipeline,
        "status": PUBLIC[job.status] if job else "running",
        "attempts": sum(row.attempt for row in counting.values()),
        "epoch": job.epoch if job else 1,
        "current_stage": _last_stage(plan, counting),
        "stage": _last_stage(plan, counting),
        "tenant": job.tenant if job else "",
    }
    looked_up = {**own, **_nested(metadata), **_nested(facts)}
    stages = {path: _stage_names(row) for path, row in counting.items()}
    return {
        "facts": facts,
        "metadata": looked_up,
        "ledger": {**looked_up, "metadata": looked_up, "facts": facts, "stages": stages},
        "stages": stages,
        "params": rows.input.params,
        "job": own,
    }


def _nested(table: Mapping[str, Any]) -> dict[str, Any]:
    """Also reachable by steps: `{"a.b": 1}` → `{"a.b": 1, "a": {"b": 1}}`."""
    found: dict[str, Any] = dict(table)
    for name, value in table.items():
        *steps, last = name.split(".")
        level = found
        for step in steps:
            inner = level.setdefault(step, {})
            if not isinstance(inner, dict):
                break
            level = inner
        else:
            if steps:
                level[last] = value
    return found


def _stage_names(row: Row) -> dict[str, Any]:
    names = payloads.stage_names(
        payloads.Result(
            row.status,
            row.out if payloads.blob_of(row.out) is None else msgspec.Raw(b"null"),
            row.err,
        )
    )
    return {**row.meta, **names, "attempts": row.attempt}


def _last_stage(plan: Plan, counting: Mapping[str, Row]) -> str | None:
    reached = [path for path in plan.order if path in counting]
    return reached[-1] if reached else None


def job_view(
    job_id: str, plan: Plan, rows: Mapping[str, bytes], *, now: int | None = None
) -> JobView:
    """The job as users see it. `now` lets a running stage's duration grow."""
    return view_of(job_id, plan, read_rows(rows), now=now)


def view_of(job_id: str, plan: Plan, found: ScopeRows, *, now: int | None = None) -> JobView:
    """The same of rows that are read already."""
    settled = settled_rows(plan, found)
    over = found.job is not None and found.job.ended
    stages = {
        path: view
        for path in plan.order
        if (view := _stage_view(plan, path, found, settled, over, now)) is not None
    }
    job = found.job or JobRow("RUNNING")
    waiting = _waiting_for(plan, found, stages) if not over else None
    ended = job.completed or None
    return JobView(
        id=job_id,
        pipeline=plan.pipeline,
        status=cast(PublicStatus, PUBLIC[job.status]) if over else _status(stages),
        current_stage=_current(plan, found, stages, over),
        attempts=sum(view.attempts for view in stages.values()),
        stages=stages,
        metadata=metadata_of(plan, found),
        facts=found.facts,
        waiting_for=waiting,
        params=found.input.params,
        created_at=job.created or None,
        updated_at=max([job.updated, *(row.at for row in found.stages.values())]) or None,
        completed_at=ended,
        duration_ms=((ended or now or job.created) - job.created) if job.created else None,
        deadline=job.deadline,
        plan=job.plan,
        version=plan.version,
        epoch=job.epoch,
        reason=job.reason,
        error=job.err,
        tenant=job.tenant,
        priority=job.priority,
        last_signal=job.last_signal,
    )


def _stage_view(
    plan: Plan, path: str, found: ScopeRows, settled: Settled, over: bool, now: int | None
) -> StageView | None:
    row = standing(plan, found).get(path)
    parked = found.parked.get(path)
    state = settled.states[path]
    if row is None:
        if state == "dead":
            return StageView("skipped", reason="not reached")
        if over:
            return StageView("cancelled", reason="the job ended first")
        if parked is not None and parked.wait is not None:
            since, reason = parked.wait.since, parked.wait.reason
            return StageView("retrying", created_at=since, reason=reason)
        if path in found.arrivals:
            since = min(r.wait.since for r in found.arrivals[path].values() if r.wait)
            return StageView("waiting", created_at=since, reason="waits for the other ways in")
        return StageView("queued") if _reached(plan, path, found, settled) else None
    status: str = row.status
    if over and status not in ENDED:
        status = "CANCELLED"
    elif parked is not None and parked.order > row.order and not row.ended:
        status = "RETRYING"
    tries = row.times
    queued = tries[0].queued if tries else (row.wait.since if row.wait else row.at)
    ended = row.at if row.ended else None
    started = tries[-1].started if tries else (row.at if status == "RUNNING" else None)
    finish = ended if ended is not None else (now if status == "RUNNING" else None)
    runs = plan.by_path[path].kind in USER_CODE
    attempts = len(tries) + (status == "RUNNING") if runs else 0
    return StageView(
        status=cast(PublicStatus, PUBLIC[status]),
        attempts=attempts,
        retries=max(0, attempts - 1),
        created_at=queued,
        started_at=started,
        completed_at=ended,
        duration_ms=finish - started if finish is not None and started is not None else None,
        outputs=_outputs(row),
        error=row.err,
        reason=row.reason or (row.wait.reason if row.wait else ""),
        metadata=row.meta,
        worker=row.worker,
        tries=tries,
    )


def _outputs(row: Row) -> Any:
    return msgspec.json.decode(row.out) if bytes(row.out) else None


def _reached(plan: Plan, path: str, found: ScopeRows, settled: Settled) -> bool:
    ways = [way(up, path, settled.states, found.stages) for up, _ in plan.incoming[path]]
    return not ways or ("open" not in ways and "live" in ways)


def _status(stages: Mapping[str, StageView]) -> PublicStatus:
    """The one rule from the stages of an open job to its status."""
    present = {view.status for view in stages.values()}
    if "running" in present:
        return "running"
    if "queued" in present:
        return "queued" if present == {"queued"} else "running"
    if "retrying" in present:
        return "retrying"
    if "waiting" in present:
        return "waiting"
    return "running" if present else "queued"


def _current(
    plan: Plan, found: ScopeRows, stages: Mapping[str, StageView], over: bool
) -> str | None:
    if over:
        failed = [path for path, view in stages.items() if view.status == "failed"]
        ended = [
            (row.at, plan.order.index(path), path)
            for path, row in found.stages.items()
            if path in stages
        ]
        return failed[0] if failed else (max(ended)[2] if ended else None)
    for wanted in ("running", "queued", "retrying", "waiting"):
        for path, view in stages.items():
            if view.status == wanted:
                return path
    return None


def _waiting_for(
    plan: Plan, found: ScopeRows, stages: Mapping[str, StageView]
) -> WaitingFor | None:
    for path, view in stages.items():
        parked = found.parked.get(path)
        if view.status == "retrying" and parked is not None and parked.wait is not None:
            wait = parked.wait
            return WaitingFor(path, "retry", None, wait.since, wait.due, wait.reason)
        row = found.stages.get(path)
        if view.status == "waiting" and row is not None and row.wait is not None:
            gate = plan.by_path[path].gate
            wait = row.wait
            return WaitingFor(
                path, wait.kind, gate.name if gate else None, wait.since, wait.due, wait.reason
            )
    for path, view in stages.items():
        if view.status == "waiting":
            return WaitingFor(path, "join", None, view.created_at or 0, None, view.reason)
        if view.status == "retrying":
            # Its keeper has not parked it yet: a matter of milliseconds.
            since = view.tries[-1].ended if view.tries else view.created_at
            return WaitingFor(path, "retry", None, since or 0, None, view.reason)
    return None


class Explanation(msgspec.Struct):
    """Why a job stands where it stands."""

    stage: str
    kind: str
    gate: str | None
    since: int
    due: int | None
    on_timeout: str | None
    clauses: tuple[ClauseFinding, ...]
    arrived: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def explain_waits(
    job_id: str, plan: Plan, rows: Mapping[str, bytes], shared: Mapping[str, Any] | None = None
) -> list[Explanation]:
    """Every wait of the job, with its condition judged on the values of this moment."""
    found = read_rows(rows)
    settled = settled_rows(plan, found)
    waits = []
    for path in plan.order:
        row, part = found.stages.get(path), plan.by_path[path]
        if settled.states[path] != "open":
            continue
        if row is not None and row.status == "WAITING" and row.wait is not None:
            clauses: tuple[ClauseFinding, ...] = ()
            if part.gate is not None:
                names = gate_names(job_id, plan, found, shared)
                clauses = judge(part.gate, names, row.wait.seen).clauses
            waits.append(
                Explanation(
                    path, row.wait.kind, part.gate.name if part.gate else None, row.wait.since,
                    row.wait.due, part.gate.on_timeout if part.gate else None, clauses,
                )
            )  # fmt: skip
        elif path in found.parked and (wait := found.parked[path].wait) is not None:
            waits.append(Explanation(path, "retry", None, wait.since, wait.due, None, ()))
        elif path in found.arrivals:
            here = tuple(sorted(found.arrivals[path]))
            ways = plan.incoming[path]
            missing = tuple(
                up for up, _ in ways
                if up not in here and way(up, path, settled.states, found.stages) != "dead"
            )  # fmt: skip
            since = min(r.wait.since for r in found.arrivals[path].values() if r.wait)
            waits.append(Explanation(path, "join", None, since, None, None, (), here, missing))
    return waits
