"""The step made in one go is the step that `Flow` makes."""

import msgspec
import pytest

from streams.engine.flow import Flow
from streams.engine.messages import Origin, stage_event
from streams.engine.payload import Payload, Result
from streams.engine.routing import Answer, route
from streams.engine.rows import Attempt, is_closing
from streams.engine.straight import straight_of
from streams.outcome import Ok
from streams.runtime.call_values import Outcome
from streams.runtime.commit import Encoder
from streams.topology.plan import Edge, Naming
from tests.simulation.building import echo, gate, pipeline, stage

NAMING = Naming("test", "pipe")
LINE = pipeline(stage("a", "b"), stage("b", "c"), stage("c"))
FAN = pipeline(stage("a", "b", "c"), stage("b"), stage("c"))
ORIGIN = Origin("j1", "j1", 2, LINE.digest)
SMALL, LARGE = msgspec.Raw(b'{"n":1}'), msgspec.Raw(b'"' + b"x" * 1_023 + b'"')
TRIED = Attempt(1, 1_000, 1_001, 1_002, "RETRYING", "S001")


def both(plan, path, *, out=SMALL, meta=None, origin=ORIGIN, **payload):
    """Records of one success: by the straight step, and by the flow."""
    part = plan.by_path[path]
    sent = Payload({"p": 1}, SMALL, {"a": Result("SUCCESS", SMALL)} if path != "a" else {})
    sent = msgspec.structs.replace(sent, **payload)
    event = stage_event(plan, origin, path, "e0", sent, 1_800_000_000_000, turn=3, attempt=2)
    outcome = Outcome(Ok(), out, meta or {}, 1_800_000_000_005, 1_800_000_000_009)
    encoder = Encoder(NAMING, 4)
    straight = straight_of(plan, NAMING, part)
    assert straight is not None
    flow = Flow(plan, NAMING, event, outcome.ended, worker="w")
    answer = Answer(outcome.verdict, outcome.started, outcome.ended, outcome.out, outcome.meta)
    route(flow, part, event, event, sent, answer, None)
    return encoder.success(straight, event, outcome, "w"), encoder.records(flow.actions)


@pytest.mark.parametrize(
    ("plan", "path", "records"), [(LINE, "b", 2), (LINE, "c", 1), (FAN, "a", 3)]
)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"out": LARGE},
        {"out": msgspec.Raw(b"")},
        {"meta": {"pages": 3}},
        {"tries": (TRIED,)},
        {"ledger": {"facts": {"go": True}}},
        {"origin": Origin("j1/each[3]", "j1", 1, LINE.digest, 2, "acme", "00-aa-bb-01", "low")},
    ],
    ids=["plain", "large", "nothing", "meta", "tried", "view", "origin"],
)
def test_both_write_the_same_bytes(plan, path, records, how):
    """Two forms of one step may never differ: rows and events are read by everybody."""
    straight, flow = both(plan, path, **how)
    assert straight == flow
    assert len(straight) == records


def test_the_last_row_of_a_line_closes():
    """The keeper has to look at it: the job may be complete."""
    assert is_closing(both(LINE, "c")[0][0].value)
    assert not is_closing(both(LINE, "b")[0][0].value)


def test_a_way_for_failures_is_not_taken():
    """The row closes, for a join behind it may wait no longer."""
    parts = list(LINE.parts)
    parts[0] = msgspec.structs.replace(
        parts[0], edges=(Edge("b", carry=("a",)), Edge("c", "catch"))
    )
    plan = msgspec.structs.replace(LINE, parts=tuple(parts))
    straight, flow = both(plan, "a")
    assert straight == flow
    assert is_closing(straight[0].value)
    assert [record.topic for record in straight] == ["test.pipe.ledger", "test.pipe.b"]


@pytest.mark.parametrize(
    "after",
    [
        [stage("a", "x"), gate("x")],
        [stage("a", "x"), echo("x")],
        [stage("a", "j"), stage("b", "j"), stage("j")],
    ],
    ids=["gate", "echo", "join"],
)
def test_what_the_keeper_or_the_step_itself_does_next_is_not_straight(after):
    """There is more to it than a row and events to stages."""
    plan = pipeline(*after)
    assert straight_of(plan, NAMING, plan.by_path["a"]) is None
