"""Retention and compaction of the embedded log, in small steps for idle time.

A low watermark moves first, and it alone decides what readers get; the rows below it are deleted
afterwards. Compaction keeps, per partition, the id of each key's newest record in `newest` and
moves the mark `clean` over what was written since: each record is looked at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial

from streams.broker.local_memory import MemoryRecords
from streams.broker.local_records import raise_low
from streams.broker.local_store import OFFSET_BITS, Store
from streams.broker.local_view import LogView
from streams.broker.port import TopicPartition

# One step holds the write lock for a few milliseconds; one call takes some dozens.
ROWS_PER_STEP = 2_000
STEPS_PER_CALL = 10

Step = partial[int]

_DIRTY = """
    SELECT p.id FROM partitions p JOIN topics t ON t.name = p.topic
    WHERE t.cleanup = 'compact' AND p.clean < p.next"""
_AGING = """
    SELECT p.id, p.low, p.next, t.retention_ms FROM partitions p JOIN topics t ON t.name = p.topic
    WHERE t.retention_ms >= 0 AND p.low < p.next"""


async def upkeep(view: LogView, tombstones_ms: int) -> int:
    """Some of what is over its time is gone. 0 says that nothing was left to do."""
    if view.memory is not None:
        return await _upkeep_in_memory(view, view.memory, tombstones_ms)
    removed = 0
    for _ in range(STEPS_PER_CALL):
        # Looked for on the reading connection: an idle log is not written to.
        step = next(_due(view.store, view.clock.now(), tombstones_ms), None)
        if step is None:
            break
        removed += await view.store.write(step)
    if removed:
        view.tail.clear()
        view.refresh(force=True)
    return removed


async def sweep(view: LogView) -> None:
    """All rows that readers cannot reach any more are gone."""
    if view.memory is not None:
        _sweep_memory(view, view.memory)
        return
    while (step := next(_unreachable(view.store), None)) is not None:
        await view.store.write(step)
        await view.clock.sleep(0)  # a busy minute leaves seconds of it; others have their turn


def _due(store: Store, now: int, tombstones_ms: int) -> Iterator[Step]:
    yield from _unreachable(store)
    for pid, low, end, retention in store.read(_AGING):
        oldest = store.read(
            "SELECT stamp FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            _ids(pid, low, end),
        )
        if not oldest or oldest[0][0] < now - retention:
            yield partial(_age, pid=pid, before=now - retention)
    for (pid,) in store.read(_DIRTY):
        yield partial(_compact, pid=pid, tombstones_ms=tombstones_ms)
    if store.read("SELECT 1 FROM newest WHERE expires <= ? LIMIT 1", (now,)):
        yield partial(_drop_tombstones, now=now)


def _unreachable(store: Store) -> Iterator[Step]:
    for (pid,) in store.read("SELECT id FROM doomed"):
        yield partial(_bury, pid=pid)
    for pid, low in store.read("SELECT id, low FROM partitions WHERE low > 0"):
        if store.read("SELECT 1 FROM records WHERE id >= ? AND id < ? LIMIT 1", _ids(pid, 0, low)):
            yield partial(_clear, pid=pid, low=low)


def _ids(pid: int, first: int, end: int) -> tuple[int, int]:
    base = pid << OFFSET_BITS
    return base + first, base + end


def _clear(connection: sqlite3.Connection, pid: int, low: int) -> int:
    rows = connection.execute(
        "SELECT id, key FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (*_ids(pid, 0, low), ROWS_PER_STEP),
    ).fetchall()
    connection.executemany(
        "DELETE FROM newest WHERE partition = ? AND key = ? AND id = ?",
        [(pid, key, row) for row, key in rows if key is not None],
    )
    connection.executemany("DELETE FROM records WHERE id = ?", [(row,) for row, _ in rows])
    return len(rows)


def _bury(connection: sqlite3.Connection, pid: int) -> int:
    removed = _clear(connection, pid, 1 << OFFSET_BITS)
    if removed < ROWS_PER_STEP:
        connection.execute("DELETE FROM doomed WHERE id = ?", (pid,))
    return removed + 1


def _age(connection: sqlite3.Connection, pid: int, before: int) -> int:
    low, end = connection.execute(
        "SELECT low, next FROM partitions WHERE id = ?", (pid,)
    ).fetchone() or (0, 0)
    rows = connection.execute(
        "SELECT id, stamp FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (*_ids(pid, low, end), ROWS_PER_STEP),
    ).fetchall()
    base = pid << OFFSET_BITS
    kept = next((row - base for row, stamp in rows if stamp >= before), None)
    if kept is None:
        # All that was looked at is too old; if that was all there is, gaps go with it.
        kept = end if len(rows) < ROWS_PER_STEP else rows[-1][0] - base + 1
    connection.execute("UPDATE partitions SET low = max(low, ?) WHERE id = ?", (kept, pid))
    return 1


def _compact(connection: sqlite3.Connection, pid: int, tombstones_ms: int) -> int:
    row = connection.execute("SELECT clean, next FROM partitions WHERE id = ?", (pid,)).fetchone()
    if row is None:
        return 1  # deleted meanwhile
    first, last = _ids(pid, *row)
    cut = connection.execute(
        "SELECT id FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1 OFFSET ?",
        (first, last, ROWS_PER_STEP),
    ).fetchone()
    span = (first, cut[0] if cut else last)
    within = connection.execute(
        "DELETE FROM records WHERE id >= ? AND id < ? AND id NOT IN"
        " (SELECT max(id) FROM records WHERE id >= ? AND id < ? GROUP BY key)",
        span * 2,
    ).rowcount
    before = connection.execute(
        "DELETE FROM records WHERE id IN (SELECT n.id FROM records r JOIN newest n"
        " ON n.partition = ? AND n.key = r.key WHERE r.id >= ? AND r.id < ?)",
        (pid, *span),
    ).rowcount
    connection.execute(
        "INSERT OR REPLACE INTO newest SELECT ?, key, id,"
        " CASE WHEN value IS NULL THEN stamp + ? END FROM records WHERE id >= ? AND id < ?",
        (pid, tombstones_ms, *span),
    )
    clean = span[1] - (pid << OFFSET_BITS)
    connection.execute("UPDATE partitions SET clean = ? WHERE id = ?", (clean, pid))
    return within + before + 1


def _drop_tombstones(connection: sqlite3.Connection, now: int) -> int:
    rows = connection.execute(
        "SELECT partition, key, id FROM newest WHERE expires <= ? LIMIT ?", (now, ROWS_PER_STEP)
    ).fetchall()
    connection.executemany("DELETE FROM records WHERE id = ?", [(row,) for *_, row in rows])
    connection.executemany(
        "DELETE FROM newest WHERE partition = ? AND key = ?", [row[:2] for row in rows]
    )
    return len(rows)


# -- the same for records in memory ---------------------------------------------------------------

_AGING_IN_MEMORY = """
    SELECT p.topic, p.partition, p.id, p.next, t.retention_ms
    FROM partitions p JOIN topics t ON t.name = p.topic
    WHERE t.retention_ms >= 0 AND p.low < p.next"""
_COMPACTED = """
    SELECT p.id, p.next FROM partitions p JOIN topics t ON t.name = p.topic
    WHERE t.cleanup = 'compact'"""


async def _upkeep_in_memory(view: LogView, memory: MemoryRecords, tombstones_ms: int) -> int:
    now = view.clock.now()
    removed = _sweep_memory(view, memory)
    old: dict[TopicPartition, int] = {}
    for topic, partition, pid, end, retention in view.store.read(_AGING_IN_MEMORY):
        run = memory.runs.get(pid)
        kept = end if run is None else run.first_since(now - retention, end)
        place = TopicPartition(topic, partition)
        begins = end if run is None else run.first_since(0, end)
        # A gap before the first record is no reason to move: nothing there is too old.
        if kept > view.edge(place).low and (kept > begins or begins == end):
            old[place] = kept
    if old:
        await view.change(lambda file: raise_low(file, old))
        removed += len(old) + _sweep_memory(view, memory)
    steps = STEPS_PER_CALL
    for pid, end in view.store.read(_COMPACTED):
        run = memory.runs.get(pid)
        while run is not None and run.clean < end and steps:
            removed += run.compact(end, tombstones_ms) + 1
            steps -= 1
        if run is not None:
            removed += run.drop_tombstones(now)
    return removed


def _sweep_memory(view: LogView, memory: MemoryRecords) -> int:
    removed = 0
    there = {edge.id: edge.low for edge in view.edges.values()}
    for pid, run in list(memory.runs.items()):
        if pid in there:
            removed += run.clear_below(there[pid])
        else:
            removed += len(memory.runs.pop(pid).records) + 1
    return removed
