"""What Kafka's own two topics say: what became of each transaction, and where groups stood when.

Their forms are those of Kafka's message schemas; brokers from 2.5 to 4.x write the versions that
are read here, and whatever is of another version is passed over.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from streams.broker.port import Committed, Record, TopicPartition

TRANSACTIONS = "__transaction_state"
POSITIONS = "__consumer_offsets"

Status = Literal[
    "empty", "ongoing", "committing", "aborting", "committed", "aborted", "dead", "fencing"
]
STATUSES: tuple[Status, ...] = (
    "empty", "ongoing", "committing", "aborting", "committed", "aborted", "dead", "fencing",
)  # fmt: skip
FLEXIBLE_TRANSACTION = 1
FLEXIBLE_POSITION = 4


class TransactionState(msgspec.Struct, frozen=True):
    """What the coordinator wrote down of one transactional id."""

    name: str
    producer: int
    epoch: int
    status: Status
    places: frozenset[TopicPartition]
    changed: int
    started: int


class Position(msgspec.Struct, frozen=True):
    """A group's position in one partition, as it was written; None where it was deleted."""

    group: str
    place: TopicPartition
    position: Committed | None


def transaction_state(record: Record) -> TransactionState | None:
    """What the record says; None for what says nothing of a transaction."""
    if record.key is None or record.value is None:
        return None
    key, value = _Form(record.key), _Form(record.value)
    if key.number("h") != 0:
        return None
    name = key.text()
    version = value.number("h")
    if version > FLEXIBLE_TRANSACTION:
        return None
    value.flexible = version == FLEXIBLE_TRANSACTION
    producer, epoch, _, status = (value.number(form) for form in "qhib")
    places = set()
    for _ in range(value.length()):
        topic = value.text()
        places |= {TopicPartition(topic, value.number("i")) for _ in range(value.length())}
        value.tags()
    changed, started = value.number("q"), value.number("q")
    return TransactionState(
        name, producer, epoch, STATUSES[status], frozenset(places), changed, started
    )


def position(record: Record) -> Position | None:
    """What the record says; None for what is no position."""
    if record.key is None:
        return None
    key = _Form(record.key)
    if key.number("h") not in (0, 1):
        return None
    group, topic = key.text(), key.text()
    place = TopicPartition(topic, key.number("i"))
    if record.value is None:
        return Position(group, place, None)
    value = _Form(record.value)
    version = value.number("h")
    if version > FLEXIBLE_POSITION:
        return None
    value.flexible = version == FLEXIBLE_POSITION
    offset = value.number("q")
    if version >= 3:
        value.number("i")
    # confluent-kafka sends the zero that ends a C string as well, and passes over it when it reads.
    return Position(group, place, Committed(offset, value.text().rstrip("\0")))


class _Form:
    """Bytes by Kafka's rules, read from the front; `flexible` ones have shorter lengths."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.flexible = False

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(f">{form}", self._data, self._at)
        self._at += struct.calcsize(f">{form}")
        return int(value)

    def text(self) -> str:
        size = self._varint() - 1 if self.flexible else self.number("h")
        self._at += max(0, size)
        return self._data[self._at - size : self._at].decode() if size > 0 else ""

    def length(self) -> int:
        """Of a list; none at all counts as empty."""
        return max(0, self._varint() - 1 if self.flexible else self.number("i"))

    def tags(self) -> None:
        """Passes over what newer brokers add."""
        if self.flexible:
            for _ in range(self._varint()):
                self._varint()
                self._at += self._varint()

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value
