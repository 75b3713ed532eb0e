"""What a keeper knows of a partition: rows, early events."""

import pytest

from streams.broker.port import Record
from streams.clock import ManualClock
from streams.engine.messages import Delivery
from streams.engine.rows import Address, InputRow, JobRow, Order, Row, encode
from streams.errors import EventError
from streams.runtime.state import ORPHAN_AFTER, State, newest
from streams.runtime.timekeeping import LogTime


def row(turn=1, phase=2, n=0):
    return encode(Row("SUCCESS", turn=turn, phase=phase, n=n))


def delivery(cause, scope="j"):
    return Delivery(
        id="x", type="interlock.hold.arrive.v1", scope=scope, part="join", root=scope, epoch=1,
        turn=1, attempt=1, digest="d", depth=0, tenant="", trace="", time=0, data=b"{}",
        via="a", cause=cause,
    )  # fmt: skip


def record(offset):
    return Record("hold", 0, offset, 0, None, None)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def state(clock):
    time = LogTime(clock)
    time.saw(clock.now())
    made = State(0, clock, time, {})
    made.table.read(Address("j", "@job").key, encode(JobRow("RUNNING", phase=1)), 0)
    return made


# -- events before their rows ---------------------------------------------------------------


def test_an_event_waits_for_the_row_it_was_written_with(state):
    """K4: no gate and no join is decided on a past older than its cause."""
    assert state.set_aside(record(5), delivery("a:1:1:2:0"))
    assert state.bring_back(Address("j", "b")) == []
    state.table.read(Address("j", "a").key, row(), 1)
    assert [r.offset for r in state.bring_back(Address("j", "a"))] == [5]
    assert not state.has_early


def test_only_events_up_to_the_row_that_was_seen_come_back(state):
    """A turn 2 that arrives early does not ride on the row of turn 1."""
    state.set_aside(record(5), delivery("a:1:1:2:0"))
    state.set_aside(record(6), delivery("a:1:2:2:0"))
    state.table.read(Address("j", "a").key, row(turn=1), 1)
    assert [r.offset for r in state.bring_back(Address("j", "a"))] == [5]
    state.table.read(Address("j", "a").key, row(turn=2), 2)
    assert [r.offset for r in state.bring_back(Address("j", "a"))] == [6]


@pytest.mark.parametrize("cause", ["", "a:1:1:2:0"])
def test_an_event_whose_row_is_there_or_that_has_none_is_decided_at_once(state, cause):
    """Nothing to wait for."""
    state.table.read(Address("j", "a").key, row(), 1)
    assert not state.set_aside(record(5), delivery(cause))


def test_an_event_of_a_job_that_is_not_there_is_not_kept(state):
    """A purged job's late event would wait for ever."""
    assert not state.set_aside(record(5), delivery("a:1:1:2:0", scope="gone"))


@pytest.mark.parametrize("cause", ["a", "a:1", "a:one:1:2:0"])
def test_a_cause_that_is_none_is_refused(state, cause):
    """E11: a forged header is a dead letter, not the keeper's end."""
    with pytest.raises(EventError):
        state.set_aside(record(5), delivery(cause))


def test_an_event_is_an_orphan_only_after_its_time(state, clock):
    """K4: two seconds; then whoever asks has read the ledger to its end."""
    state.set_aside(record(5), delivery("a:1:1:2:0"))
    clock.advance(ORPHAN_AFTER / 1000)
    assert not state.has_orphans
    assert state.orphans() == []
    clock.advance(0.003)
    assert state.has_orphans
    assert [r.offset for r in state.orphans()] == [5]
    assert not state.has_early


def test_the_newest_row_dates_a_scope_whatever_kinds_of_rows_it_has(state):
    """Purge of rows without a job: a day after the newest of them."""
    rows = {"@input": encode(InputRow()), "a": encode(Row("SUCCESS", at=7)), "b": row()}
    assert newest(rows) == 7
    assert newest({}) == 0
    assert Order(1, 1, 2) < Order(1, 2, 0)
