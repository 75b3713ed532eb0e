"""Ledger rows: their form on the wire and their order; what may follow what is in `transitions`.

Two rules hold for every row:
1. It has one writer: a stage's row is its agent's; everything else is the keeper's.
2. Its versions rise in the order (epoch, turn, phase, n); a lower one that arrives late is not news.

A row stands in the ledger topic under the key `scope|part`, as one byte of flags and then JSON.
Flag bit 0 is *closing*: this row may complete its block, so the keeper settles (see `settle`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from streams.engine.priority import NORMAL, Priority

Status = Literal["WAITING", "RUNNING", "SUCCESS", "SKIPPED", "RETRYING", "FAILED", "CANCELLED"]

ENDED: frozenset[str] = frozenset({"SUCCESS", "SKIPPED", "FAILED", "CANCELLED"})
PUBLIC: dict[str, str] = {
    "WAITING": "waiting",
    "RUNNING": "running",
    "SUCCESS": "succeeded",
    "SKIPPED": "skipped",
    "RETRYING": "retrying",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}
"""Codes in rows → the words users see."""

CLOSING = 1
NOTHING = msgspec.Raw(b"")
NULL = msgspec.Raw(b"null")


class Order(NamedTuple):
    """Age of a row's version. phase: 0 waiting, 1 running, 2 ended."""

    epoch: int
    turn: int
    phase: int
    n: int = 0


class Attempt(msgspec.Struct, array_like=True, frozen=True):
    """One try of a stage, for waterfalls and history. Times in ms."""

    attempt: int
    queued: int
    started: int
    ended: int
    status: Status
    error: str = ""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something failed: a stable code and a redacted sentence."""

    code: str
    message: str
    log: str = ""
    """Last 8 KiB of the attempt's log, redacted."""


