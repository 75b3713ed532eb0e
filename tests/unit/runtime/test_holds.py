"""Indexes over a keeper's table: who waits for a fact, and who is due when."""

import msgspec
import pytest

from streams.engine.rows import JobRow, Row, Wait, encode
from streams.ledger.table import LedgerTable
from streams.runtime.holds import HoldIndex
from streams.topology.plan import Gate, Part, Plan

PLAN = Plan(
    "p", "1",
    (
        Part("go", "gate", "gate", gate=Gate("go", facts=("ready",))),
        Part("any", "gate", "gate", gate=Gate("any", facts=("*",))),
        Part("rest", "sleep", "sleep"),
    ),
    retention_ms=1_000,
)  # fmt: skip


@pytest.fixture
def index():
    return HoldIndex({PLAN.digest: PLAN})


@pytest.fixture
def table(index):
    return LedgerTable(index.changed)


def held(kind="gate", due=None, n=0):
    return encode(Row("WAITING", phase=0, n=n, plan=PLAN.digest, wait=Wait(kind, 0, due=due)))


def over(n=9):
    return encode(Row("SUCCESS", n=n, plan=PLAN.digest))


def test_a_gate_is_found_by_the_facts_it_reads(index, table):
    """K7: exactly the holds of that name are judged."""
    table.committed("j", "go", held())
    table.committed("k", "any", held())
    assert index.waiting_for("ready") == ["k", "j"]
    assert index.waiting_for("ready.deep") == ["k", "j"]
    assert index.waiting_for("other") == ["k"]


def test_a_gate_that_ended_is_found_no_more(index, table):
    """Memory follows what waits now."""
    table.committed("j", "go", held(due=5))
    table.committed("j", "go", over())
    assert index.waiting_for("ready") == []
    assert not index.has_gates("j")
    assert index.next_due() is None
    assert index._by_fact == index._gates == {}
    assert len(index) == 0


def test_a_gate_that_is_entered_again_is_found_once(index, table):
    """A new epoch, or another look at the same hold."""
    table.committed("j", "go", held())
    table.committed("j", "go", held(n=1))
    assert index.waiting_for("ready") == ["j"]
    assert list(index.gates()) == [("j", "go")]


def test_holds_are_due_in_the_order_of_their_times(index, table):
    """K6; ties by name, so that a test repeats."""
    table.committed("b", "rest", held("sleep", due=20))
    table.committed("a", "rest", held("sleep", due=20))
    table.committed("c", "go~", held("retry", due=10))
    assert index.next_due() == 10
    assert index.pop_due(15, 10) == [("c", "go~")]
    assert index.pop_due(30, 10) == [("a", "rest"), ("b", "rest")]
    assert index.pop_due(30, 10) == []


def test_only_as_many_as_asked_for_are_popped(index, table):
    """A storm in pieces."""
    for n in range(5):
        table.committed(f"j{n}", "rest", held("sleep", due=n))
    assert len(index.pop_due(10, 3)) == 3
    assert len(index.pop_due(10, 3)) == 2


def test_a_deadline_that_moved_fires_once_at_its_new_time(index, table):
    """The old entry of the heap stays in place and counts for nothing."""
    table.committed("j", "rest", held("sleep", due=10))
    table.committed("j", "rest", held("sleep", due=30, n=1))
    assert index.pop_due(20, 10) == []
    assert index.pop_due(30, 10) == [("j", "rest")]


def test_a_hold_that_was_scheduled_again_for_the_same_time_is_popped_once(index):
    """Also when that happens after it was popped."""
    index.schedule("j", "@look", 5)
    index.schedule("j", "@look", 5)
    assert index.pop_due(5, 10) == [("j", "@look")]
    index.schedule("j", "@look", 5)
    assert index.pop_due(5, 10) == [("j", "@look")]
    assert index.pop_due(5, 10) == []


def test_an_open_job_is_due_at_its_deadline_and_an_ended_one_at_its_purge(index, table):
    """K8: then the heap gets (ended + retention, purge)."""
    job = JobRow("RUNNING", phase=1, plan=PLAN.digest, deadline=50)
    table.committed("j", "@job", encode(job))
    assert index.next_due() == 50
    ended = msgspec.structs.replace(job, status="SUCCESS", phase=2, completed=70)
    table.committed("j", "@job", encode(ended))
    assert index.pop_due(999, 10) == []
    assert index.pop_due(1_070, 10) == [("j", "@job")]
    table.committed("j", "@job", None)
    assert index.next_due() is None


def test_a_stopping_job_is_looked_at_two_seconds_after_the_stop(index, table):
    """CANCELLED at least 2 s later, when no part shows RUNNING."""
    job = JobRow("RUNNING", phase=1, plan=PLAN.digest, stopping="CANCELLED", stopping_since=100)
    table.committed("j", "@job", encode(job))
    assert index.next_due() == 2_100


def test_early_signals_wait_with_a_deadline_and_other_rows_of_the_engine_do_not(index, table):
    """K9: an hour; `@input` and facts never end by time."""
    table.committed("j", "@early/s1", held("early", due=10))
    table.committed("j", "@fact/x", held("early", due=5))
    assert index.pop_due(99, 10) == [("j", "@early/s1")]


def test_a_gate_of_a_plan_nobody_knows_still_has_its_deadline(index, table):
    """A row outlives the record of its plan only by a fault; time must not be lost by it."""
    row = encode(Row("WAITING", phase=0, plan="?", wait=Wait("gate", 0, due=9)))
    table.committed("j", "go", row)
    assert index.waiting_for("ready") == []
    assert index.pop_due(9, 10) == [("j", "go")]
