"""A file that is not a good log is refused with what is wrong and what to do."""

import asyncio
import sqlite3

import pytest

from streams.broker import local_store
from streams.broker.local import LocalLog
from streams.broker.local_errors import EXPLANATIONS, translated
from streams.broker.port import Outgoing, TopicPartition, TopicSpec, Transaction
from streams.clock import SystemClock
from streams.errors import LogError, LogUnavailable, TransactionAborted


def opened(path, **options):
    return LocalLog.open(path, clock=SystemClock(), **options)


def refusal(path):
    with pytest.raises(LogError) as caught:
        opened(path)
    assert str(path) in str(caught.value)
    assert caught.value.help
    assert caught.value.code in EXPLANATIONS
    return caught.value


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path):
    """A wrong path must not cost the user a file."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    assert refusal(path).code == "K021"
    assert path.read_text() == "not a database " * 100


def test_the_database_of_another_program_is_refused_and_kept(tmp_path):
    """Our tables have no business in it."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs(x)")
    other.close()
    before = path.read_bytes()
    assert refusal(path).code == "K021"
    assert path.read_bytes() == before


async def test_a_log_of_a_newer_version_is_refused(path):
    """An older program would misread it."""
    await opened(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    error = refusal(path)
    assert error.code == "K022"
    assert "99" in str(error)


async def test_a_damaged_file_is_named_as_such(path):
    """Pages that contradict each other."""
    log = opened(path)
    await log.create_topics([TopicSpec("t", 1)])
    await log.publish([Outgoing("t", b"k", b"x" * 500)] * 500)
    await log.close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(raw)
    with pytest.raises(LogError) as caught:
        await reading(path)
    assert caught.value.code == "K020"
    assert str(path) in str(caught.value)


async def reading(path):
    log = opened(path)
    try:
        await log.topics()
    finally:
        await log.close()


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    """The path names a folder."""
    assert refusal(tmp_path).code == "K023"


def test_a_path_below_a_file_is_refused(tmp_path):
    """The folder cannot be made."""
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file" / "log.db").code == "K023"


def test_a_read_only_file_is_an_error_of_the_operator(tmp_path):
    """Asked of the translation: the super-user, who runs many tests, may write anywhere."""
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY
    told = translated(error, tmp_path / "log.db")
    assert (told.code, str(tmp_path / "log.db") in str(told)) == ("K023", True)


async def test_a_file_that_stays_locked_is_a_known_abort(path, monkeypatch):
    """A process stopped in the middle of a commit holds the lock; nothing of ours was written."""
    monkeypatch.setattr(local_store, "LOCK_TRIES", 3)
    log = opened(path)
    await log.create_topics([TopicSpec("t", 1)])
    producer = await log.producer("p")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransactionAborted) as caught:
        await producer.commit(Transaction([Outgoing("t", b"k", b"v")]))
    with pytest.raises(LogUnavailable):
        await log.delete_topics(["t"])
    assert caught.value.code == "K024"
    holder.execute("COMMIT")
    holder.close()
    await producer.commit(Transaction([Outgoing("t", b"k", b"v")]))
    place = TopicPartition("t", 0)
    assert (await log.watermarks([place]))[place].high == 1
    await log.close()


async def test_waiting_for_the_lock_does_not_hold_up_the_loop(path):
    """The port: whatever blocks, an adapter takes off the loop by itself."""
    log = opened(path)
    await log.create_topics([TopicSpec("t", 1)])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(log.publish([Outgoing("t", b"k", b"v")]))
    turns = 0
    for turns in range(1, 50):  # noqa: B007
        await asyncio.sleep(0)
    assert (turns, waiting.done()) == (49, False)
    holder.execute("COMMIT")
    holder.close()
    await waiting
    await log.close()


async def test_the_write_ahead_log_is_folded_into_the_file(path, monkeypatch):
    """Else it would grow as long as anybody writes."""
    monkeypatch.setattr(local_store, "CHECKPOINT_BYTES", 200_000)
    log = opened(path)
    await log.create_topics([TopicSpec("t", 1)])
    largest = 0
    for _ in range(640):
        await log.publish([Outgoing("t", b"k", b"x" * 3000)])
        if log._store._checkpoint is not None:
            await asyncio.wait([log._store._checkpoint])
        largest = max(largest, path.with_name("log.db-wal").stat().st_size)
    assert largest < 2_000_000
    await log.close()
    assert path.stat().st_size > 640 * 3000


async def test_a_cancelled_commit_with_sync_leaves_the_log_usable(path):
    """A drain deadline may cancel a commit that waits for the disk."""
    log = opened(path, synchronous="FULL")
    await log.create_topics([TopicSpec("t", 1)])
    for step in range(5):
        task = asyncio.ensure_future(log.publish([Outgoing("t", b"k", b"v")]))
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await log.publish([Outgoing("t", b"k", b"last")])
    reader = log.reader()
    reader.assign({TopicPartition("t", 0): 0})
    assert (await reader.poll(99, 0))[-1].value == b"last"
    await log.close()
