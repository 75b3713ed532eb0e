"""Retention and compaction delete what is over its time, in bounded steps, and nothing else."""

import sqlite3

import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.broker.local import LocalLog
from streams.broker.local_upkeep import ROWS_PER_STEP, STEPS_PER_CALL
from streams.broker.port import Outgoing, TopicPartition, TopicSpec, Watermarks
from streams.clock import ManualClock

C0 = TopicPartition("c", 0)
T0 = TopicPartition("t", 0)
BRIEF = TopicPartition("brief", 0)
DAY = 86_400


async def maintained(log, **options):
    while await log.maintain(**options):
        pass


def stored(log):
    """All that takes room, whether readers get it or not."""
    memory = log._view.memory
    if memory is None:
        return log._store.read("SELECT key, value FROM records ORDER BY id")
    runs = [run.records for _, run in sorted(memory.runs.items())]
    return [(record.key, record.value) for run in runs for record in run.values()]


@pytest_asyncio.fixture(params=["in memory", "in a file"])
async def log(request, clock, path):
    """Rows of a file and records in memory are looked after by different code."""
    log = LocalLog.open(path if request.param == "in a file" else None, clock=clock)
    await log.create_topics([TopicSpec("t", 2), TopicSpec("c", 1, "compact")])
    yield log
    await log.close()


async def test_a_tombstone_stays_a_day_and_then_goes(log, clock):
    """A reader that was away for less than a day still learns of the deletion."""
    await log.publish([Outgoing("c", b"a", b"1"), Outgoing("c", b"b", b"1")])
    await log.publish([Outgoing("c", b"a", None)])
    await maintained(log)
    assert stored(log) == [(b"b", b"1"), (b"a", None)]
    clock.advance(DAY - 1)
    await maintained(log)
    assert stored(log) == [(b"b", b"1"), (b"a", None)]
    clock.advance(2)
    await maintained(log)
    assert stored(log) == [(b"b", b"1")]


async def test_a_key_written_again_after_its_tombstone_lives(log, clock):
    """The tombstone is superseded like any record."""
    for value in (b"1", None, b"2"):
        await log.publish([Outgoing("c", b"a", value)])
        await maintained(log)
    clock.advance(2 * DAY)
    await maintained(log)
    assert stored(log) == [(b"a", b"2")]


async def test_compaction_moves_no_watermark_and_no_offset(log):
    """A record, once visible, stays at its offset."""
    for value in (b"1", b"2", b"3"):
        await log.publish([Outgoing("c", b"a", value)])
    await maintained(log)
    reader = log.reader()
    reader.assign({C0: 0})
    assert [(r.offset, r.value) for r in await reader.poll(9, 0)] == [(2, b"3")]
    assert await log.watermarks([C0]) == {C0: Watermarks(0, 3)}


async def test_retention_deletes_what_is_too_old_and_moves_the_low_watermark(log, clock):
    """KT-3: intake keeps 30 days, stage topics keep for ever."""
    await log.create_topics([TopicSpec("brief", 1, retention_ms=10_000), TopicSpec("ever", 1)])
    for topic in ("brief", "ever"):
        await log.publish([Outgoing(topic, b"k", b"old")] * 3)
    clock.advance(8)
    await log.publish([Outgoing("brief", b"k", b"new")])
    await maintained(log)
    assert (await log.watermarks([BRIEF]))[BRIEF].low == 0
    clock.advance(5)
    await maintained(log)
    assert await log.watermarks([BRIEF]) == {BRIEF: Watermarks(3, 4)}
    assert sorted(value for _, value in stored(log)) == [b"new", b"old", b"old", b"old"]
    clock.advance(10)
    await maintained(log)
    assert await log.watermarks([BRIEF]) == {BRIEF: Watermarks(4, 4)}


async def test_work_of_one_call_is_bounded(log):
    """Idle time ends; the worker must get back to its events."""
    count = ROWS_PER_STEP * (STEPS_PER_CALL + 1)
    await log.publish([Outgoing("c", b"k", b"v")] * count)
    await log.maintain()
    assert len(stored(log)) == ROWS_PER_STEP + 1
    await maintained(log)
    assert len(stored(log)) == 1


async def test_an_idle_log_is_not_written_to(file_log, path):
    """Laptops sleep, disks wear."""
    await file_log.publish([Outgoing("c", b"k", b"v")])
    await maintained(file_log)
    with sqlite3.connect(path) as other:
        before = other.execute("PRAGMA data_version").fetchone()
        await file_log.maintain()
        assert other.execute("PRAGMA data_version").fetchone() == before
    other.close()


async def test_trimmed_and_deleted_records_free_their_room(log):
    """Readers cannot reach them; their rows must not stay for ever."""
    await log.publish([Outgoing("t", b"k", b"v", partition=0)] * 5)
    await log.trim({T0: 3})
    assert len(stored(log)) == 2
    await log.delete_topics(["t"])
    assert stored(log) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"1", b"2", None]))),
    st.sets(st.integers(0, 30)),
    st.booleans(),
)
async def test_compaction_at_any_moment_keeps_the_table(tmp_path_factory, writes, pauses, file):
    """A table restored from the topic is the same whenever compaction ran."""
    path = tmp_path_factory.mktemp("log") / "log.db" if file else None
    log = LocalLog.open(path, clock=ManualClock())
    await log.create_topics([TopicSpec("c", 1, "compact")])
    expected = {}
    for step, (key, value) in enumerate(writes):
        await log.publish([Outgoing("c", key, value)])
        expected[key] = value
        if step in pauses:
            await maintained(log)
    await maintained(log)
    assert dict(stored(log)) == expected
    assert len(stored(log)) == len(expected)
    await log.close()
