"""Topics and records in the embedded log's tables; functions of one open transaction."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from streams.broker.local_errors import METADATA_LIMIT, RECORD_LIMIT
from streams.broker.local_store import OFFSET_BITS, Row, Store
from streams.broker.port import (
    Committed,
    Header,
    Outgoing,
    Record,
    TopicPartition,
    TopicSpec,
    partition_for,
)
from streams.errors import LogError, TopicError

# One poll gives at most this much, so that large records cannot fill the memory.
BYTES_PER_FETCH = 8 * 1024 * 1024
ROWS_PER_INSERT = 64

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_encode_headers = msgspec.msgpack.Encoder().encode
_decode_headers = msgspec.msgpack.Decoder(tuple[tuple[str, bytes | None], ...]).decode

POSITIONS = "SELECT topic, partition, offset, metadata FROM positions WHERE grp = ?"
_INSERT_ONE = "INSERT INTO records VALUES (?,?,?,?,?)"
_INSERT_MANY = _INSERT_ONE + ",(?,?,?,?,?)" * (ROWS_PER_INSERT - 1)


class Appended(NamedTuple):
    """What one transaction added to one partition."""

    id: int
    end: int
    records: list[Record]


def append(
    connection: sqlite3.Connection,
    outgoing: Sequence[Outgoing],
    now: int,
    gap: int,
    *,
    rows: bool = True,
) -> dict[TopicPartition, Appended]:
    """All records stand at the end of their partitions, in the order given; without `rows` those
    are somebody else's to keep."""
    values: list[object] = []
    added: dict[TopicPartition, Appended] = {}
    ends: list[tuple[int, int, int]] = []
    encode = _encode_headers
    for place, group in _by_place(connection, outgoing).items():
        found = connection.execute(
            "SELECT p.id, p.next, p.stamp, t.cleanup FROM partitions p"
            " JOIN topics t ON t.name = p.topic WHERE p.topic = ? AND p.partition = ?",
            place,
        ).fetchone()
        if found is None:
            raise missing(place)
        pid, offset, stamp, cleanup = found
        stamp = max(now, stamp)
        first = pid << OFFSET_BITS
        topic, partition = place
        records = []
        for one in group:
            key, value, headers = one.key, one.value, one.headers
            packed = encode(headers) if headers else None
            size = len(key or b"") + len(value or b"") + len(packed or b"")
            if size > RECORD_LIMIT or key is None:
                _check(one, size, cleanup)
            if rows:
                values += (first + offset, stamp, key, value, packed)
            records.append(Record(topic, partition, offset, stamp, key, value, headers))
            offset += 1
        added[place] = Appended(pid, offset + gap, records)
        ends.append((offset + gap, stamp, pid))
    _insert(connection, values)
    connection.executemany("UPDATE partitions SET next = ?, stamp = ? WHERE id = ?", ends)
    return added


def _by_place(
    connection: sqlite3.Connection, outgoing: Sequence[Outgoing]
) -> dict[TopicPartition, list[Outgoing]]:
    widths: dict[str, int] = {}
    groups: dict[tuple[str, int], list[Outgoing]] = {}
    for one in outgoing:
        partition = one.partition
        if partition is None:
            width = widths.get(one.topic)
            if width is None:
                width = widths[one.topic] = width_of(connection, one.topic)
            partition = partition_for(one.key, width) if one.key is not None else 0
        group = groups.get((one.topic, partition))
        if group is None:
            group = groups[one.topic, partition] = []
        group.append(one)
    return {TopicPartition(*place): group for place, group in groups.items()}


def _insert(connection: sqlite3.Connection, values: list[object]) -> None:
    # Many rows a statement: each statement gives up the interpreter lock, and a busy thread may
    # keep it for 5 ms. Two fixed shapes, so that both stay prepared.
    step = 5 * ROWS_PER_INSERT
    whole = len(values) - len(values) % step
    for start in range(0, whole, step):
        connection.execute(_INSERT_MANY, values[start : start + step])
    rest = values[whole:]
    connection.executemany(_INSERT_ONE, zip(*[iter(rest)] * 5, strict=True))


def _check(one: Outgoing, size: int, cleanup: str) -> None:
    if size > RECORD_LIMIT:
        raise LogError(
            f"a record of {size:,} bytes for {one.topic} is over the limit of {RECORD_LIMIT:,}",
            code="K026",
            help="Put large data into the blob store and send its reference.",
        )
    if one.key is None and cleanup == "compact":
        raise LogError(f"a record without a key for the compacted {one.topic}", code="K026")


def width_of(connection: sqlite3.Connection, topic: str) -> int:
    """How many partitions the topic has."""
    row = connection.execute("SELECT partitions FROM topics WHERE name = ?", (topic,)).fetchone()
    if row is None:
        raise TopicError(f"there is no topic {topic}", help="`streams apply` creates topics.")
    return int(row[0])


