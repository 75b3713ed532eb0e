"""Opening a partition's cold store: the former owner's if everything about it fits, else a new one.

It is trusted only if all of this holds: format, schema and checksums; the very topic, partition and
log; a position that the log knows; and an age below half of the time that tombstones stay. It
belongs to one process at a time, by a lock on the file: a keeper that hangs, and does not know yet
that it lost its partition, cannot write into what its successor reads. Who finds the file taken
works with a temporary one and reads the ledger whole.
"""

from __future__ import annotations

import contextlib
import sqlite3
from hashlib import blake2b
from pathlib import Path

import msgspec

from streams.ledger.cold import SCHEMA, ColdStore, Damaged, Stand, key_of, remove, sealed, sum_of

FORMAT = 2
APPLICATION_ID = 0x494C4C43  # "ILLC"

_decode_stand = msgspec.msgpack.Decoder(Stand).decode


def path_of(folder: Path, topic: str, partition: int) -> Path:
    return folder / f"{topic}-{partition}.snapshot"


def size_of(folder: Path | None, topic: str, partition: int) -> int:
    """Bytes of the copy on disk, 0 if there is none."""
    if folder is None:
        return 0
    path = path_of(folder, topic, partition)
    size = 0
    for file in (path, path.with_name(path.name + "-wal")):
        with contextlib.suppress(OSError):
            size += file.stat().st_size
    return size


def opened(
    folder: Path | None, layout: str, topic: str, partition: int, *, end: int, now: int,
    max_age: int,
) -> ColdStore:  # fmt: skip
    """The store, and in its header the ledger position from which to read on."""
    new = Stand(FORMAT, layout, topic, partition, taken=now)
    if folder is None:
        return ColdStore(new)
    path = path_of(folder, topic, partition)
    for _ in range(2):
        connection = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
            _prepare(connection, new)
            found = _trusted(connection, new, end, now, max_age)
            if found is not None:
                return ColdStore(found, connection, path)
        except sqlite3.Error as error:
            if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_BUSY:
                _close(connection)
                break
        except OSError:
            break
        except (Damaged, msgspec.MsgspecError, TypeError, ValueError, AttributeError):
            pass  # what damaged bytes decode to
        _close(connection)
        remove(path)
    return ColdStore(new)


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()


def _prepare(connection: sqlite3.Connection, new: Stand) -> None:
    """Locked for this process, and made if it was not there."""
    for pragma in (
        "page_size = 16384",
        "locking_mode = EXCLUSIVE",
        "journal_mode = WAL",
        "synchronous = OFF",
        "cache_size = -2048",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("INSERT INTO stand VALUES (0, ?, ?)", sealed(new))
    connection.execute("COMMIT")


def _trusted(
    connection: sqlite3.Connection, wanted: Stand, end: int, now: int, max_age: int
) -> Stand | None:
    """The header, if it fits and everything it speaks of is there."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return None
    schema = connection.execute("SELECT sql FROM sqlite_schema").fetchall()
    if sorted(sql for (sql,) in schema) != sorted(SCHEMA):
        return None
    digest, data = connection.execute("SELECT digest, data FROM stand").fetchone()
    if blake2b(data, digest_size=16).digest() != digest:
        return None
    stand = _decode_stand(data)
    fits = (
        stand.format == FORMAT
        and (stand.layout, stand.topic) == (wanted.layout, wanted.topic)
        and stand.partition == wanted.partition
        and 0 <= stand.position <= end
        and 0 <= now - stand.taken <= max_age
    )
    if not fits or not _is_whole(connection, stand):
        return None
    # Of the indexes nothing was read yet: they are made from what was.
    connection.execute("REINDEX")
    return stand


def _is_whole(connection: sqlite3.Connection, stand: Stand) -> bool:
    """Whether exactly the rows that the header speaks of are there, each as it was written."""
    total = scopes = last = 0
    for number, key, scope, kind, due, sum_, data in connection.execute(
        "SELECT id, key, scope, kind, due, sum, data FROM scopes ORDER BY id"
    ):
        if sum_of(scope, kind, due, data) != sum_ or key_of(scope) != key or number <= last:
            return False
        total ^= sum_
        scopes += 1
        last = number
    return (total, scopes) == (stand.total, stand.scopes)
