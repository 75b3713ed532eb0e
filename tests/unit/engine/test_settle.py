"""The completion and join rule, on plans small enough to see."""

import pytest

from streams.engine.rows import Row
from streams.engine.settle import floors, is_closing, join_is_ready, settle
from tests.simulation.building import gate, pipeline, stage

DIAMOND = pipeline(stage("a", "b", "c"), stage("b", "d"), stage("c", "d"), stage("d"))


def ended(*taken, status="SUCCESS", epoch=1):
    return Row(status, epoch=epoch, taken=taken)


@pytest.mark.parametrize(
    ("rows", "states"),
    [
        ({}, "open open open open"),
        ({"a": Row("RUNNING", phase=1)}, "open open open open"),
        ({"a": Row("RETRYING")}, "open open open open"),
        ({"a": ended("b", "c")}, "ended open open open"),
        ({"a": ended("b")}, "ended open dead open"),
        ({"a": ended()}, "ended dead dead dead"),
        ({"a": ended(status="FAILED")}, "ended dead dead dead"),
        ({"a": ended("b"), "b": ended("d")}, "ended ended dead open"),
        ({"a": ended("b"), "b": ended()}, "ended ended dead dead"),
        ({"b": ended("d"), "d": ended()}, "open ended open ended"),
    ],
)
def test_a_part_is_ended_dead_or_open(rows, states):
    """Ended by its row; dead if all ways in are; else open."""
    found = settle(DIAMOND, rows, {})
    assert " ".join(found.states[path] for path in "abcd") == states
    assert found.complete is ("open" not in states)


def test_a_join_is_ready_when_no_way_is_open_and_every_live_one_has_arrived():
    """Not earlier, whatever else has arrived."""
    rows = {"a": ended("b", "c"), "b": ended("d")}
    assert not join_is_ready(DIAMOND, "d", settle(DIAMOND, rows, {}), rows, frozenset("b"))
    rows["c"] = ended("d", status="SKIPPED")
    settled = settle(DIAMOND, rows, {})
    assert not join_is_ready(DIAMOND, "d", settled, rows, frozenset("b"))
    assert join_is_ready(DIAMOND, "d", settled, rows, frozenset("bc"))
    rows["c"] = ended(status="SUCCESS")
    assert join_is_ready(DIAMOND, "d", settle(DIAMOND, rows, {}), rows, frozenset("b"))
    rows["d"] = ended()
    assert not join_is_ready(DIAMOND, "d", settle(DIAMOND, rows, {}), rows, frozenset("b"))


def test_a_row_below_its_floor_does_not_count():
    """floor(part) = highest epoch among restart points that reach it."""
    floor = floors(DIAMOND, {"b": 2, "d": 3})
    assert floor == {"b": 2, "d": 3}
    rows = {"a": ended("b", "c"), "b": ended("d"), "c": ended("d"), "d": ended()}
    assert settle(DIAMOND, rows, floor).states == {
        "a": "ended", "b": "open", "c": "ended", "d": "open",
    }  # fmt: skip


def test_failed_and_cancelled_parts_are_told_apart():
    """One fails the job, the other cancels it."""
    rows = {"a": ended("b", "c"), "b": ended(status="FAILED"), "c": ended(status="CANCELLED")}
    found = settle(DIAMOND, rows, {})
    assert (found.failed, found.cancelled, found.complete) == (("b",), ("c",), True)


@pytest.mark.parametrize(
    ("path", "row", "closing"),
    [
        ("a", ended("b", "c"), False),
        ("a", ended("b"), True),
        ("a", ended("b", "c", status="SKIPPED"), False),
        ("a", ended(status="FAILED"), True),
        ("a", ended(status="CANCELLED"), True),
        ("a", Row("RUNNING", phase=1), False),
        ("a", Row("RETRYING"), False),
        ("d", ended(), True),
        ("d", Row("RUNNING", phase=1), False),
    ],
)
def test_a_row_is_closing_if_it_may_complete_something(path, row, closing):
    """No out-edge, one not taken, or FAILED/CANCELLED: else 16 % of jobs stall."""
    assert is_closing(DIAMOND, path, row) is closing


def test_a_gate_with_a_way_aside_is_always_closing():
    """It takes one way or the other, never both."""
    plan = pipeline(gate("g", "a", aside="b", until="x"), stage("a"), stage("b"))
    assert is_closing(plan, "g", ended("a"))
    assert is_closing(plan, "g", ended("b"))
