"""The engine's own events: how they are made and how they are read back.

| type | topic | says |
|---|---|---|
| `interlock.stage.input.v1` | a stage's | run this part |
| `interlock.hold.arrive.v1` | hold | `via` ended, its result has arrived at `part` |
| `interlock.hold.retry.v1` | hold | deliver the same to `part` again when it is `due` |
| `interlock.hold.dead.v1` | hold | `part` failed for good with this input |
| `interlock.signal.v1` | intake, hold | a fact or an act from outside |
| `interlock.job.submit.v1` | intake, hold | a new job (so is any foreign type) |
| `interlock.job.done.v1` | done | a job has ended |

A stage's event stands in its record whole (`StageEvent`, structured mode): every hop writes and
reads one, and eighteen headers cost more than all else that is done for it. Attributes beyond the specification's are the extensions of `event.ENGINE_EXTENSIONS` and `via`,
`cause` (address and order of the ledger row written in the same transaction) and `due`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, overload

import msgspec

from streams.engine import payload as payloads
from streams.engine.payload import Payload
from streams.engine.priority import NORMAL, Priority, priority_of
from streams.engine.rows import Order, Parked
from streams.errors import EventError
from streams.event import Event, derived_id
from streams.event_rules import CORE_ATTRIBUTES, milliseconds, timestamp
from streams.topology.plan import Plan

INPUT = "interlock.stage.input.v1"
ARRIVE = "interlock.hold.arrive.v1"
RETRY = "interlock.hold.retry.v1"
DEAD = "interlock.hold.dead.v1"
SIGNAL = "interlock.signal.v1"
SUBMIT = "interlock.job.submit.v1"
DONE = "interlock.job.done.v1"


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """An engine event, its attributes read."""

    id: str
    type: str
    scope: str
    part: str
    root: str
    epoch: int
    turn: int
    attempt: int
    digest: str
    depth: int
    tenant: str
    trace: str
    time: int
    """When it was made, by the log's time."""
    data: bytes | None
    via: str = ""
    cause: str = ""
    due: int = 0
    reason: str = ""
    priority: Priority = NORMAL

    @property
    def parked(self) -> Parked:
        return Parked(
            parent=self.id,
            payload=msgspec.Raw(self.data or b"{}"),
            attempt=self.attempt,
            depth=self.depth,
            trace=self.trace,
            queued=self.time,
        )


class Origin(msgspec.Struct, frozen=True):
    """What all events of one scope and epoch have in common."""

    scope: str
    root: str
    epoch: int
    digest: str
    depth: int = 0
    tenant: str = ""
    trace: str = ""
    priority: Priority = NORMAL


class StageEvent(
    msgspec.Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="specversion",
    tag="1.0",
):
    """The event that has a stage run, as JSON: it is its own delivery, its data is read with it."""

    id: str
    source: str
    type: Literal["interlock.stage.input.v1"]
    subject: str
    at: str = msgspec.field(name="time")
    datacontenttype: Literal["application/json"]
    scope: str
    part: str
    root: str
    epoch: int
    turn: int
    attempt: int
    digest: str = msgspec.field(name="planversion")
    pipeline: str
    partitionkey: str
    correlationid: str
    causationid: str
    data: Payload
    depth: int = 0
    tenant: str = ""
    trace: str = msgspec.field(name="traceparent", default="")
    priority: Priority = NORMAL

    @property
    def time(self) -> int:
        """When it was made, by the log's time."""
        return milliseconds(self.at)

    @property
    def extensions(self) -> dict[str, Any]:
        """Its attributes beyond the specification's, as those of any event."""
        found: dict[str, Any] = {name: getattr(self, field) for name, field in _EXTENSIONS}
        if self.priority == NORMAL:
            del found["priority"]
        return {name: value for name, value in found.items() if value}


AnyEvent: TypeAlias = Event | StageEvent
AnyDelivery: TypeAlias = Delivery | StageEvent
AnyOrigin: TypeAlias = Origin | StageEvent
"""A stage's event says itself all that its step's events have in common."""

_EXTENSIONS = tuple(
    (field.encode_name, field.name)
    for field in msgspec.structs.fields(StageEvent)
    if field.encode_name not in {*CORE_ATTRIBUTES, "data"}
)
_stage_event = msgspec.json.Decoder(StageEvent)
_LONGEST = 1_000


encode_stage_event: Callable[[StageEvent], bytes] = msgspec.json.Encoder().encode
"""The whole event as one JSON object."""


def decode_stage_event(data: bytes) -> StageEvent | None:
    """The event in one JSON object, if it is one of a stage and plain: then nothing that is made of
    it can break a rule. None says nothing: whoever asks looks at the record closely."""
    try:
        event = _stage_event.decode(data)
        milliseconds(event.at)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, EventError):
        return None
    texts = f"{event.id}{event.scope}{event.root}{event.tenant}{event.trace}"
    plain = len(texts) <= _LONGEST and texts.isascii() and texts.isprintable()
    named = event.id.strip() and event.scope.strip() and event.root.strip()
    return event if plain and named else None


