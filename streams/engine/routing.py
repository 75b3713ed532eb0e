"""Verdict and plan to actions: what an agent writes after a stage has answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streams.engine import payload as payloads
from streams.engine.actions import Publish
from streams.engine.flow import Flow
from streams.engine.messages import (
    RETRY,
    SIGNAL,
    AnyDelivery,
    AnyEvent,
    SignalData,
    cause_text,
    make,
)
from streams.engine.payload import Payload
from streams.engine.rows import NOTHING, Attempt, Failure, Row, Status
from streams.outcome import Cancel, Fail, Ok, Retry, Route, Skip, Verdict
from streams.topology.plan import Part


class Answer(msgspec.Struct, frozen=True, gc=False):
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
    event: AnyEvent,
    delivery: AnyDelivery,
    payload: Payload,
    answer: Answer,
    delay: float | None,
) -> None:
    """Adds what follows from the answer. `delay`: seconds to the next attempt, if there is one."""
    verdict = answer.verdict
    step = Step(flow, part, event, delivery, payload, answer)
    if answer.stopped:
        step.end("CANCELLED", reason="stopped")
    elif isinstance(verdict, Ok):
        step.end("SUCCESS")
    elif isinstance(verdict, Skip):
        step.end("SKIPPED", reason=verdict.reason)
    elif isinstance(verdict, Route):
        step.branch(verdict)
    elif isinstance(verdict, Cancel):
        step.cancel(verdict)
    elif isinstance(verdict, Retry):
        later(
            flow, part, event, delivery, payload, answer, verdict.after,
            spent=False, reason=verdict.reason,
        )  # fmt: skip
    elif delay is not None:
        later(flow, part, event, delivery, payload, answer, delay, spent=True)
    else:
        step.fail(answer.error or _failure(verdict))


class Step(msgspec.Struct, gc=False):
    """One answered delivery, and the ways it can end."""

    flow: Flow
    part: Part
    event: AnyEvent
    delivery: AnyDelivery
    payload: Payload
    answer: Answer

    def end(
        self, status: Status, *, taken: tuple[str, ...] | None = None, reason: str = ""
    ) -> None:
        """The part's last row, and the ways on."""
        good = status == "SUCCESS"
        self.flow.end(
            self.part, status, self.event.id, self.payload,
            turn=self.delivery.turn, attempt=self.delivery.attempt, taken=taken,
            out=self.answer.out if good else NOTHING,
            meta=self.answer.meta if good else {},
            times=_times(self.delivery, self.payload, self.answer, status), reason=reason,
        )  # fmt: skip

    def fail(self, failure: Failure) -> None:
        self.flow.fail(
            self.part, self.event, self.payload, failure,
            turn=self.delivery.turn, attempt=self.delivery.attempt,
            times=_times(self.delivery, self.payload, self.answer, "FAILED", failure),
            meta=self.answer.meta,
        )  # fmt: skip

    def branch(self, verdict: Route) -> None:
        """Only the named dependent goes on."""
        ways = self.flow.plan.default_taken(self.part.path)
        if verdict.branch in ways:
            self.end("SUCCESS", taken=(verdict.branch,))
            return
        known = ", ".join(ways) or "none"
        self.fail(Failure("S040", f"routed to {verdict.branch!r}; the ways on are {known}"))

    def cancel(self, verdict: Cancel) -> None:
        """The whole job is to stop: a signal to its keeper."""
        self.end("CANCELLED", reason=verdict.reason)
        flow, path = self.flow, self.part.path
        # In the words that follow from the row as well: either may be the first to arrive.
        reason = verdict.reason or f"stage {path} asked for it"
        data = SignalData(kind="cancel", reason=reason, epoch=self.delivery.epoch)
        root = self.delivery.root
        signal = make(
            SIGNAL, flow.plan, flow.origin, "@job", self.event.id, msgspec.json.encode(data),
            flow.now, source=path, job=root,
        )  # fmt: skip
        flow.actions.append(Publish(flow.naming.hold, root, signal))


def _failure(verdict: Verdict) -> Failure:
    return (
        Failure(verdict.code, verdict.message) if isinstance(verdict, Fail) else Failure("S001", "")
    )


def _times(
    delivery: AnyDelivery,
    payload: Payload,
    answer: Answer,
    status: Status,
    error: Failure | None = None,
) -> tuple[Attempt, ...]:
    this = Attempt(
        delivery.attempt,
        delivery.time,
        answer.started,
        answer.ended,
        status,
        error.code if error else "",
    )
    return (*payload.tries, this)


def later(
    flow: Flow,
    part: Part,
    event: AnyEvent,
    delivery: AnyDelivery,
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
    park(
        flow, part.path, event, delivery, msgspec.structs.replace(payload, tries=tries), delay,
        attempt=delivery.attempt + spent, cause=cause_text(part.path, row.order), reason=reason,
    )  # fmt: skip


def park(
    flow: Flow,
    path: str,
    event: AnyEvent,
    delivery: AnyDelivery,
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


def tried(delivery: AnyDelivery, payload: Payload, answer: Answer) -> Payload:
    """The payload for the next attempt in place: with this one on its list."""
    return msgspec.structs.replace(
        payload, tries=_times(delivery, payload, answer, "RETRYING", answer.error)
    )


def one_line(text: str) -> str:
    """Text as an attribute's value may be: no line ends, no control characters, short."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]