def missing(place: TopicPartition) -> TopicError:
    """The error for a partition that is not there."""
    return TopicError(
        f"there is no partition {place.partition} of a topic {place.topic}",
        help="`streams apply` creates topics.",
    )


def check_metadata(place: TopicPartition, position: Committed) -> None:
    """Refuses metadata that Kafka would refuse too."""
    if len(position.metadata) > METADATA_LIMIT:
        raise LogError(
            f"{len(position.metadata):,} characters beside the offset of {place.topic}"
            f"/{place.partition}; at most {METADATA_LIMIT:,}",
            code="K026",
        )


def fetch(
    store: Store, place: TopicPartition, pid: int, span: tuple[int, int], limit: int
) -> list[Record]:
    """The first records with offsets in `span`, at least one if there is one."""
    base = pid << OFFSET_BITS
    left = BYTES_PER_FETCH

    def enough(row: Row) -> bool:
        nonlocal left
        left -= len(row[3] or b"") + 64
        return left <= 0

    topic, partition = place
    return [
        Record(topic, partition, row - base, stamp, key, value, _headers(headers))
        for row, stamp, key, value, headers in store.rows(
            "SELECT id, stamp, key, value, headers FROM records"
            " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (base + span[0], base + span[1], limit),
            enough,
        )
    ]


def first_since(store: Store, pid: int, span: tuple[int, int], time: int) -> int:
    """The first offset in `span` whose record was appended at `time` or later; else its end."""
    base = pid << OFFSET_BITS
    found = store.read(
        "SELECT id FROM records WHERE id >= ? AND id < ? AND stamp >= ? ORDER BY id LIMIT 1",
        (base + span[0], base + span[1], time),
    )
    return found[0][0] - base if found else span[1]


def _headers(raw: bytes | None) -> tuple[Header, ...]:
    return () if raw is None else _decode_headers(raw)


def create(connection: sqlite3.Connection, specs: Iterable[TopicSpec]) -> None:
    """All topics exist; those that did keep their settings."""
    for spec in specs:
        if not _NAME.fullmatch(spec.name) or spec.name in {".", ".."} or spec.partitions < 1:
            raise TopicError(
                f"{spec.name!r} with {spec.partitions} partitions cannot be a topic",
                help="Names have 1 to 249 of A-Z a-z 0-9 . _ - and at least one partition.",
            )
        row = connection.execute(
            "SELECT partitions FROM topics WHERE name = ?", (spec.name,)
        ).fetchone()
        if row is not None:
            if row[0] != spec.partitions:
                raise TopicError(
                    f"{spec.name} has {row[0]} partitions, not {spec.partitions}",
                    help="The number of partitions is fixed; delete the topic or keep the number.",
                )
            continue
        connection.execute(
            "INSERT INTO topics VALUES (?,?,?,?,?)",
            (
                spec.name,
                spec.partitions,
                spec.cleanup,
                spec.retention_ms,
                json.dumps(spec.config, sort_keys=True),
            ),
        )
        connection.executemany(
            "INSERT INTO partitions(topic, partition) VALUES (?,?)",
            [(spec.name, number) for number in range(spec.partitions)],
        )


def described(rows: Iterable[Row]) -> dict[str, TopicSpec]:
    """Rows of `topics` as values."""
    return {
        name: TopicSpec(name, partitions, cleanup, retention, json.loads(config))
        for name, partitions, cleanup, retention, config in rows
    }


def delete(connection: sqlite3.Connection, names: Collection[str]) -> None:
    """The topics are gone, with the groups' positions in them; their records go by and by."""
    for name in names:
        connection.execute("INSERT INTO doomed SELECT id FROM partitions WHERE topic = ?", (name,))
        connection.execute("DELETE FROM partitions WHERE topic = ?", (name,))
        connection.execute("DELETE FROM topics WHERE name = ?", (name,))
        connection.execute("DELETE FROM owners WHERE topic = ?", (name,))
        connection.execute("DELETE FROM positions WHERE topic = ?", (name,))


def raise_low(connection: sqlite3.Connection, before: Mapping[TopicPartition, int]) -> None:
    """What lies below these offsets is not given any more; the rows go by and by."""
    for place, offset in before.items():
        changed = connection.execute(
            "UPDATE partitions SET low = max(low, min(?, next)) WHERE topic = ? AND partition = ?",
            (offset, *place),
        )
        if changed.rowcount == 0:
            raise missing(place)


def positions_of(rows: Iterable[Row]) -> dict[TopicPartition, Committed]:
    """Rows (topic, partition, offset, metadata) as values."""
    return {
        TopicPartition(topic, partition): Committed(offset, metadata)
        for topic, partition, offset, metadata in rows
    }


def set_positions(
    connection: sqlite3.Connection, group: str, positions: Mapping[TopicPartition, Committed]
) -> None:
    """The group stands at these positions."""
    for place, position in positions.items():
        check_metadata(place, position)
    connection.executemany(
        "INSERT OR REPLACE INTO positions VALUES (?,?,?,?,?)",
        [(group, *place, *position) for place, position in positions.items()],
    )
