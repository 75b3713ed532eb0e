"""Records in memory are what rows of a file are: whatever is done to a log, both give the same."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.broker.local import LocalLog
from streams.broker.local_memory import OFFSETS_PER_STEP, MemoryRecords, Run
from streams.broker.local_records import Appended
from streams.broker.port import Outgoing, Record, TopicPartition, TopicSpec
from streams.clock import ManualClock

C0 = TopicPartition("c", 0)
B0 = TopicPartition("brief", 0)
SPECS = [TopicSpec("c", 1, "compact"), TopicSpec("brief", 1, retention_ms=10_000)]


def record(offset, key=b"k", value=b"v", at=0):
    return Record("c", 0, offset, at, key, value)


def run_of(*records):
    return Run({each.offset: each for each in records})


def test_a_read_passes_over_what_compaction_took():
    """A table that was compacted to two records is read in one go, not hole by hole."""
    kept = MemoryRecords()
    kept.add(Appended(1, 900_001, [record(5), record(900_000)]))
    assert [r.offset for r in kept.get(1, 0, 900_001, 9)] == [5, 900_000]
    assert [r.offset for r in kept.get(1, 0, 900_001, 1)] == [5]
    assert [r.offset for r in kept.get(1, 6, 900_001, 1)] == [900_000]
    assert kept.get(1, 6, 900_000, 9) == []
    assert kept.get(2, 0, 9, 9) == []


def test_a_step_of_compaction_is_bounded():
    """Others have their turn between the steps of a large table."""
    run = run_of(*(record(n) for n in range(OFFSETS_PER_STEP + 2)))
    assert run.compact(OFFSETS_PER_STEP + 2, 0) == OFFSETS_PER_STEP - 1
    assert run.compact(OFFSETS_PER_STEP + 2, 0) == 2
    assert list(run.records) == [OFFSETS_PER_STEP + 1]


def test_a_key_written_again_is_kept_when_its_tombstone_would_have_gone():
    """The tombstone went with the new record, and so did its time."""
    run = run_of(record(0, value=None), record(1))
    run.compact(2, 5)
    assert run.drop_tombstones(10) == 0
    assert list(run.records) == [1]


def test_what_is_cleared_is_no_longer_the_newest_of_its_key():
    """Else the next record of the key would be taken for the second one for ever."""
    run = run_of(record(0), record(1, key=b"other", value=None))
    run.compact(2, 5)
    assert run.clear_below(2) == 2
    assert (run.records, run.newest, run.tombstones) == ({}, {}, {})


def test_a_run_without_young_records_begins_at_its_end():
    """Retention may empty a partition."""
    run = run_of(record(0, at=10), record(3, at=20))
    assert [run.first_since(stamp, 4) for stamp in (5, 10, 11, 20, 21)] == [0, 0, 3, 3, 4]


writes = st.tuples(
    st.just("write"),
    st.sampled_from(["c", "brief"]),
    st.sampled_from([b"a", b"b", b"c"]),
    st.sampled_from([b"1", b"2", None]),
)
waits = st.tuples(st.just("wait"), st.sampled_from([1, 6, 90_000]))
trims = st.tuples(st.just("trim"), st.sampled_from([C0, B0]), st.integers(0, 8))
upkeep = st.tuples(st.just("upkeep"))


async def seen_after(path, steps, gaps):
    """What readers get of a log that this was done to."""
    clock = ManualClock()
    log = LocalLog.open(path, clock=clock, offset_gaps=gaps)
    await log.create_topics(SPECS)
    for what, *how in steps:
        if what == "write":
            await log.publish([Outgoing(*how)])
        elif what == "wait":
            clock.advance(how[0])
        elif what == "trim":
            await log.trim({how[0]: how[1]})
        else:
            while await log.maintain():
                pass
    reader = log.reader()
    reader.assign({C0: 0, B0: 0})
    records = [(r.place, r.offset, r.timestamp, r.key, r.value) for r in await reader.poll(99, 0)]
    marks = await log.watermarks([C0, B0])
    await log.close()
    return sorted(records, key=lambda each: each[:2]), marks


@settings(max_examples=60, deadline=None)
@given(st.lists(writes | waits | trims | upkeep, max_size=25), st.booleans())
@example([("write", "brief", b"a", b"1")] * 2 + [("trim", B0, 1), ("upkeep",)], True)
async def test_a_log_in_memory_gives_what_one_in_a_file_gives(tmp_path_factory, steps, gaps):
    """Tests and dry runs on a log in memory stand for production."""
    path = tmp_path_factory.mktemp("log") / "log.db"
    assert await seen_after(None, steps, gaps) == await seen_after(path, steps, gaps)
