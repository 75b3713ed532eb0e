"""Scopes that nobody works on now, out of the memory: one packed row each in a SQLite file.

It is a copy of what the ledger says, never the only one, so it needs no disk sync: every row has a
digest, the header has the digests' sum, and whatever does not fit is thrown away and read from the
ledger again. The header also says up to which ledger position everything is in it: that makes it
the partition's snapshot (see `cold_file`).

Rows stand in the order they were put in, which is about the order in which they go again; lookups
go through an index of 32-bit hashes, a quarter of the size that one of job ids would have.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streams.errors import LogUnavailable

EXPLANATIONS: dict[str, str] = {
    "K043": """\
**The keeper's local copy of its ledger partition is damaged.** It is only a copy: the keeper
deletes it, begins anew and reads the partition from the log. No job is lost.
Next: nothing for a single case; if it comes back, check the disk below the state folder.""",
    "K044": """\
**The keeper cannot write its local copy of the ledger,** because the disk is full or read-only.
Jobs stay in its memory instead; over a million rows a partition it takes no new ones.
Next: make room below the state folder.""",
}

OVER, OPEN, NO_JOB = range(3)
"""Kinds of scopes: the job has ended, has not, or there is none."""

SCHEMA = (
    (
        "CREATE TABLE scopes(id INTEGER PRIMARY KEY, key INTEGER NOT NULL, scope TEXT NOT NULL,"
        " kind INTEGER NOT NULL, due INTEGER, sum INTEGER NOT NULL, data BLOB NOT NULL)"
    ),
    "CREATE INDEX scopes_by_due ON scopes(due) WHERE due IS NOT NULL",
    "CREATE INDEX scopes_by_key ON scopes(key)",
    "CREATE INDEX scopes_watched ON scopes(kind) WHERE due IS NULL",
    "CREATE TABLE stand(one INTEGER PRIMARY KEY, digest BLOB NOT NULL, data BLOB NOT NULL)",
)
_FIND = "SELECT id, kind, due, sum, data FROM scopes WHERE key = ? AND scope = ?"
_INSERT = "INSERT INTO scopes VALUES (?,?,?,?,?,?,?)"
_UPDATE = "UPDATE scopes SET kind = ?, due = ?, sum = ?, data = ? WHERE id = ?"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class Damaged(LogUnavailable):
    """The copy is not what was written; it has to be made anew from the ledger."""

    code = "K043"


class Unwritable(LogUnavailable):
    """Nothing of it was written; what was to leave the memory stays there."""

    code = "K044"


class Stand(msgspec.Struct, frozen=True, array_like=True):
    """The header: whose copy it is, how far it goes, and what must be found in it."""

    format: int
    layout: str
    """Id of the pipeline's layout: another log, another id."""
    topic: str
    partition: int
    position: int = 0
    """Everything in the ledger below is in the copy; what is above may be."""
    taken: int = 0
    """When that was so (ms)."""
    scopes: int = 0
    rows: int = 0
    total: int = 0
    """All rows' sums, each with each by exclusive or."""


class Place(NamedTuple):
    """Where a scope's copy lies, and what leaves the header's figures with it."""

    id: int
    rows: int
    sum: int


class Put(NamedTuple):
    """A scope to be written; over its former copy if it has one."""

    scope: str
    parts: Mapping[str, bytes]
    kind: int
    due: int | None
    """When it has to be looked at again; None if somebody else minds that."""
    place: Place | None


def key_of(scope: str) -> int:
    return zlib.crc32(scope.encode())


def sum_of(scope: str, kind: int, due: int | None, data: bytes) -> int:
    """64 bits that change with any bit of the row. Against accidents, not against people."""
    whose = zlib.crc32(b"%d/%d/%b" % (kind, len(data), scope.encode()))
    return (zlib.crc32(data) << 31 | whose >> 1) ^ _sum_of_due(due)


def _sum_of_due(due: int | None) -> int:
    # Apart from the rest, so that it can be changed without reading that.
    return 0 if due is None else (due + 1) * 0x9E3779B97F4A7C15 & 0x7FFFFFFFFFFFFFFF


def sealed(stand: Stand) -> tuple[bytes, bytes]:
    """Digest and bytes of the header."""
    data = _encode(stand)
    return blake2b(data, digest_size=16).digest(), data


