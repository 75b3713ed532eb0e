"""Retrying a job that has ended: a new epoch, from the parts that failed or from a named one.

What is run again needs its input. Failed events are kept; other inputs are made again from the
snapshot and the outputs that rows keep. Where an output was not kept, the part that made it runs
again too.
"""

from __future__ import annotations

import msgspec

from streams.engine import arrivals, completion
from streams.engine import payload as payloads
from streams.engine.actions import Publish, PutControl
from streams.engine.messages import INPUT, Origin, make
from streams.engine.payload import Payload, Result
from streams.engine.rows import JobRow, Parked, Row, Wait
from streams.engine.settle import Settled, way
from streams.engine.turn import Turn, origin_of_job, origin_of_row
from streams.engine.view import ScopeRows, settled_rows
from streams.topology.plan import Plan


def restart(turn: Turn, job_id: str, start: str = "") -> str:
    """Begins the job's next epoch. Answers what is wrong, or nothing."""
    rows = turn.read(job_id)
    job = rows.job
    if job is None:
        return "unknown job"
    if not job.ended:
        return "job-running: only a job that has ended can be retried"
    plan = turn.plan(job.plan)
    if start and start not in plan.by_path:
        return f"no stage {start} in {plan.pipeline}"
    settled = settled_rows(plan, rows)
    if start and not _was_reached(plan, start, rows, settled):
        return f"stage {start} was never reached"
    # What else did not end well runs again too: the job could not end well without it.
    points = unfinished(plan, rows, settled) | ({start} if start else set())
    if not points:
        return "nothing failed: name a stage to start from"
    points = rebuildable(plan, rows, points, settled)
    epoch = job.epoch + 1
    begun = msgspec.structs.replace(
        job, status="RUNNING", epoch=epoch, phase=1, n=job.n + 1, completed=0, updated=turn.now,
        restarts={**job.restarts, **dict.fromkeys(sorted(points), epoch)}, reason="", err=None,
        deadline=None, stopping=None,
    )  # fmt: skip
    turn.put(job_id, "@job", begun)
    stop = msgspec.json.encode({"below": epoch, "at": turn.now, "reason": "retried"})
    turn.do(PutControl(f"stop/{job.root or job_id}", stop))
    _rearm_joins(turn, plan, job_id, begun, rows, points)
    for path in plan.order:
        if path in points:
            _start(turn, plan, job_id, begun, rows, path)
    for path in sorted(rows.dead.keys() & _reach(plan, points)):
        turn.drop(job_id, f"{path}~dead")
    completion.follow(turn, job_id)
    return ""


def unfinished(plan: Plan, rows: ScopeRows, settled: Settled) -> set[str]:
    """Parts that failed, were cancelled, or were reached and never ended."""
    found = set()
    for path in plan.order:
        row = rows.stages.get(path)
        if settled.states[path] == "ended":
            if row is not None and row.status in ("FAILED", "CANCELLED"):
                found.add(path)
        elif settled.states[path] == "open" and _was_reached(plan, path, rows, settled):
            found.add(path)
    return found


def _was_reached(plan: Plan, path: str, rows: ScopeRows, settled: Settled) -> bool:
    ways = [way(up, path, settled.states, rows.stages) for up, _ in plan.incoming[path]]
    return not ways or ("live" in ways and "open" not in ways)


def rebuildable(plan: Plan, rows: ScopeRows, points: set[str], settled: Settled) -> set[str]:
    """The points, moved up until the input of everything that runs again can be had."""
    while True:
        first = {p for p in points if not any(p != q and p in plan.reach[q] for q in points)}
        rerun = _reach(plan, first)
        lost: set[str] = set()
        for path in rerun:
            if path not in first or path not in rows.dead:
                lost |= _lost(plan, rows, path, rerun, settled)
        if not lost:
            return first
        points = first | lost


def _reach(plan: Plan, points: set[str]) -> set[str]:
    return {path for point in points for path in plan.reach[point]}


