"""What goes into one call of a stage, and what comes out of it."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.authoring.context import CancelToken
from streams.engine.messages import AnyEvent
from streams.engine.payload import JobIdentity, Payload
from streams.engine.rows import NULL, Failure
from streams.event import idempotency_key
from streams.outcome import Verdict
from streams.topology.plan import Part, Plan


class Call(msgspec.Struct, frozen=True):
    """One event for one part."""

    plan: Plan
    part: Part
    event: AnyEvent
    payload: Payload
    job: JobIdentity
    cancel: CancelToken = msgspec.field(default_factory=CancelToken)

    @property
    def idempotency_key(self) -> str:
        """The same for every repeat of the same work; made when a stage asks for it."""
        job = self.job
        return idempotency_key(job.id, self.plan.digest, job.scope, self.part.path, 0)


class Outcome(msgspec.Struct, frozen=True):
    """One attempt's end. Holds no secret's value and nothing that JSON cannot hold."""

    verdict: Verdict
    """Without the value: that is `out`."""
    out: msgspec.Raw = NULL
    """The value as JSON, or `{"$blob": …}` above 48 KiB."""
    meta: dict[str, Any] = {}
    """Fields for the row, and through it for the job's ledger view."""
    started: int = 0
    ended: int = 0
    log: str = ""
    """The last 8 KiB of the attempt's log."""
    error: Failure | None = None
    cancelled: bool = False
    """Stopped by the call's token; whatever it returned was dropped."""


class Raised(msgspec.Struct, frozen=True):
    """User code raised; carried as a value, so that `SystemExit` cannot end a task or a thread."""

    error: BaseException


class Answer(msgspec.Struct, frozen=True):
    """A checked answer, not yet in the blob store."""

    verdict: Verdict
    data: bytes = b"null"
    meta: dict[str, Any] = {}
