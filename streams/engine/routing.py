"""Verdict and plan to actions: what an agent writes after a stage has answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streams.engine import payload as payloads
from streams.engine.actions import Publish
from streams.engine.flow import Flow
from streams.engine.messages import RETRY, SIGNAL, Delivery, SignalData, cause_text, make
from streams.engine.payload import Payload
from streams.engine.rows import NOTHING, Attempt, Failure, Row, Status
from streams.event import Event
from streams.outcome import Cancel, Fail, Ok, Retry, Route, Skip, Verdict
from streams.topology.plan import Part


class Answer(msgspec.Struct, frozen=True):
    """A verdict with all that the attempt left behind."""

    verdict: Verdict
    started: int
    ended: int
    out: msgspec.Raw = NOTHING
    meta: Mapping[str, Any] = {}
    error: Failure | None = None
    stopped: bool = False
    """The job was stopped while it ran: the result is dropped."""


def route(
    flow: Flow,
    part: Part,
    event: Event,
    delivery: Delivery,
    payload: Payload,
    answer: Answer,
    delay: float | None,
) -> None:
    """Adds to the flow what follows from the answer. `delay`: seconds to the next attempt, if any."""
    common = {"turn": delivery.turn, "attempt": delivery.attempt}
    verdict = answer.verdict
    if answer.stopped:
        flow.end(part, "CANCELLED", event.id, payload, times=_times(delivery, payload, answer, "CANCELLED"), reason="stopped", **common)
    elif isinstance(verdict, Ok):
        flow.end(part, "SUCCESS", event.id, payload, out=answer.out, meta=answer.meta, times=_times(delivery, payload, answer, "SUCCESS"), **common)
    elif isinstance(verdict, Skip):
        flow.end(part, "SKIPPED", event.id, payload, reason=verdict.reason, times=_times(delivery, payload, answer, "SKIPPED"), **common)
    elif isinstance(verdict, Route):
        _branch(flow, part, event, delivery, payload, answer, verdict)
    elif isinstance(verdict, Cancel):
        _cancel(flow, part, event, delivery, payload, answer, verdict)
    elif isinstance(verdict, Retry):
        later(flow, part, event, delivery, payload, answer, verdict.after, spent=False, reason=verdict.reason)
    elif delay is not None:
        later(flow, part, event, delivery, payload, answer, delay, spent=True)
    else:
        failure = answer.error or _failure(verdict)
        flow.fail(part, event, payload, failure, times=_times(delivery, payload, answer, "FAILED", failure), meta=answer.meta, **common)


def _failure(verdict: Verdict) -> Failure:
    return Failure(verdict.code, verdict.message) if isinstance(verdict, Fail) else Failure("S001", "")


def _times(delivery: Delivery, payload: Payload, answer: Answer, status: Status, error: Failure | None = None) -> tuple[Attempt, ...]:
    this = Attempt(delivery.attempt, delivery.time, answer.started, answer.ended, status, error.code if error else "")
    return (*payload.tries, this)


def _branch(flow: Flow, part: Part, event: Event, delivery: Delivery, payload: Payload, answer: Answer, verdict: Route) -> None:
    ways = flow.plan.default_taken(part.path)
    if verdict.branch in ways:
        flow.end(
            part, "SUCCESS", event.id, payload, turn=delivery.turn, attempt=delivery.attempt,
            taken=(verdict.branch,), out=answer.out, meta=answer.meta,
            times=_times(delivery, payload, answer, "SUCCESS"),
        )  # fmt: skip
        return
    failure = Failure("S012", f"routed to {verdict.branch!r}; the ways on are {', '.join(ways) or 'none'}")
    flow.fail(
        part, event, payload, failure, turn=delivery.turn, attempt=delivery.attempt,
        times=_times(delivery, payload, answer, "FAILED", failure),
    )  # fmt: skip


def _cancel(flow: Flow, part: Part, event: Event, delivery: Delivery, payload: Payload, answer: Answer, verdict: Cancel) -> None:
    flow.end(
        part, "CANCELLED", event.id, payload, turn=delivery.turn, attempt=delivery.attempt,
        reason=verdict.reason, times=_times(delivery, payload, answer, "CANCELLED"),
    )  # fmt: skip
    data = SignalData(kind="cancel", reason=verdict.reason or f"stage {part.path} asked for it", by=f"stage {part.path}", epoch=delivery.epoch)
    signal = make(SIGNAL, flow.plan, flow.origin, "@job", event.id, msgspec.json.encode(data), flow.now, source=part.path, job=delivery.root)
    flow.actions.append(Publish(flow.naming.hold, delivery.root, signal))


def later(
    flow: Flow,
    part: Part,
    event: Event,
    delivery: Delivery,
    payload: Payload,
    answer: Answer,
    delay: float,
    *,
    spent: bool,
    reason: str = "",
) -> None:
    """Parks the delivery with the keeper until it is due again."""
    failure = answer.error
    tries = _times(delivery, payload, answer, "RETRYING", failure) if spent else payload.tries
    row = Row(
        status="RETRYING",
        epoch=delivery.epoch,
        turn=delivery.turn,
        attempt=delivery.attempt,
        plan=delivery.digest,
        root=delivery.root,
        err=failure,
        times=tries,
        at=flow.now,
        reason=reason,
    )
    flow.put(part.path, row)
    park(flow, part.path, event, delivery, msgspec.structs.replace(payload, tries=tries), delay,
         attempt=delivery.attempt + spent, cause=cause_text(part.path, row.order), reason=reason)  # fmt: skip


def park(
    flow: Flow,
    path: str,
    event: Event,
    delivery: Delivery,
    payload: Payload,
    delay: float,
    *,
    attempt: int,
    cause: str = "",
    reason: str = "",
) -> None:
    """The `retry` event alone: for deliveries this worker cannot run at all, no row is written."""
    retry = make(
        RETRY, flow.plan, flow.origin, path, event.id, payloads.encode(payload), flow.now,
        turn=delivery.turn, attempt=attempt, source=path,
        due=str(flow.now + round(delay * 1000)), cause=cause,
        **({"reason": one_line(reason)} if reason else {}),
    )  # fmt: skip
    flow.actions.append(Publish(flow.naming.hold, delivery.scope, retry))


def tried(delivery: Delivery, payload: Payload, answer: Answer) -> Payload:
    """The payload for the next attempt in place: with this one on its list."""
    return msgspec.structs.replace(
        payload, tries=_times(delivery, payload, answer, "RETRYING", answer.error)
    )


def one_line(text: str) -> str:
    """Text as an attribute's value may be: no line ends, no control characters, short."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]
