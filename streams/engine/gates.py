"""Gates and sleeps: parts that hold a job in a row until something is true or due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from streams.engine import payload as payloads
from streams.engine.flow import Flow
from streams.engine.holds import Judgement, judge
from streams.engine.messages import INPUT, make
from streams.engine.payload import Payload
from streams.engine.rows import NULL, Attempt, Failure, Parked, Row, Wait
from streams.engine.turn import Turn, origin_of_row
from streams.engine.view import ScopeRows, gate_names
from streams.errors import ExpressionError
from streams.event import Event
from streams.topology.expressions import compile_expression
from streams.topology.plan import Gate, Part, Plan

if TYPE_CHECKING:
    from streams.engine.rows import Status


def enter(
    turn: Turn,
    plan: Plan,
    part: Part,
    flow: Flow,
    parked: Parked,
    payload: Payload,
    rows: ScopeRows,
) -> None:
    """A job reaches a gate or a sleep: it passes at once, or is held."""
    before = rows.stages.get(part.path)
    if before is not None and before.epoch >= flow.origin.epoch:
        return
    try:
        if not flow.wanted(part, _with_view(turn, plan, part, flow, payload, rows)):
            flow.end(part, "SKIPPED", parked.parent, payload, reason="if is false")
            return
        if part.kind == "sleep":
            _sleep(turn, part, flow, parked, payload)
        else:
            _look_first(turn, plan, part, flow, parked, payload, rows)
    except ExpressionError as error:
        event = _event(plan, flow, part, parked, turn)
        flow.fail(part, event, payload, Failure(error.code, error.message))


def _with_view(
    turn: Turn, plan: Plan, part: Part, flow: Flow, payload: Payload, rows: ScopeRows
) -> Payload:
    if not part.ledger:
        return payload
    names = gate_names(flow.origin.root, plan, rows, turn.shared)
    return msgspec.structs.replace(payload, ledger=names["ledger"])


def _sleep(turn: Turn, part: Part, flow: Flow, parked: Parked, payload: Payload) -> None:
    if part.echo:
        flow.echoes.append((part.path, flow.text(part.echo, payload)))
    length = part.sleep_ms
    if part.sleep is not None:
        expression = compile_expression(part.sleep)
        seconds = expression.evaluate(flow.names(payload, expression.roots))
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not 0 <= seconds <= 1800
        ):
            raise ExpressionError(
                f"sleep is {seconds!r}: it must be a number of seconds from 0 to 1800",
                code="X020",
                source=part.sleep,
            )
        length = round(seconds * 1000)
    wait = Wait("sleep", turn.now, due=turn.now + length, event=parked)
    flow.put(part.path, _waiting(turn, flow, wait))


def _waiting(turn: Turn, flow: Flow, wait: Wait) -> Row:
    return Row(
        "WAITING",
        epoch=flow.origin.epoch,
        phase=0,
        plan=flow.origin.digest,
        root=flow.origin.root,
        at=turn.now,
        wait=wait,
    )


def _look_first(
    turn: Turn,
    plan: Plan,
    part: Part,
    flow: Flow,
    parked: Parked,
    payload: Payload,
    rows: ScopeRows,
) -> None:
    gate = gate_of(part)
    turn.judged(flow.origin.scope, part.path)
    found = judge(gate, gate_names(flow.origin.root, plan, rows, turn.shared), {})
    if found.passed:
        meta = _passed(gate, turn.now, turn.now, 1)
        reason = "" if found.applies else "its `when` is false"
        flow.end(part, "SUCCESS", parked.parent, payload, out=NULL, meta=meta, reason=reason)
        return
    due = turn.now + gate.timeout_ms if gate.timeout_ms is not None else None
    wait = Wait("gate", turn.now, due=due, event=parked, seen=found.seen, looks=1)
    flow.put(part.path, _waiting(turn, flow, wait))


def gate_of(part: Part) -> Gate:
    assert part.gate is not None, part.path
    return part.gate


def _passed(gate: Gate, since: int, now: int, looks: int) -> dict[str, Any]:
    return {
        f"gate.{gate.name}.attempts": looks,
        f"gate.{gate.name}.passed_at": now,
        f"gate.{gate.name}.elapsed_seconds": (now - since) / 1000,
    }


def look_again(turn: Turn, scope: str, *, counted: bool = True, since_change: bool = False) -> bool:
    """Judges every gate that holds this scope: something it may read has changed. With
    `since_change` only those not judged since this turn last changed it. True if one opened."""
    rows = turn.read(scope)
    held = [
        (path, row)
        for path, row in rows.stages.items()
        if row.status == "WAITING" and row.wait is not None and row.wait.kind == "gate"
        and not (since_change and not turn.changed_since_judged(scope, path))
    ]  # fmt: skip
    for path, _ in held:
        turn.judged(scope, path)
    opened = False
    for path, row in held:
        plan = turn.plan(row.plan)
        names = gate_names(row.root or scope, plan, rows, turn.shared)
        opened |= _judge(turn, plan, scope, path, row, names, rows, counted=counted)
    return opened


def _judge(
    turn: Turn,
    plan: Plan,
    scope: str,
    path: str,
    row: Row,
    names: dict[str, Any],
    rows: ScopeRows,
    *,
    counted: bool,
) -> bool:
    part = plan.by_path[path]
    gate, wait = gate_of(part), row.wait
    assert wait is not None
    found: Judgement = judge(gate, names, wait.seen)
    looks = wait.looks + 1
    if found.passed:
        end(turn, plan, scope, part, row, rows, meta=_passed(gate, wait.since, turn.now, looks))
        return True
    if counted or found.seen != wait.seen:
        again = msgspec.structs.replace(wait, looks=looks, seen=found.seen)
        turn.put(scope, path, msgspec.structs.replace(row, wait=again, n=row.n + 1, at=turn.now))
    return False


def end(
    turn: Turn,
    plan: Plan,
    scope: str,
    part: Part,
    row: Row,
    rows: ScopeRows,
    *,
    status: Status = "SUCCESS",
    taken: tuple[str, ...] | None = None,
    meta: dict[str, Any] | None = None,
    reason: str = "",
) -> None:
    """A held job leaves its gate or sleep."""
    wait = row.wait
    assert wait is not None
    flow = turn.flow(plan, origin_of_row(scope, row, rows.job))
    payload = payloads.decode(bytes(wait.event.payload))
    flow.end(
        part, status, wait.event.parent, payload, turn=row.turn, n=row.n + 1,
        taken=taken, out=NULL, meta=meta, reason=reason, times=_held(wait, turn.now, status),
    )  # fmt: skip
    turn.absorb(flow)


def _held(wait: Wait, now: int, status: Status) -> tuple[Attempt, ...]:
    """The time it was held, for the waterfall."""
    return (Attempt(1, wait.since, wait.since, now, status),)


def time_is_up(
    turn: Turn, scope: str, path: str, *, reason: str = "timed out", rejected: bool = False
) -> None:
    """A held job's deadline has passed, or somebody rejected it: `on_timeout` says what follows."""
    rows = turn.read(scope)
    row = rows.stages.get(path)
    if row is None or row.status != "WAITING" or row.wait is None:
        return
    plan = turn.plan(row.plan)
    part = plan.by_path[path]
    if part.kind == "sleep":
        end(turn, plan, scope, part, row, rows)
        return
    gate, wait = gate_of(part), row.wait
    waited = {
        f"gate.{gate.name}.attempts": wait.looks,
        f"gate.{gate.name}.elapsed_seconds": (turn.now - wait.since) / 1000,
    }
    rule = gate.on_timeout
    if rule == "route" and gate.on_timeout_to is not None:
        end(
            turn,
            plan,
            scope,
            part,
            row,
            rows,
            taken=(gate.on_timeout_to,),
            meta=waited,
            reason=reason,
        )
    elif rule == "skip":
        end(turn, plan, scope, part, row, rows, status="SKIPPED", meta=waited, reason=reason)
    elif rule == "continue" and not rejected:
        end(turn, plan, scope, part, row, rows, meta=waited, reason=reason)
    else:
        _fail(turn, plan, scope, part, row, rows, waited, reason, rejected)


