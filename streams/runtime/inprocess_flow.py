"""The engine's steps for a run in memory: what they ask for stays objects.

On a log every row and event is bytes, since another process reads it. Here the reader is the next
line of the same run, so rows are kept and deliveries handed on as they are. Nothing is decided
here: which row is written and where the job goes on is `Flow`'s.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streams.engine import payload as payloads
from streams.engine.actions import Action
from streams.engine.flow import Flow
from streams.engine.messages import (
    ARRIVE,
    INPUT,
    AnyDelivery,
    AnyOrigin,
    Delivery,
    Origin,
    read,
)
from streams.engine.payload import Payload
from streams.engine.rows import AnyRow, Row
from streams.engine.settle import is_closing
from streams.event import Event
from streams.topology.plan import Naming, Part, Plan

SOURCE = "/streams/inprocess"


class Keep(Action, frozen=True, gc=False):
    """A version of a row, not encoded."""

    part: str
    row: AnyRow
    closing: bool


class Begin(Action, frozen=True, gc=False):
    """A delivery for a stage with its payload, neither of them encoded."""

    delivery: Delivery
    payload: Payload


class Over(Action, frozen=True, gc=False):
    """The job has ended; nobody else wants to know."""


class Post:
    """Makes the deliveries of one run. Their ids are numbers: nobody outside the run sees one
    twice, and what must be the same in every run is the idempotency key."""

    def __init__(self, job: str, digest: str) -> None:
        self.job = job
        self._digest = digest
        self._ids = itertools.count()
        self._origins: dict[int, Origin] = {}
        self.payloads: dict[str, Payload] = {}
        """By the delivery that brings it to the keeper, which thus need not read it again."""
        self._extensions: dict[str, str | int | bool | bytes] = {"correlationid": job}

    def new_id(self) -> str:
        return f"{self.job}:{next(self._ids)}"

    def origin(self, delivery: AnyDelivery) -> Origin:
        """What the steps that follow from this delivery have in common."""
        known = self._origins.get(delivery.epoch)
        if known is None:
            known = Origin(self.job, self.job, delivery.epoch, self._digest)
            self._origins[delivery.epoch] = known
        return known

    def delivery(
        self,
        kind: str,
        origin: AnyOrigin,
        part: str,
        now: int,
        data: bytes | None = None,
        via: str = "",
    ) -> Delivery:
        return Delivery(
            f"{self.job}:{next(self._ids)}", kind, self.job, part, self.job, origin.epoch, 1, 1, self._digest,
            0, "", "", now, data, via,
        )  # fmt: skip

    def event(self, delivery: Delivery) -> Event:
        """The event that a delivery would have come in."""
        return Event(
            delivery.id, SOURCE, delivery.type, None, None, self.job,
            extensions=self._extensions,
        )  # fmt: skip


class LocalFlow(Flow):
    """A step of a run in memory."""

    __slots__ = ("_arrived", "_post")

    def __init__(
        self,
        plan: Plan,
        naming: Naming,
        origin: Origin,
        now: int,
        *,
        post: Post,
        worker: str = "",
        blobs: Mapping[str, Any] | None = None,
        arrived: Callable[[Delivery], None] | None = None,
    ) -> None:
        super().__init__(plan, naming, origin, now, worker=worker, blobs=blobs)
        self._post = post
        self._arrived = arrived

    def put(self, path: str, row: Row) -> None:
        closing = "~" not in path and is_closing(self.plan, path, row)
        self.actions.append(Keep(path, owned(row) if row.meta else row, closing))

    def cause(self, path: str, row: Row) -> str:  # noqa: ARG002
        """Nothing: no row comes later than its event here."""
        return ""

    def enter(
        self,
        part: Part,
        parent: str,
        payload: Payload,
        *,
        via: str = "",
        cause: str = "",  # noqa: ARG002
    ) -> None:
        """Brings the job to a part: to its stage, to the keeper, or here and now."""
        entry = self.plan.entries[part.path]
        if entry == "topic":
            self.send(part, parent, payload)
        elif entry == "fold":
            self.fold(part, parent, payload)
        else:
            data = payloads.encode(payload)
            delivery = self._post.delivery(ARRIVE, self.origin, part.path, self.now, data, via)
            self._post.payloads[delivery.id] = payload
            if self._arrived is None:
                self.actions.append(Begin(delivery, payload))
            else:
                self._arrived(delivery)

    def send(
        self,
        part: Part,
        parent: str,  # noqa: ARG002
        payload: Payload,
        *,
        via: str = "",  # noqa: ARG002
    ) -> None:
        delivery = self._post.delivery(INPUT, self.origin, part.path, self.now)
        self.actions.append(Begin(delivery, payload))

    def fold(self, part: Part, parent: str, payload: Payload) -> None:  # noqa: ARG002
        delivery = self._post.delivery(INPUT, self.origin, part.path, self.now)
        self.run_folded(part, self._post.event(delivery), payload)

    def _arrive(self, event: Event) -> None:
        if self._arrived is None:
            super()._arrive(event)
        else:
            self._arrived(read(event))


def owned(row: Row) -> Row:
    """The row with fields of its own: what JSON makes of them, as if it had been written."""
    meta = msgspec.json.decode(msgspec.json.encode(row.meta))
    return msgspec.structs.replace(row, meta=meta)


def own_payload(payload: Payload) -> Payload:
    """The payload with values that its reader may change without anybody else seeing it."""
    if not payload.params and payload.ledger is None:
        return payload
    return payloads.decode(payloads.encode(payload))