def _lost(plan: Plan, rows: ScopeRows, path: str, rerun: set[str], settled: Settled) -> set[str]:
    """Parts that do not run again, whose output this one is given, and no row kept it."""
    lost = set()
    for up, _ in plan.incoming[path]:
        if up in rerun or way(up, path, settled.states, rows.stages) != "live":
            continue
        for source in plan.edge(up, path).carry:
            row = rows.stages.get(source)
            if row is not None and row.status == "SUCCESS" and not bytes(row.out):
                lost.add(source)
    return lost


def rebuilt(plan: Plan, rows: ScopeRows, path: str, ups: list[str]) -> Payload:
    """The input of a part, made again from the snapshot and the rows."""
    stages = {}
    for up in ups:
        for source in plan.edge(up, path).carry:
            row = rows.stages.get(source)
            if row is not None and row.ended:
                stages[source] = Result(
                    row.status, row.out if bytes(row.out) else msgspec.Raw(b"null"), row.err
                )
    return Payload(params=rows.input.params, data=rows.input.data, stages=stages)


def _start(turn: Turn, plan: Plan, scope: str, job: JobRow, rows: ScopeRows, path: str) -> None:
    origin = origin_of_job(scope, job)
    kept = rows.dead.get(path)
    if kept is not None and kept.wait is not None:
        payload = payloads.decode(bytes(kept.wait.event.payload))
        parked = msgspec.structs.replace(
            kept.wait.event,
            payload=msgspec.Raw(payloads.encode(msgspec.structs.replace(payload, tries=()))),
            attempt=1,
        )
    else:
        settled = settled_rows(plan, rows)
        live = [
            up for up, _ in plan.incoming[path]
            if way(up, path, settled.states, rows.stages) == "live"
        ]  # fmt: skip
        payload = rebuilt(plan, rows, path, live)
        parked = Parked(
            parent=f"{scope}:{job.epoch}:{path}",
            payload=msgspec.Raw(payloads.encode(payload)),
            queued=turn.now,
        )
    origin = msgspec.structs.replace(origin, depth=parked.depth, trace=parked.trace)
    flow = turn.flow(plan, origin)
    arrivals.start(turn, plan, plan.by_path[path], flow, parked, turn.read(scope))


def _rearm_joins(
    turn: Turn, plan: Plan, scope: str, job: JobRow, rows: ScopeRows, points: set[str]
) -> None:
    """Joins that run again need the arrivals of the ways that do not."""
    rerun = _reach(plan, points)
    settled = settled_rows(plan, rows)
    for path in rerun - points:
        ways = plan.incoming[path]
        if len(ways) < 2:
            continue
        for up, _ in ways:
            if up in rerun or way(up, path, settled.states, rows.stages) != "live":
                continue
            payload = payloads.encode(rebuilt(plan, rows, path, [up]))
            event = Parked(parent=f"{scope}:{job.epoch}:{up}", payload=msgspec.Raw(payload))
            row = Row(
                "WAITING", epoch=job.epoch, phase=0, plan=job.plan, root=job.root, at=turn.now,
                wait=Wait("arrival", turn.now, event=event),
            )  # fmt: skip
            turn.put(scope, f"{path}~{up}", row)


def deliver(turn: Turn, scope: str, path: str, parked: Row) -> None:
    """Sends a parked delivery to its part again, one turn later."""
    wait = parked.wait
    assert wait is not None
    rows = turn.read(scope)
    plan = turn.plan(parked.plan)
    origin: Origin = origin_of_row(scope, parked, rows.job)
    body = bytes(wait.event.payload)
    if plan.by_path[path].ledger:
        # What it waited for may be in the ledger by now.
        view = arrivals.ledger_view(origin.root, plan, rows, turn.shared)
        body = payloads.encode(msgspec.structs.replace(payloads.decode(body), ledger=view))
    event = make(
        INPUT, plan, origin, path, wait.event.parent, body, turn.now,
        turn=parked.turn, attempt=wait.event.attempt,
    )  # fmt: skip
    turn.do(Publish(turn.naming.stage(path), scope, event))