def _fail(
    turn: Turn,
    plan: Plan,
    scope: str,
    part: Part,
    row: Row,
    rows: ScopeRows,
    meta: dict[str, Any],
    reason: str,
    rejected: bool,
) -> None:
    wait = row.wait
    assert wait is not None
    gate = gate_of(part)
    failure = Failure(
        "G002" if rejected else "G001",
        f"gate {gate.name}: {reason}" if rejected
        else f"gate {gate.name} timed out after {(turn.now - wait.since) / 1000:g} s",
    )  # fmt: skip
    flow = turn.flow(plan, origin_of_row(scope, row, rows.job))
    payload = payloads.decode(bytes(wait.event.payload))
    flow.fail(
        part, _event(plan, flow, part, wait.event, turn), payload, failure,
        turn=row.turn, n=row.n + 1, meta=meta, topic=turn.naming.hold,
        times=_held(wait, turn.now, "FAILED"),
    )  # fmt: skip
    turn.absorb(flow)


def _event(plan: Plan, flow: Flow, part: Part, parked: Parked, turn: Turn) -> Event:
    return make(INPUT, plan, flow.origin, part.path, parked.parent, bytes(parked.payload), turn.now)


def reject(turn: Turn, scope: str, path: str, *, reason: str) -> str:
    """Ends the wait as `on_timeout` says. Answers what is wrong, or nothing."""
    row = turn.read(scope).stages.get(path)
    if row is None or row.status != "WAITING" or row.wait is None or row.wait.kind != "gate":
        return f"{path} does not wait at a gate"
    time_is_up(turn, scope, path, reason=reason, rejected=True)
    return ""


def release(turn: Turn, scope: str, path: str, *, by: str, reason: str) -> str:
    """Lets a held job pass whatever its condition says. Answers what is wrong, or nothing."""
    rows = turn.read(scope)
    row = rows.stages.get(path)
    if row is None or row.status != "WAITING" or row.wait is None:
        return f"{path} does not wait"
    plan = turn.plan(row.plan)
    part = plan.by_path[path]
    said = f"released by {by or 'somebody'}" + (f": {reason}" if reason else "")
    meta: dict[str, Any] = {}
    if part.gate is not None:
        meta = _passed(part.gate, row.wait.since, turn.now, row.wait.looks)
        meta[f"gate.{part.gate.name}.released_by"] = by
    end(turn, plan, scope, part, row, rows, meta=meta, reason=said)
    return ""
