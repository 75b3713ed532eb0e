"""How a job goes on from a part that ended: rows, next events, and the parts folded in between.

Agents and keepers share it. Parts without user code and with one way in (`echo`, `raise`) are done
inside the step of what precedes them; their rows stand in the same transaction, by the same writer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streams.engine import payload as payloads
from streams.engine.actions import Action, DeadLetter, Publish, PutRow
from streams.engine.messages import (
    ARRIVE,
    DEAD,
    INPUT,
    AnyEvent,
    AnyOrigin,
    cause_text,
    make,
    stage_event,
)
from streams.engine.payload import JobIdentity, Payload, Result
from streams.engine.rows import NOTHING, NULL, Attempt, Failure, Row, Status, encode
from streams.engine.settle import WIDE, is_closing
from streams.errors import ExpressionError
from streams.event import Event
from streams.topology.expressions import compile_expression, compile_value, evaluate_bool
from streams.topology.plan import Naming, Part, Plan

Arrive = Callable[[Event], None]


class Flow:
    """One step of one job. `actions` holds what it asks for."""

    __slots__ = (
        "_blobs",
        "_on_arrival",
        "_worker",
        "actions",
        "echoes",
        "naming",
        "now",
        "origin",
        "plan",
        "status",
    )

    def __init__(
        self,
        plan: Plan,
        naming: Naming,
        origin: AnyOrigin,
        now: int,
        *,
        worker: str = "",
        blobs: Mapping[str, Any] | None = None,
        arrive: Arrive | None = None,
    ) -> None:
        self.plan = plan
        self.naming = naming
        self.origin = origin
        self.now = now
        self.actions: list[Action] = []
        self.status: Status | None = None
        """Of the row that the step begins with."""
        self.echoes: list[tuple[str, str]] = []
        self._worker = worker
        self._blobs = dict(blobs) if blobs else {}
        self._on_arrival = arrive

    def names(
        self, payload: Payload, roots: frozenset[str], *, turn: int = 1, attempt: int = 1
    ) -> dict[str, Any]:
        """What expressions of this job see."""
        return payloads.environment(payload, self.identity(turn, attempt), roots, self._blobs)

    def identity(self, turn: int = 1, attempt: int = 1) -> JobIdentity:
        o = self.origin
        return JobIdentity(
            o.root, self.plan.pipeline, self.plan.version, o.scope, o.epoch, turn, attempt, o.tenant
        )

    def wanted(self, part: Part, payload: Payload) -> bool:
        """The part's `if`; true without one. Raises `ExpressionError`."""
        if part.condition is None:
            return True
        expression = compile_expression(part.condition)
        return evaluate_bool(expression, self.names(payload, expression.roots))

    def end(
        self,
        part: Part,
        status: Status,
        parent: str,
        payload: Payload,
        *,
        turn: int = 1,
        attempt: int = 1,
        n: int = 0,
        taken: tuple[str, ...] | None = None,
        out: msgspec.Raw = NOTHING,
        err: Failure | None = None,
        times: tuple[Attempt, ...] = (),
        meta: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> Row:
        """Writes the part's last row of this turn and goes along the ways it takes."""
        if taken is None:
            taken = self.plan.default_taken(part.path) if status in ("SUCCESS", "SKIPPED") else ()
        origin = self.origin
        # By position: naming the fields takes seven times as long.
        row = Row(
            status,
            origin.epoch,
            turn,
            attempt,
            2,
            n,
            origin.digest,
            origin.root,
            taken,
            out if len(out) <= payloads.ROW_LIMIT else NOTHING,
            err,
            times,
            dict(meta) if meta else {},
            self._worker,
            self.now,
            reason,
        )
        self.put(part.path, row)
        if taken:
            self._go_on(part, row, parent, payload, Result(status, out if len(out) else NULL, err))
        return row

    def put(self, path: str, row: Row) -> None:
        closing = "~" not in path and is_closing(self.plan, path, row)
        if not self.actions:
            self.status = row.status
        self.actions.append(PutRow(self.origin.scope, path, encode(row, closing=closing)))

    def _go_on(self, part: Part, row: Row, parent: str, payload: Payload, result: Result) -> None:
        path, plan = part.path, self.plan
        stages = {**payload.stages, path: result}
        taken = row.taken if len(row.taken) < WIDE else frozenset(row.taken)
        for edge in part.edges:
            to = edge.to
            if to not in taken:
                continue
            carried = {path: stages[path] for path in edge.carry if path in stages}
            onward = Payload(payload.params, payload.data, carried)
            entry = plan.entries[to]
            if entry == "topic":
                self.send(plan.by_path[to], parent, onward, via=path)
            else:
                # Only the keeper waits for the row that an event was written with.
                cause = self.cause(path, row) if entry == "hold" else ""
                self.enter(plan.by_path[to], parent, onward, via=path, cause=cause)

    def cause(self, path: str, row: Row) -> str:
        """What an event says of the row it was written with."""
        return cause_text(path, row.order)

    def enter(
        self, part: Part, parent: str, payload: Payload, *, via: str = "", cause: str = ""
    ) -> None:
        """Brings the job to a part: by its topic, by the keeper, or here and now."""
        entry = self.plan.entries[part.path]
        if entry == "fold":
            self.fold(part, parent, payload)
        elif entry == "topic":
            self.send(part, parent, payload, via=via)
        else:
            self._arrive(
                make(
                    ARRIVE,
                    self.plan,
                    self.origin,
                    part.path,
                    parent,
                    payloads.encode(payload),
                    self.now,
                    source=via,
                    via=via,
                    cause=cause,
                )
            )

    def _arrive(self, event: Event) -> None:
        # No method of its own as the default of `_on_arrival`: a flow that holds itself, and with it
        # the events of its step, is only freed by the garbage collector.
        if self._on_arrival is not None:
            self._on_arrival(event)
        else:
            self.actions.append(Publish(self.naming.hold, self.origin.scope, event))

    def send(self, part: Part, parent: str, payload: Payload, *, via: str = "") -> None:
        """The part's stage is to run."""
        event = stage_event(
            self.plan, self.origin, part.path, parent, payload, self.now, source=via
        )
        self.actions.append(Publish(self.naming.stage(part.path), self.origin.scope, event))

    def fold(self, part: Part, parent: str, payload: Payload) -> None:
        """Does a part without user code here and now."""
        event = make(
            INPUT, self.plan, self.origin, part.path, parent, payloads.encode(payload), self.now
        )
        self.run_folded(part, event, payload)

    def run_folded(self, part: Part, event: Event, payload: Payload, *, turn: int = 1) -> None:
        """Does a part without user code: skipped, said, or raised."""
        try:
            if not self.wanted(part, payload):
                self.end(part, "SKIPPED", event.id, payload, turn=turn, reason="if is false")
                return
            message = self.text(part.message if part.kind == "raise" else part.echo, payload)
            meta = self.sets(part, payload)
        except ExpressionError as error:
            self.fail(part, event, payload, Failure(error.code, error.message), turn=turn)
            return
        if part.kind == "raise":
            self.fail(part, event, payload, Failure("S002", message), turn=turn)
            return
        if message:
            self.echoes.append((part.path, message))
        self.end(part, "SUCCESS", event.id, payload, turn=turn, out=NULL, meta=meta)

    def text(self, template: str | None, payload: Payload) -> str:
        """A text with its `${{ }}` filled in."""
        if template is None:
            return ""
        value = compile_value(template)
        filled = value.evaluate(self.names(payload, value.roots))
        return filled if isinstance(filled, str) else msgspec.json.encode(filled).decode()

    def sets(self, part: Part, payload: Payload) -> dict[str, Any]:
        """The ledger fields a part without user code writes."""
        if not part.sets:
            return {}
        value = compile_value(part.sets)
        found: dict[str, Any] = value.evaluate(self.names(payload, value.roots))
        return found

    def fail(
        self,
        part: Part,
        event: AnyEvent,
        payload: Payload,
        failure: Failure,
        *,
        turn: int = 1,
        attempt: int = 1,
        n: int = 0,
        times: tuple[Attempt, ...] = (),
        meta: Mapping[str, Any] | None = None,
        topic: str = "",
    ) -> None:
        """The last failure of a part: its row, the dead letter, and the input kept for a retry."""
        row = self.end(
            part, "FAILED", event.id, payload,
            turn=turn, attempt=attempt, n=n, err=failure, times=times, meta=meta,
        )  # fmt: skip
        self.actions.append(
            DeadLetter(
                event=event,
                topic=topic or self.naming.stage(part.path),
                part=part.path,
                failure=failure,
                attempts=attempt,
                job=self.origin.root,
                epoch=self.origin.epoch,
                at=self.now,
            )
        )
        kept = make(
            DEAD, self.plan, self.origin, part.path, event.id, payloads.encode(payload), self.now,
            turn=turn, attempt=attempt, source=part.path, cause=cause_text(part.path, row.order),
        )  # fmt: skip
        self._arrive(kept)
