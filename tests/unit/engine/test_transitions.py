"""The table of transitions itself; every other suite here holds its rows against it."""

import pytest

from streams.engine.rows import ENDED, JobRow, Row, encode
from streams.engine.transitions import TRANSITIONS, is_legal, kind_of, state_of, turn_rose
from tests.simulation.building import echo, gate, pipeline, sleep, stage


@pytest.mark.parametrize(
    ("kind", "before", "after", "higher", "writer", "legal"),
    [
        ("stage", None, "RUNNING", False, "agent", True),
        ("stage", "RUNNING", "RUNNING", False, "agent", True),
        ("stage", "RUNNING", "SUCCESS", False, "agent", True),
        ("stage", "SUCCESS", "SUCCESS", False, "agent", False),
        ("stage", "SUCCESS", "FAILED", False, "agent", False),
        ("stage", "FAILED", "RUNNING", True, "agent", True),
        ("stage", "RETRYING", "SUCCESS", True, "agent", True),
        ("stage", None, "SUCCESS", False, "keeper", False),
        ("stage", "SUCCESS", None, False, "keeper", True),
        ("stage", "SUCCESS", None, False, "agent", False),
        ("stage", None, "WAITING", False, "agent", False),
        ("folded", None, "SUCCESS", False, "agent", True),
        ("folded", None, "SUCCESS", False, "keeper", True),
        ("folded", None, "RUNNING", False, "agent", False),
        ("held", None, "WAITING", False, "keeper", True),
        ("held", "WAITING", "WAITING", False, "keeper", True),
        ("held", "WAITING", "CANCELLED", False, "keeper", True),
        ("held", "SUCCESS", "WAITING", False, "keeper", False),
        ("held", "SUCCESS", "WAITING", True, "keeper", True),
        ("held", None, "SUCCESS", False, "agent", False),
        ("delayed", None, "WAITING", False, "keeper", True),
        ("delayed", "WAITING", "SUCCESS", False, "keeper", False),
        ("arrival", "WAITING", "SUCCESS", False, "keeper", True),
        ("arrival", "SUCCESS", "WAITING", False, "keeper", False),
        ("job", None, "RUNNING", False, "keeper", True),
        ("job", "RUNNING", "CANCELLED", False, "keeper", True),
        ("job", "RUNNING", None, False, "keeper", False),
        ("job", "FAILED", "RUNNING", False, "keeper", False),
        ("job", "FAILED", "RUNNING", True, "keeper", True),
        ("job", "FAILED", "SUCCESS", False, "keeper", False),
        ("job", "FAILED", "FAILED", False, "keeper", True),
        ("input", "KEPT", "KEPT", False, "keeper", False),
        ("fact", "KEPT", "KEPT", False, "keeper", True),
    ],
)
def test_a_change_is_legal_if_the_table_has_it(kind, before, after, higher, writer, legal):
    """Row transitions of the protocol."""
    assert is_legal(kind, before, after, higher, writer) is legal


def test_an_end_is_never_changed_in_its_own_turn():
    """C6: each ended (epoch, turn) once."""
    changed = [
        (line.row, before, line.after)
        for line in TRANSITIONS
        for before in line.before & ENDED
        if line.after not in (None, before)
    ]
    assert changed == []


def test_the_kind_of_a_row_follows_from_its_name_and_the_plan():
    """Addresses of the protocol."""
    plan = pipeline(stage("a"), echo("e"), gate("g", until="x"), sleep("s"))
    names = ("a", "e", "g", "s", "a~", "a~e", "a~dead", "@job", "@input", "@fact/x", "@early/1")
    assert [kind_of(plan, name) for name in names] == [
        "stage", "folded", "held", "held", "delayed", "arrival", "dead", "job", "input", "fact",
        "early",
    ]  # fmt: skip


def test_a_turn_rises_with_the_epoch_or_the_turn():
    """Phase and n alone are the same turn."""
    one, two = encode(Row("SUCCESS", turn=1)), encode(Row("RUNNING", turn=2, phase=1))
    assert turn_rose(one, two)
    assert not turn_rose(two, one)
    assert not turn_rose(None, one)
    assert not turn_rose(encode(JobRow("RUNNING", phase=1)), encode(JobRow("SUCCESS", n=1)))
    assert state_of("fact", b"\x00{}") == "KEPT"