class Parked(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An event inside a row: what is needed to send it on."""

    parent: str = ""
    """Id of the event that came in."""
    payload: msgspec.Raw = NULL
    attempt: int = 1
    depth: int = 0
    trace: str = ""
    queued: int = 0


class Wait(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a parked event waits for."""

    kind: Literal["gate", "sleep", "retry", "arrival", "dead", "early"]
    since: int
    due: int | None = None
    """Absolute time at which the wait ends by itself."""
    event: Parked = Parked()
    seen: dict[str, Any] = {}
    """Values at the first look, for `changed`."""
    looks: int = 0
    """How often the condition was judged."""
    reason: str = ""


class Row(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One version of a row. Short names on the wire; they are in every record.

    Its values are JSON, which cannot refer back to it, hence `gc=False`: a run has many of them.
    """

    status: Status = msgspec.field(name="s")
    epoch: int = msgspec.field(name="e", default=1)
    turn: int = msgspec.field(name="t", default=1)
    attempt: int = msgspec.field(name="a", default=1)
    phase: int = msgspec.field(name="ph", default=2)
    n: int = 0
    plan: str = ""
    root: str = ""
    taken: tuple[str, ...] = ()
    out: msgspec.Raw = NOTHING
    """The output up to 1 KiB, or `{"$blob": …}`; `NOTHING` where it was not kept."""
    err: Failure | None = None
    times: tuple[Attempt, ...] = ()
    meta: dict[str, Any] = {}
    worker: str = ""
    at: int = 0
    """When this version was written (ms)."""
    reason: str = ""
    wait: Wait | None = None

    @property
    def order(self) -> Order:
        return Order(self.epoch, self.turn, self.phase, self.n)

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class JobRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `@job` row: one per scope, the keeper's."""

    status: Status = msgspec.field(name="s")
    epoch: int = msgspec.field(name="e", default=1)
    phase: int = msgspec.field(name="ph", default=2)
    """The default of every row, since `Head` reads them all."""
    n: int = 0
    plan: str = ""
    root: str = ""
    digest: str = ""
    """Of the submitted body: equal = duplicate, other = `id-conflict`."""
    source: str = ""
    created: int = 0
    updated: int = 0
    completed: int = 0
    restarts: dict[str, int] = {}
    """Restart point → epoch at which it was restarted."""
    signals: tuple[str, ...] = ()
    """Ids of the last 32 signals."""
    last_signal: str = ""
    """Answer to the last signal that could not be carried out."""
    stopping: Status | None = None
    """Set while running parts are being stopped: what the job will end as."""
    stopping_since: int = 0
    reason: str = ""
    err: Failure | None = None
    deadline: int | None = None
    tenant: str = ""
    priority: Priority = NORMAL

    @property
    def order(self) -> Order:
        return Order(self.epoch, 1, self.phase, self.n)

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class InputRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `@input` row: the frozen snapshot, written once."""

    params: dict[str, Any] = {}
    data: msgspec.Raw = NULL
    """A JSON value or `{"$blob": …}`."""
    type: str = ""
    source: str = ""
    subject: str = ""
    traceparent: str = ""

    @property
    def order(self) -> Order:
        return Order(1, 1, 2)


class FactRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """An `@fact/<name>` row."""

    value: Any = None
    at: int = 0
    by: str = ""
    n: int = 0

    @property
    def order(self) -> Order:
        return Order(1, 1, 2, self.n)


class Address(NamedTuple):
    """Where a row stands: a job (or one child of a fan-out) and a part of it."""

    scope: str
    part: str

    @property
    def key(self) -> bytes:
        return f"{self.scope}|{self.part}".encode()

    @classmethod
    def of(cls, key: bytes) -> Address:
        scope, _, part = key.decode(errors="replace").partition("|")
        return cls(scope, part)


AnyRow = Row | JobRow | InputRow | FactRow

_encoder = msgspec.json.Encoder()
_row = msgspec.json.Decoder(Row)
_job = msgspec.json.Decoder(JobRow)
_input = msgspec.json.Decoder(InputRow)
_fact = msgspec.json.Decoder(FactRow)


class Head(msgspec.Struct, frozen=True, gc=False):
    """What every row has, read without the rest."""

    status: str = msgspec.field(name="s", default="")
    epoch: int = msgspec.field(name="e", default=1)
    turn: int = msgspec.field(name="t", default=1)
    phase: int = msgspec.field(name="ph", default=2)
    n: int = 0

    @property
    def order(self) -> Order:
        return Order(self.epoch, self.turn, self.phase, self.n)


_head = msgspec.json.Decoder(Head)


def head(data: bytes) -> Head:
    return _head.decode(memoryview(data)[1:])


def encode(row: AnyRow, *, closing: bool = False) -> bytes:
    """Bytes of the ledger record."""
    return (b"\x01" if closing else b"\x00") + _encoder.encode(row)


_BEGINNINGS = frozenset({b"\x00{", b"\x01{"})


def is_row(data: bytes) -> bool:
    """Whether it was written as a row. What a stranger put into a ledger is passed over."""
    return data[:2] in _BEGINNINGS


def is_closing(data: bytes) -> bool:
    return bool(data[0] & CLOSING)


def decode_row(data: bytes) -> Row:
    return _row.decode(memoryview(data)[1:])


def decode_job(data: bytes) -> JobRow:
    return _job.decode(memoryview(data)[1:])


def decode_input(data: bytes) -> InputRow:
    return _input.decode(memoryview(data)[1:])


def decode_fact(data: bytes) -> FactRow:
    return _fact.decode(memoryview(data)[1:])


class Decoders(NamedTuple):
    """How the rows of a scope are read."""

    row: Callable[[bytes], Row] = decode_row
    job: Callable[[bytes], JobRow] = decode_job
    input: Callable[[bytes], InputRow] = decode_input


OWNED = Decoders()
"""Each reading gives values of its own, which may be handed out."""
SMALL = 4096
"""Bytes of a row up to which it is remembered."""
REMEMBERED = 512
R = TypeVar("R")


def _shared(decode: Callable[[bytes], R]) -> Callable[[bytes], R]:
    kept: dict[int, tuple[bytes, R]] = {}

    def read(data: bytes) -> R:
        found = kept.get(id(data))  # the entry holds the bytes, so nothing else can have that id
        if found is not None:
            return found[1]
        value = decode(data)
        if len(data) <= SMALL:
            if len(kept) >= REMEMBERED:
                kept.clear()
            kept[id(data)] = (data, value)
        return value

    return read


SHARED = Decoders(_shared(decode_row), _shared(decode_job), _shared(decode_input))
"""The same bytes give the same values. For a keeper: deciding on one input it reads the same rows
several times, changes none of them, and shows them to nobody. By identity, for hashing a row takes
as long as decoding it."""


def decode(part: str, data: bytes) -> AnyRow:
    """The row of a part, whatever kind its name says it is."""
    if not part.startswith("@"):
        return decode_row(data)
    if part == "@job":
        return decode_job(data)
    if part == "@input":
        return decode_input(data)
    if part.startswith("@fact/"):
        return decode_fact(data)
    return decode_row(data)
