"""The file below the embedded log: schema, connections, and transactions that hold or fail whole.

Writes run on the event loop's thread, not in a thread of their own. A transaction is a handful of
short statements without a disk sync (WAL, `synchronous=NORMAL`), and each statement gives up the
interpreter lock once: in a second thread it would wait up to 5 ms for it each time, whenever the
loop is busy. What does block is taken off the loop: waiting for another process's lock (a timer),
checkpoints and, with `synchronous=FULL`, the COMMIT itself (one worker thread).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from streams.broker.local_errors import failed_commit, misuse, translated
from streams.errors import LogError

T = TypeVar("T")
Row = tuple[Any, ...]
Synchronous = Literal["NORMAL", "FULL"]

SCHEMA_VERSION = 1
APPLICATION_ID = 0x494C4F47  # "ILOG"

# A record's row id is its partition's id and its offset in one number: one comparison finds the
# place, and values up to a page stay in the leaf (a table without row ids spills at 1 KB).
OFFSET_BITS = 40

LOCK_PAUSE = 0.002
LOCK_TRIES = 2_500  # 5 s
OPEN_TRIES = 50
CHECKPOINT_BYTES = 16 * 1024 * 1024

SCHEMA = """
CREATE TABLE topics(
    name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, cleanup TEXT NOT NULL,
    retention_ms INTEGER NOT NULL, config TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE partitions(
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    low INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0,
    stamp INTEGER NOT NULL DEFAULT 0, clean INTEGER NOT NULL DEFAULT 0,
    UNIQUE(topic, partition));
CREATE TABLE records(
    id INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB);
CREATE TABLE doomed(id INTEGER PRIMARY KEY);
CREATE TABLE newest(
    partition INTEGER NOT NULL, key BLOB NOT NULL, id INTEGER NOT NULL, expires INTEGER,
    PRIMARY KEY(partition, key)) WITHOUT ROWID;
CREATE INDEX newest_expiring ON newest(expires) WHERE expires IS NOT NULL;
CREATE TABLE producers(id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE groups(
    name TEXT PRIMARY KEY, generation INTEGER NOT NULL, version INTEGER NOT NULL,
    joins INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE members(
    grp TEXT NOT NULL, member TEXT NOT NULL, incarnation INTEGER NOT NULL, topics TEXT NOT NULL,
    beat INTEGER NOT NULL, session INTEGER NOT NULL, PRIMARY KEY(grp, member)) WITHOUT ROWID;
CREATE TABLE owners(
    grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, member TEXT NOT NULL,
    incarnation INTEGER NOT NULL, PRIMARY KEY(grp, topic, partition)) WITHOUT ROWID;
CREATE TABLE positions(
    grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    metadata TEXT NOT NULL, PRIMARY KEY(grp, topic, partition)) WITHOUT ROWID;
"""


async def moment(seconds: float) -> None:
    """Waits in real time for something outside this process (never for virtual time)."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    handle = loop.call_later(seconds, future.set_result, None)
    try:
        await future
    finally:
        handle.cancel()


class Store:
    """One open log file (or one in memory) of this process."""

    def __init__(self, path: Path | None, synchronous: Synchronous) -> None:
        self.path = path
        self._full = synchronous == "FULL" and path is not None
        self._turn = asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._checkpoint: asyncio.Future[None] | None = None
        self._commits = 0
        self.closed = False
        try:
            self._writer = _connected(path, synchronous)
            self._reader = self._writer if path is None else _connected(path, synchronous)
        except sqlite3.Error as error:
            raise translated(error, path) from error
        except OSError as error:
            raise LogError(
                f"{path} cannot be opened: {error.strerror}",
                code="K023",
                help="Check that the folder exists and that this user may write there.",
            ) from error
        if path is not None:
            self._writer.execute("PRAGMA busy_timeout = 0")  # `_begin` waits without blocking
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")  # `_checkpointed` does it
            self._reader.execute("PRAGMA query_only = 1")

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query over what is committed now."""
        self._check_open()
        try:
            return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    def rows(self, sql: str, values: Sequence[Any], enough: Callable[[Row], bool]) -> list[Row]:
        """The first rows of a query, up to and with the one that is `enough`."""
        self._check_open()
        found: list[Row] = []
        try:
            with contextlib.closing(self._reader.execute(sql, values)) as cursor:
                for row in cursor:
                    found.append(row)
                    if enough(row):
                        break
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        return found

    def changed_elsewhere(self) -> int:
        """A number that differs after any commit that another connection made."""
        return 0 if self.path is None else int(self.read("PRAGMA data_version")[0][0])

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in one transaction: all of it is there afterwards, or nothing."""
        self._check_open()
        if self.path is None:
            self._writer.execute("BEGIN IMMEDIATE")
            result = self._worked(work)
            self._committed()
            return result
        async with self._turn:
            await self._begin()
            result = self._worked(work)
            if self._full:
                # Cancelled or not, the transaction must have ended before the next one begins.
                commit = asyncio.get_running_loop().run_in_executor(self._hand(), self._committed)
                await _to_the_end(commit)
            else:
                self._committed()
        self._commits += 1
        if self._commits % 64 == 0:
            self._checkpoint_if_large()
        return result

    async def close(self) -> None:
        """Lets go of the file; a second call does nothing."""
        if self.closed:
            return
        async with self._turn:
            self.closed = True
        if self._checkpoint is not None:
            await _to_the_end(self._checkpoint)
        if self._thread is not None:
            self._thread.shutdown()
        if self._reader is not self._writer:
            self._reader.close()
        self._writer.close()

    def _check_open(self) -> None:
        if self.closed:
            raise misuse(f"the log {self.path or 'in memory'} is closed")

    async def _begin(self) -> None:
        for attempt in range(LOCK_TRIES + 1):
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not _busy(error) or attempt == LOCK_TRIES:
                    raise translated(error, self.path) from error
            else:
                return
            await moment(LOCK_PAUSE)
            self._check_open()

    def _worked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._writer)
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self._writer.rollback()
            if isinstance(error, sqlite3.Error):
                raise translated(error, self.path) from error
            raise

    def _committed(self) -> None:
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            rolled_back = False
            if self._writer.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.rollback()
                    rolled_back = True
            raise failed_commit(error, self.path, rolled_back) from error

    def _hand(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="streams-log")
        return self._thread

    def _checkpoint_if_large(self) -> None:
        assert self.path is not None
        if self._checkpoint is not None and not self._checkpoint.done():
            return
        with contextlib.suppress(OSError):
            wal = self.path.with_name(self.path.name + "-wal")
            if wal.stat().st_size >= CHECKPOINT_BYTES:
                self._checkpoint = asyncio.get_running_loop().run_in_executor(
                    self._hand(), _checkpointed, self.path
                )


async def _to_the_end(future: asyncio.Future[None]) -> None:
    """Waits until `future` is done even if cancelled meanwhile; the cancellation comes after."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    failure = future.exception()
    if cancelled is not None:
        raise cancelled
    if failure is not None:
        raise failure


def _checkpointed(path: Path) -> None:
    """Moves the write-ahead log into the file: the bulk beside the writers, the rest alone."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as file,
    ):
        file.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _connected(path: Path | None, synchronous: Synchronous) -> sqlite3.Connection:
    """A connection to a file that is certainly a log of this version."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path if path is not None else ":memory:",
        timeout=5,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        _checked(connection, path)
        if path is not None:
            _make_shared(connection, path)
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("PRAGMA cache_size = -16384")
        else:
            connection.execute("PRAGMA page_size = 16384")  # records of 1 kB go in 15 % faster
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_shared(connection: sqlite3.Connection, path: Path) -> None:
    mode = ""
    for attempt in range(OPEN_TRIES):
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            if not _busy(error) or attempt == OPEN_TRIES - 1:
                raise
            # Another process switches the mode just now, for which SQLite does not wait; for a
            # transaction it does.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    if mode != "wal":
        raise LogError(
            f"{path} lies on a file system that several processes cannot share safely",
            code="K023",
            help="Put the log on a local disk.",
        )


def _busy(error: sqlite3.Error) -> bool:
    return (error.sqlite_errorcode or 0) & 0xFF == sqlite3.SQLITE_BUSY


def _checked(connection: sqlite3.Connection, path: Path | None) -> None:
    # One snapshot: another process may be making the file just now.
    connection.execute("BEGIN")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    connection.execute("ROLLBACK")
    if owner != APPLICATION_ID and (tables or version or owner):
        raise LogError(
            f"{path} is a database of another program",
            code="K021",
            help="Give another path; this file was not touched.",
        )
    if version > SCHEMA_VERSION:
        raise LogError(
            f"{path} was written by a newer version (format {version}, known {SCHEMA_VERSION})",
            code="K022",
            help="Upgrade interlock-streams in this environment.",
        )
