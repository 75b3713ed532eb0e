"""Records as what they say: versions of rows, events, dead letters, control records.

Events are read as plain headers or plain JSON, without the codec that is under judgement; only a
submission in a foreign form goes through it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streams.broker.port import TopicPartition
from streams.codec import kafka
from streams.engine import rows
from streams.engine.messages import SIGNAL
from streams.engine.rows import AnyRow, Order
from streams.errors import EventError
from streams.event import submission_job_id
from streams.testing.history import Appended
from streams.topology.plan import Naming

Writer = Literal["agent", "keeper"]
Headers = dict[str, bytes | None]


class Version(msgspec.Struct, frozen=True, gc=False):
    """One version of one ledger row; a row of None is a tombstone."""

    number: int
    """Which record of the history it is: the order of all that was appended."""
    partition: int
    offset: int
    timestamp: int
    transaction: int
    scope: str
    part: str
    data: bytes | None
    row: AnyRow | None
    order: Order | None
    writer: Writer | None = None
    """None: no agent or keeper wrote it."""

    @property
    def where(self) -> str:
        return f"{self.scope}|{self.part}@{self.offset}"


class Message(msgspec.Struct, frozen=True, gc=False):
    """An event in intake, hold, done or a stage's topic. `type` is empty if it is none."""

    number: int
    place: TopicPartition
    offset: int
    timestamp: int
    transaction: int
    id: str = ""
    type: str = ""
    scope: str = ""
    """Of an event from outside: the job it is about."""
    part: str = ""
    root: str = ""
    epoch: int = 0
    turn: int = 0
    attempt: int = 0
    digest: str = ""
    parent: str = ""
    via: str = ""
    """The part whose end it follows from."""
    cause: str = ""
    time: str = ""
    """When its maker says it was made, by the maker's own clock."""
    due: int = 0
    value: bytes | None = None

    @property
    def where(self) -> str:
        return f"{self.place.topic}/{self.place.partition}@{self.offset}"


class Letter(msgspec.Struct, frozen=True, gc=False):
    """A dead letter: which event, from where."""

    number: int
    transaction: int
    id: str
    topic: str
    partition: str
    offset: str
    """Empty where it is not said."""
    stage: str
    job: str
    epoch: str


class Said(msgspec.Struct, frozen=True, gc=False):
    """A record of the control topic."""

    number: int
    timestamp: int
    transaction: int
    kind: str
    name: str
    value: bytes | None


def version(number: int, record: Appended, writer: Writer | None) -> Version:
    """Raises `ValueError` for what is no row."""
    scope, _, part = (record.key or b"").decode().partition("|")
    data = record.value
    try:
        row = None if data is None else rows.decode(part, data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{scope}|{part} is no row: {error}") from error
    return Version(
        number, record.place.partition, record.offset, record.timestamp, record.transaction,
        scope, part, data, row, None if row is None else row.order, writer,
    )  # fmt: skip


def laid_open(record: Appended) -> tuple[Headers, bytes | None]:
    """Attributes as headers, and the data: of a structured event (a stage's) as in binary mode."""
    headers: Headers = dict(record.headers)
    kind = headers.get("content-type") or b""
    if record.value is None or not kind.startswith(b"application/cloudevents"):
        return headers, record.value
    try:
        members = msgspec.json.decode(record.value, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return headers, record.value
    data = members.pop("data", None)
    headers |= {f"ce_{name}": bytes(raw).strip(b'"') for name, raw in members.items()}
    return headers, None if data is None else bytes(data)


def message(number: int, record: Appended, naming: Naming) -> Message:
    """An engine event by its attributes; one from outside by what makes it one."""
    headers, value = laid_open(record)
    base = (number, record.place, record.offset, record.timestamp, record.transaction)
    if "ce_epoch" in headers and record.place.topic != naming.intake:
        try:
            return _engine_event(base, headers, value)
        except (KeyError, ValueError):
            return Message(*base)
    return _foreign(base, record)


def _engine_event(
    base: tuple[int, TopicPartition, int, int, int], headers: Headers, value: bytes | None
) -> Message:
    source = _text(headers, "ce_source")
    _, found, via = source.partition("/stages/")
    return Message(
        *base,
        id=_text(headers, "ce_id"),
        type=_text(headers, "ce_type"),
        scope=_text(headers, "ce_scope"),
        part=_text(headers, "ce_part"),
        root=_text(headers, "ce_root"),
        epoch=int(_text(headers, "ce_epoch")),
        turn=int(_text(headers, "ce_turn")),
        attempt=int(_text(headers, "ce_attempt")),
        digest=_text(headers, "ce_planversion"),
        parent=_text(headers, "ce_causationid"),
        via=via if found else "",
        cause=_text(headers, "ce_cause"),
        time=_text(headers, "ce_time"),
        due=int(_text(headers, "ce_due") or 0),
        value=value,
    )


def _foreign(base: tuple[int, TopicPartition, int, int, int], record: Appended) -> Message:
    try:
        event = kafka.decode(record.value, record.headers)
    except EventError:
        return Message(*base)
    job = str(event.extensions.get("job") or "")
    if not job and event.type != SIGNAL:
        job = submission_job_id(event.source, event.id)
    return Message(*base, id=event.id, type=event.type, scope=job, root=job, value=event.data)


def letter(number: int, record: Appended) -> Letter:
    headers, _ = laid_open(record)
    return Letter(
        number, record.transaction, _text(headers, "ce_id"),
        *(
            _text(headers, f"streams-dlq-{name}")
            for name in ("topic", "partition", "offset", "stage", "job", "epoch")
        ),
    )  # fmt: skip


def said(number: int, record: Appended) -> Said:
    kind, _, name = (record.key or b"").decode(errors="replace").partition("/")
    return Said(number, record.timestamp, record.transaction, kind, name, record.value)


def id_in(record: Appended) -> str:
    """The event's id, of a record that needs no other reading."""
    return _text(laid_open(record)[0], "ce_id")


def _text(headers: Headers, name: str) -> str:
    raw = headers.get(name)
    return raw.decode(errors="replace") if raw else ""
