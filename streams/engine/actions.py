"""What a decision asks for. The runtime turns all actions of a step into one transaction."""

from __future__ import annotations

import msgspec

from streams.engine.messages import AnyEvent
from streams.engine.rows import Failure


class Action(msgspec.Struct, frozen=True):
    """Root of the closed set."""


class Publish(Action, frozen=True):
    """An event to a topic; partition and key are those of its scope."""

    topic: str
    scope: str
    event: AnyEvent


class PutRow(Action, frozen=True):
    """A version of a ledger row; None deletes it."""

    scope: str
    part: str
    data: bytes | None


class PutControl(Action, frozen=True):
    """A record of the control topic; None deletes it."""

    key: str
    data: bytes | None


class DeadLetter(Action, frozen=True):
    """An event that ended in failure, with its origin and cause."""

    event: AnyEvent
    topic: str
    part: str
    failure: Failure
    attempts: int
    job: str
    epoch: int
    at: int


class Forget(Action, frozen=True):
    """Deletes a purged job's blobs, after the transaction."""

    root: str
