"""A local copy of a ledger partition, so that a restart reads only what came after it.

A snapshot is trusted only if everything about it fits: format, checksum, the very topic and
partition, an offset the log still knows, and an age below half of the time that tombstones stay.
In doubt it is ignored and the partition is read from its start.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

FORMAT = 1


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """What the file holds."""

    format: int
    layout: str
    """Id of the pipeline's layout: another log, another id."""
    topic: str
    partition: int
    position: int
    taken: int
    rows: dict[str, dict[str, bytes]]


_decoder = msgspec.msgpack.Decoder(Snapshot)


def path_of(folder: Path, topic: str, partition: int) -> Path:
    return folder / f"{topic}-{partition}.snapshot"


def write(folder: Path, snapshot: Snapshot) -> None:
    """The file is whole or the old one: temporary name, flush, rename."""
    folder.mkdir(parents=True, exist_ok=True)
    body = msgspec.msgpack.encode(snapshot)
    target = path_of(folder, snapshot.topic, snapshot.partition)
    draft = target.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("wb") as file:
        file.write(hashlib.sha256(body).digest())
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(target)


def read(
    folder: Path, *, layout: str, topic: str, partition: int, end: int, now: int, max_age: int
) -> Snapshot | None:
    """The snapshot, if it can be trusted; else None."""
    try:
        data = path_of(folder, topic, partition).read_bytes()
    except OSError:
        return None
    body = memoryview(data)[32:]
    if hashlib.sha256(body).digest() != data[:32]:
        return None
    try:
        found = _decoder.decode(body)
    except msgspec.MsgspecError:
        return None
    fits = (
        found.format == FORMAT
        and found.layout == layout
        and found.topic == topic
        and found.partition == partition
        and 0 <= found.position <= end
        and 0 <= now - found.taken <= max_age
    )
    return found if fits else None