def read(event: AnyEvent) -> Delivery:
    """The delivery in an engine event. Raises `EventError` if it is not one."""
    if isinstance(event, StageEvent):
        return Delivery(
            event.id, event.type, event.scope, event.part, event.root, event.epoch, event.turn,
            event.attempt, event.digest, event.depth, event.tenant, event.trace, event.time,
            payloads.encode(event.data), priority=event.priority,
        )  # fmt: skip
    try:
        return _read(event)
    except (KeyError, ValueError) as error:
        raise EventError(
            f"not an event of the engine: {error}",
            code="V047",
            help="Publish to the intake topic; stage topics and hold are the engine's own.",
        ) from None


def _read(event: Event) -> Delivery:
    ext = event.extensions
    optional = ext.get
    return Delivery(
        event.id,
        event.type,
        str(ext["scope"]),
        str(ext["part"]),
        str(ext["root"]),
        int(ext["epoch"]),
        int(ext["turn"]),
        int(ext["attempt"]),
        str(ext["planversion"]),
        int(optional("depth", 0)),
        str(optional("tenant", "")),
        str(optional("traceparent", "")),
        milliseconds(event.time) if event.time else 0,
        event.data,
        via=str(optional("via", "")),
        cause=str(optional("cause", "")),
        due=int(optional("due", 0)),
        reason=str(optional("reason", "")),
        priority=priority_of(optional("priority")),
    )


@overload
def origin_of(delivery: Delivery) -> Origin: ...
@overload
def origin_of(delivery: AnyDelivery) -> AnyOrigin: ...
def origin_of(delivery: AnyDelivery) -> AnyOrigin:
    if isinstance(delivery, StageEvent):
        return delivery
    return Origin(
        delivery.scope,
        delivery.root,
        delivery.epoch,
        delivery.digest,
        delivery.depth,
        delivery.tenant,
        delivery.trace,
        delivery.priority,
    )


def stage_event(
    plan: Plan,
    origin: AnyOrigin,
    part: str,
    parent: str,
    payload: Payload,
    now: int,
    *,
    turn: int = 1,
    attempt: int = 1,
    source: str = "",
) -> StageEvent:
    """`make` of an `INPUT`, in the form in which hops write it."""
    scope, root, epoch, digest = origin.scope, origin.root, origin.epoch, origin.digest
    # By position: naming the fields takes seven times as long.
    return StageEvent(
        derived_id(root, digest, scope, part, epoch, turn, parent, 0),
        f"/pipelines/{plan.pipeline}/stages/{source}" if source else f"/pipelines/{plan.pipeline}",
        "interlock.stage.input.v1",
        scope,
        timestamp(now),
        "application/json",
        scope,
        part,
        root,
        epoch,
        turn,
        attempt,
        digest,
        plan.pipeline,
        scope,
        root,
        parent,
        payload,
        origin.depth,
        origin.tenant,
        origin.trace,
        origin.priority,
    )


def make(
    kind: str,
    plan: Plan,
    origin: AnyOrigin,
    part: str,
    parent: str,
    payload: bytes,
    now: int,
    *,
    turn: int = 1,
    attempt: int = 1,
    source: str = "",
    **more: str,
) -> Event:
    """An engine event for `part`; its id follows from where it stands and what caused it."""
    extensions: dict[str, str | int | bool | bytes] = {
        "scope": origin.scope,
        "part": part,
        "root": origin.root,
        "epoch": str(origin.epoch),
        "turn": str(turn),
        "attempt": str(attempt),
        "planversion": origin.digest,
        "pipeline": plan.pipeline,
        "partitionkey": origin.scope,
        "correlationid": origin.root,
        "causationid": parent,
    }
    if origin.depth:
        extensions["depth"] = str(origin.depth)
    if origin.tenant:
        extensions["tenant"] = origin.tenant
    if origin.trace:
        extensions["traceparent"] = origin.trace
    if origin.priority != NORMAL:
        extensions["priority"] = origin.priority
    extensions.update(more)
    ordinal = _ORDINALS[kind]
    return Event(
        id=derived_id(
            origin.root, origin.digest, origin.scope, part, origin.epoch, turn, parent, ordinal
        ),
        source=f"/pipelines/{plan.pipeline}/stages/{source}"
        if source
        else f"/pipelines/{plan.pipeline}",
        type=kind,
        subject=origin.scope,
        time=timestamp(now),
        datacontenttype="application/json",
        data=payload,
        extensions=extensions,
    )


_ORDINALS = {INPUT: 0, ARRIVE: 1, RETRY: 2, DEAD: 3, SIGNAL: 4, DONE: 5}
"""Two events of one parent for one part differ by what they say."""


def cause_text(part: str, order: Order) -> str:
    return f"{part}:{order.epoch}:{order.turn}:{order.phase}:{order.n}"


def cause_of(text: str) -> tuple[str, Order] | None:
    """Part and order of the row that was written with this event."""
    if not text:
        return None
    part, *numbers = text.rsplit(":", 4)
    return part, Order(*map(int, numbers))


class SignalData(msgspec.Struct, frozen=True, omit_defaults=True):
    """Data of a signal."""

    kind: str
    facts: dict[str, object] = {}
    everywhere: bool = msgspec.field(name="global", default=False)
    gate: str = ""
    part: str = ""
    stage: str | None = None
    start: str = msgspec.field(name="from", default="")
    epoch: int | None = None
    reason: str = ""
    by: str = ""


class SubmitData(msgspec.Struct, frozen=True, omit_defaults=True):
    """Data of a submission of our own type."""

    params: dict[str, object] = {}
    data: msgspec.Raw = msgspec.Raw(b"null")
    deadline: int | None = None
