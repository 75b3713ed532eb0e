"""What arrives at the keeper: results at joins, gates and sleeps, delayed retries, failed inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streams.engine import gates
from streams.engine import payload as payloads
from streams.engine.actions import Publish
from streams.engine.flow import Flow
from streams.engine.messages import DEAD, RETRY, Delivery, Origin, make, origin_of
from streams.engine.payload import Payload
from streams.engine.rows import ENDED, JobRow, Parked, Row, Wait
from streams.engine.settle import floors, join_is_ready
from streams.engine.turn import Turn
from streams.engine.view import ScopeRows, gate_names, settled_rows
from streams.event import Event
from streams.topology.plan import KEEPER_RUN, USER_CODE, Part, Plan


def handle(turn: Turn, delivery: Delivery) -> None:
    """Decides on one hold event, and on all that follows within this turn."""
    turn.arrivals.append(delivery)
    drain(turn)


def drain(turn: Turn) -> None:
    """Brings every arrival of this turn on; past the inline limit through the hold topic."""
    while turn.arrivals:
        delivery = turn.arrivals.popleft()
        if turn.may_inline():
            _arrive(turn, delivery)
        else:
            turn.do(Publish(turn.naming.hold, delivery.scope, _again(turn, delivery)))


def _again(turn: Turn, delivery: Delivery) -> Event:
    plan = turn.plan(delivery.digest)
    more = {"via": delivery.via} if delivery.via else {}
    if delivery.due:
        more["due"] = str(delivery.due)
    return make(
        delivery.type, plan, origin_of(delivery), delivery.part, delivery.id,
        delivery.data or b"{}", turn.now, turn=delivery.turn, attempt=delivery.attempt,
        source=delivery.via, cause=delivery.cause, **more,
    )  # fmt: skip


def is_late(delivery: Delivery, job: JobRow | None, plan: Plan) -> bool:
    """Nothing may follow from it any more: the job is over, or was restarted since."""
    if job is None or job.status in ENDED or job.stopping is not None:
        return True
    if not job.restarts:
        return False
    return delivery.epoch < floors(plan, job.restarts).get(delivery.part, 0)


def _arrive(turn: Turn, delivery: Delivery) -> None:
    plan = turn.plan(delivery.digest)
    job = turn.job(delivery.scope)
    if delivery.type == DEAD:
        _keep_dead(turn, delivery, job)
        return
    if delivery.part not in plan.by_path or is_late(delivery, job, plan):
        return
    part = plan.by_path[delivery.part]
    if delivery.type == RETRY:
        _keep_retry(turn, delivery)
    elif len(plan.incoming[part.path]) > 1:
        _join(turn, part, delivery)
    else:
        rows = turn.read(delivery.scope)
        start(turn, plan, part, origin_flow(turn, plan, delivery), delivery.parked, rows)


def origin_flow(turn: Turn, plan: Plan, delivery: Delivery) -> Flow:
    return turn.flow(plan, origin_of(delivery))


def _keep_dead(turn: Turn, delivery: Delivery, job: JobRow | None) -> None:
    if job is None or job.epoch > delivery.epoch:
        return
    wait = Wait("dead", turn.now, event=delivery.parked)
    turn.put(delivery.scope, f"{delivery.part}~dead", _companion(turn, delivery, wait))


def _keep_retry(turn: Turn, delivery: Delivery) -> None:
    wait = Wait("retry", turn.now, due=delivery.due, event=delivery.parked, reason=delivery.reason)
    turn.put(delivery.scope, f"{delivery.part}~", _companion(turn, delivery, wait, n=1))


def _companion(turn: Turn, delivery: Delivery, wait: Wait, n: int = 0) -> Row:
    return Row(
        "WAITING",
        epoch=delivery.epoch,
        turn=delivery.turn + bool(n),
        attempt=delivery.attempt,
        phase=0,
        n=n,
        plan=delivery.digest,
        root=delivery.root,
        at=turn.now,
        wait=wait,
    )


def _join(turn: Turn, part: Part, delivery: Delivery) -> None:
    """Keeps the arrival. The part starts with the last of them, when the scope is settled: once for
    all that arrived in this turn."""
    already = turn.arrival(delivery.scope, part.path, delivery.via)
    if already is not None and already.epoch >= delivery.epoch:
        return
    wait = Wait("arrival", turn.now, None, delivery.parked)
    row = _companion(turn, delivery, wait)
    turn.keep_arrival(delivery.scope, part.path, delivery.via, row)


def _is_awaited(plan: Plan, part: Part, rows: ScopeRows) -> bool:
    """Whether a way in has not arrived that is live or open for sure: no need to settle the whole
    plan."""
    here = rows.arrivals[part.path]
    floor = floors(plan, rows.job.restarts) if rows.job and rows.job.restarts else {}

    def leads_to(up: str, to: str) -> bool | None:
        """Whether `up` has gone on to it; None as long as it has not ended."""
        row = rows.stages.get(up)
        if row is None or row.status not in ENDED or row.epoch < floor.get(up, 0):
            return None
        return to in row.taken

    for up, _ in plan.incoming[part.path]:
        if up in here:
            continue
        gone = leads_to(up, part.path)
        ways = plan.incoming[up]
        if gone or (gone is None and (not ways or any(leads_to(way, up) for way, _ in ways))):
            return True
    return False


def fire_if_ready(turn: Turn, plan: Plan, part: Part, scope: str) -> bool:
    """Starts a join whose live ways in have all arrived."""
    rows = turn.read(scope)
    here = rows.arrivals.get(part.path, {})
    if not here or _is_awaited(plan, part, rows):
        return False
    settled = settled_rows(plan, rows)
    if not join_is_ready(plan, part.path, settled, rows.stages, frozenset(here)):
        return False
    ordered = [here[up] for up, _ in plan.incoming[part.path] if up in here]
    waits = [row.wait for row in ordered if row.wait is not None]
    merged = merge([turn.payload(wait.event) for wait in waits])
    parked = waits[0].event
    turn.spend(scope, part.path, here)
    if part.kind in KEEPER_RUN:  # It may have to be held.
        parked = msgspec.structs.replace(parked, payload=msgspec.Raw(payloads.encode(merged)))
    job = rows.job
    assert job is not None
    from_row = ordered[0]
    flow = turn.flow(
        plan,
        _origin(scope, from_row, parked, job, max(row.epoch for row in ordered)),
    )
    start(turn, plan, part, flow, parked, turn.read(scope), merged)
    return True


def _origin(scope: str, row: Row, parked: Parked, job: JobRow, epoch: int) -> Origin:
    return Origin(
        scope,
        row.root or scope,
        epoch,
        row.plan,
        parked.depth,
        job.tenant,
        parked.trace,
        job.priority,
    )


def merge(arrived: list[Payload]) -> Payload:
    """One payload from those of all ways in."""
    stages = {path: result for payload in arrived for path, result in payload.stages.items()}
    return msgspec.structs.replace(arrived[0], stages=stages)


def start(
    turn: Turn,
    plan: Plan,
    part: Part,
    flow: Flow,
    parked: Parked,
    rows: ScopeRows,
    payload: Payload | None = None,
) -> None:
    """Begins a part that the keeper lets in: runs it, holds it, or sends it to its topic.
    `payload`: what it is given, if not what is parked."""
    if payload is None:
        payload = turn.payload(parked)
    if part.kind in KEEPER_RUN:
        gates.enter(turn, plan, part, flow, parked, payload, rows)
        turn.absorb(flow)
        return
    if part.ledger:
        view = ledger_view(flow.origin.root, plan, rows, turn.shared)
        payload = msgspec.structs.replace(payload, ledger=view)
    if part.kind in USER_CODE:
        flow.send(part, parked.parent, payload)
    else:
        flow.fold(part, parked.parent, payload)
    turn.absorb(flow)


def ledger_view(job: str, plan: Plan, rows: ScopeRows, shared: Mapping[str, Any]) -> dict[str, Any]:
    """What `@ledger` gives: the looked-up fields, with facts, metadata and stages apart."""
    view: dict[str, Any] = gate_names(job, plan, rows, shared)["ledger"]
    return view