class ColdStore:
    """The copy of one partition. Without a file it is a temporary one, made when first needed."""

    def __init__(
        self, stand: Stand, connection: sqlite3.Connection | None = None, path: Path | None = None
    ) -> None:
        self.stand = stand
        self._connection = connection
        self._path = path
        self._damaged = False
        self._next = 1
        self._soonest: int | None = None
        if connection is not None:
            self._next += connection.execute("SELECT max(id) FROM scopes").fetchone()[0] or 0
            self._look_for_soonest()

    @property
    def is_kept(self) -> bool:
        """Whether it outlives this process."""
        return self._path is not None

    # -- reading ----------------------------------------------------------------------------

    def find(self, scope: str) -> tuple[Place, dict[str, bytes]] | None:
        """The rows of a scope, if it is here."""
        if not self.stand.scopes:
            return None
        for number, kind, due, sum_, data in self._read(_FIND, (key_of(scope), scope)):
            if sum_of(scope, kind, due, data) != sum_:
                raise self._doubted("a row is not what was written")
            parts = _decode(data)
            return Place(number, len(parts), sum_), parts
        return None

    def has(self, scope: str) -> bool:
        """Whether it is here, without reading it."""
        wanted = "SELECT 1 FROM scopes WHERE key = ? AND scope = ?"
        return bool(self.stand.scopes and self._read(wanted, (key_of(scope), scope)))

    def watched(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """All that time alone does not bring back: open jobs, and rows without a job."""
        for scope, _ in self.unsettled(OVER):
            found = self.find(scope)
            if found is not None:
                yield scope, found[1]

    def unsettled(self, least: int = OPEN) -> list[tuple[str, int]]:
        """Scopes without a time of their own and their kinds."""
        if not self.stand.scopes:
            return []
        wanted = "SELECT scope, kind FROM scopes WHERE due IS NULL AND kind >= ?"
        return [(scope, kind) for scope, kind in self._read(wanted, (least,))]

    def scopes(self) -> list[str]:
        """All of them."""
        if not self.stand.scopes:
            return []
        return [scope for (scope,) in self._read("SELECT scope FROM scopes ORDER BY id")]

    def next_due(self) -> int | None:
        """When the first scope has to be looked at."""
        return self._soonest

    # -- writing ----------------------------------------------------------------------------

    def write(
        self,
        puts: Sequence[Put],
        drops: Sequence[Place] = (),
        position: int | None = None,
        taken: int = 0,
    ) -> list[Place]:
        """All of it is here, or nothing if it raises `Unwritable`. With `position`: everything
        below is here now."""
        places: list[Place] = []
        fresh, again = [], []
        total, rows, number = self.stand.total, self.stand.rows, self._next
        for scope, parts, kind, due, before in puts:
            data = _encode(parts)
            sum_ = sum_of(scope, kind, due, data)
            if before is None:
                place = Place(number, len(parts), sum_)
                number += 1
                fresh.append((place.id, key_of(scope), scope, kind, due, sum_, data))
            else:
                place = Place(before.id, len(parts), sum_)
                again.append((kind, due, sum_, data, place.id))
                total ^= before.sum
                rows -= before.rows
            total ^= sum_
            rows += place.rows
            places.append(place)
        for gone in drops:
            total ^= gone.sum
            rows -= gone.rows
        stand = msgspec.structs.replace(
            self.stand, total=total, rows=rows, scopes=self.stand.scopes + len(fresh) - len(drops)
        )
        if position is not None:
            stand = msgspec.structs.replace(stand, position=position, taken=taken)
        with self._transaction(stand) as file:
            file.executemany(_INSERT, fresh)
            file.executemany(_UPDATE, again)
            file.executemany("DELETE FROM scopes WHERE id = ?", [(gone.id,) for gone in drops])
        self._next = number
        dues = [put.due for put in puts if put.due is not None]
        if dues and (self._soonest is None or min(dues) < self._soonest):
            self._soonest = min(dues)
        return places

    def pop_due(self, now: int, most: int) -> list[tuple[str, int]]:
        """Scopes whose time has come, earliest first, and the change of their sums. From now on
        somebody else minds their time."""
        if self._soonest is None or self._soonest > now:
            return []
        found = self._read(
            "SELECT id, scope, due, sum FROM scopes WHERE due <= ? ORDER BY due, scope LIMIT ?",
            (now, most),
        )
        changes = [(scope, _sum_of_due(due)) for _, scope, due, _ in found]
        total = self.stand.total
        for _, change in changes:
            total ^= change
        with self._transaction(msgspec.structs.replace(self.stand, total=total)) as file:
            file.executemany(
                "UPDATE scopes SET due = NULL, sum = ? WHERE id = ?",
                [(sum_ ^ _sum_of_due(due), number) for number, _, due, sum_ in found],
            )
        self._look_for_soonest()
        return changes

    def close(self) -> None:
        """Lets go of the file, for whoever owns the partition next."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if self._damaged and self._path is not None:
            remove(self._path)

    # -- the file ---------------------------------------------------------------------------

    def _read(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        if self._connection is None:
            raise Damaged("the local copy of the ledger is closed")
        try:
            return self._connection.execute(sql, values).fetchall()
        except (sqlite3.Error, ValueError) as error:
            raise self._doubted(str(error)) from error

    def _doubted(self, why: str) -> Damaged:
        self._damaged = True
        return Damaged(f"the local copy of the ledger is damaged: {why}")

    def _look_for_soonest(self) -> None:
        (self._soonest,) = self._read("SELECT min(due) FROM scopes WHERE due IS NOT NULL")[0]

    @contextlib.contextmanager
    def _transaction(self, stand: Stand) -> Iterator[sqlite3.Connection]:
        """The header changes with what it counts."""
        if self._connection is None:
            self._connection = temporary()
        file = self._connection
        try:
            file.execute("BEGIN")
            yield file
            file.execute("INSERT OR REPLACE INTO stand VALUES (0, ?, ?)", sealed(stand))
            file.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                file.rollback()
            if isinstance(error, sqlite3.OperationalError):
                raise Unwritable(f"the local copy of the ledger: {error}") from error
            raise self._doubted(str(error)) from error
        self.stand = stand


def temporary() -> sqlite3.Connection:
    """A database that is gone with its connection; on disk only beyond the size of its cache."""
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA page_size = 16384")
    connection.execute("PRAGMA cache_size = -4096")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = MEMORY")
    for statement in SCHEMA:
        connection.execute(statement)
    return connection


def remove(path: Path) -> None:
    """The file is gone, with what lies beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink()
