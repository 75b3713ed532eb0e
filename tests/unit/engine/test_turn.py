"""A turn: decided whole or not at all, and read through before it is committed."""

import msgspec
import pytest

from streams.engine import keeping
from streams.engine.messages import ARRIVE, RETRY, read
from streams.engine.payload import BlobMissing, BlobRef, reference
from streams.engine.rows import Row, decode_row
from streams.engine.turn import Turn
from streams.errors import EventError, NotFoundError
from streams.event import Event
from streams.ledger.table import LedgerTable
from streams.outcome import Ok
from tests.simulation.building import echo, gate, pipeline, stage
from tests.simulation.harness import NAMING, NOW, World

REF = BlobRef("mem://x", 100_000, "00")


def new_turn(plan, table=None):
    return Turn(
        table or LedgerTable(), NAMING, {plan.digest: plan}, active=plan.digest, shared={}, now=NOW
    )


def test_what_a_turn_has_decided_it_reads_at_once():
    """The overlay hides what is committed, tombstones too."""
    table = LedgerTable()
    table.committed("j", "a", b'\x00{"s":"SUCCESS"}')
    turn = new_turn(pipeline(stage("a")), table)
    assert turn.read("j").stages["a"].status == "SUCCESS"
    turn.drop("j", "a")
    turn.put("j", "b", Row("SKIPPED"))

    assert list(turn.rows("j")) == ["b"]
    assert list(table.rows("j")) == ["a"]


def test_an_input_that_is_undone_leaves_the_turn_as_it_was():
    """Earlier inputs of the same transaction stand."""
    turn = new_turn(pipeline(stage("a")))
    turn.next_input()
    turn.put("j", "a", Row("SUCCESS"))
    turn.next_input()
    turn.put("j", "a", Row("FAILED", turn=2))
    turn.put("j", "b", Row("FAILED"))
    turn.drop("j", "a")
    turn.echoes.append(("j", "a", "text"))
    turn.undo_input()

    assert decode_row(turn.rows("j")["a"]).status == "SUCCESS"
    assert list(turn.rows("j")) == ["a"]
    assert len(turn.actions) == 1
    assert turn.echoes == []


def test_a_decision_that_needs_a_blob_is_undone_and_made_again_with_it():
    """A blob is I/O, which the engine does not do: it asks, the runtime reads."""
    plan = pipeline(
        stage("a", "g"),
        gate("g", "e", until="has(facts.go)"),
        echo("e", text="${{ stages.a.title }}"),
    )
    world = World(plan, answers={"a": Ok("later")})
    world.asleep = {"a"}
    world.submit()
    world.settle()
    work = world.begin("a")
    flow = world._flow(work)
    flow.end(work.part, "SUCCESS", work.event.id, work.payload, out=reference(REF))
    world._commit(flow.actions, "agent")
    world.settle()
    world.signal("fact", facts={"go": 1})
    event = world.intake.popleft()
    turn = world.open_turn()
    with pytest.raises(BlobMissing) as missing:
        keeping.came_in(turn, event, "j")
    turn.undo_input()
    assert missing.value.ref == REF
    assert turn.actions == []
    turn.blobs = {REF.url: {"title": "big"}}
    keeping.came_in(turn, event, "j")
    world.commit_turn()

    assert world.echoes == [("j", "e", "big")]
    assert world.job().status == "SUCCESS"


def test_a_plan_that_is_not_known_is_an_error_of_the_operator():
    """K040."""
    with pytest.raises(NotFoundError) as caught:
        new_turn(pipeline(stage("a"))).plan("gone")
    assert caught.value.code == "K040"


@pytest.mark.parametrize("kind", [ARRIVE, RETRY])
def test_an_arrival_without_a_payload_never_gets_into_a_row(kind):
    """Bytes that are no JSON in a row would end every keeper that reads it."""
    world = World(pipeline(stage("a", "j"), stage("b", "j"), stage("j")))
    world.asleep = {"b"}
    world.submit()
    world.settle()
    event = Event(
        "x", "/x", kind, b"{broken", "application/json",
        extensions={
            "scope": "j", "part": "j", "root": "j", "epoch": "1", "turn": "1", "attempt": "1",
            "planversion": world.active, "via": "b",
        },
    )  # fmt: skip
    turn = world.open_turn()
    with pytest.raises(EventError) as caught:
        keeping.arrived(turn, read(event))
    assert caught.value.code == "V048"
    assert turn.actions == []


@pytest.mark.parametrize("missing", ["scope", "part", "epoch", "planversion"])
def test_an_event_that_is_not_the_engines_is_refused(missing):
    """V047: somebody published to the engine's own topics."""
    extensions = {
        "scope": "j", "part": "a", "root": "j", "epoch": "1", "turn": "1", "attempt": "1",
        "planversion": "p",
    }  # fmt: skip
    del extensions[missing]
    with pytest.raises(EventError) as caught:
        read(Event("x", "/x", ARRIVE, b"{}", extensions=extensions))
    assert caught.value.code == "V047"


def test_equal_inputs_give_equal_actions():
    """A turn that could not be committed is decided again to the same bytes."""

    def decided():
        world = World(pipeline(stage("a", "j"), gate("g", "j", until="1 < 2"), stage("j")))
        world.submit(x=1)
        world.take_intake()
        return world.turn.actions

    assert decided() == decided()


def test_a_skipped_result_is_null_to_those_who_read_it():
    """No bytes are no JSON."""
    world = World(pipeline(stage("a", "b", condition="1 > 2"), stage("b")))
    world.asleep = {"b"}
    world.submit()
    world.settle()
    work = world.begin("b")
    assert msgspec.json.decode(work.payload.stages["a"].out) is None
