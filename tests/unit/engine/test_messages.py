"""The form in which hops write a stage's event."""

import msgspec
import pytest

from streams.codec import kafka
from streams.engine import payload as payloads
from streams.engine.messages import (
    INPUT,
    Origin,
    decode_stage_event,
    encode_stage_event,
    make,
    origin_of,
    read,
    stage_event,
)
from streams.engine.payload import Payload, Result
from tests.simulation.building import pipeline, stage

PLAN = pipeline(stage("a", "b"), stage("b"))
ORIGIN = Origin("j1/each[3]", "j1", 2, PLAN.digest, 1, "acme", "00-aa-bb-01", "high")
PLAIN = Origin("j1", "j1", 1, PLAN.digest)
PAYLOAD = Payload({"p": 1}, msgspec.Raw(b'{"n": 1.50}'), {"a": Result("SUCCESS")})
NOW = 1_800_000_000_000


def event(origin=ORIGIN):
    return stage_event(PLAN, origin, "b", "e0", PAYLOAD, NOW, turn=3, attempt=2, source="a")


def changed(**members):
    """A record of it with other members."""
    whole = msgspec.json.decode(encode_stage_event(event())) | members
    return msgspec.json.encode({name: value for name, value in whole.items() if value is not ...})


@pytest.mark.parametrize("origin", [ORIGIN, PLAIN])
def test_it_is_a_cloud_event_that_anybody_can_read(origin):
    """In the JSON format of the specification, id and all attributes as `make` gives them."""
    found = kafka.decode(encode_stage_event(event(origin)), kafka.STRUCTURED_HEADERS)
    binary = make(
        INPUT, PLAN, origin, "b", "e0", payloads.encode(PAYLOAD), NOW,
        turn=3, attempt=2, source="a",
    )  # fmt: skip
    assert {k: str(v) for k, v in found.extensions.items()} == binary.extensions
    assert found.with_(extensions={}) == binary.with_(extensions={})
    assert event(origin).extensions == found.extensions


@pytest.mark.parametrize("origin", [ORIGIN, PLAIN])
def test_it_is_its_own_delivery_and_origin(origin):
    """Whoever reads it closely, or reads it as the event that it is, finds the same."""
    data = encode_stage_event(event(origin))
    own = decode_stage_event(data)
    assert own == event(origin)
    assert own.time == NOW
    closely = read(kafka.decode(data, kafka.STRUCTURED_HEADERS))
    assert read(own) == closely
    assert origin_of(closely) == origin
    assert origin_of(own) is own


def test_data_keeps_its_digits():
    """What a job was submitted with is handed on byte for byte."""
    assert bytes(decode_stage_event(encode_stage_event(event())).data.data) == b'{"n": 1.50}'


@pytest.mark.parametrize(
    "members",
    [
        {"specversion": "1.1"},
        {"type": "com.acme.order"},
        {"datacontenttype": "text/plain"},
        {"due": "5"},
        {"epoch": "2"},
        {"scope": ...},
        {"data": {"stages": 5}},
        {"time": "yesterday"},
        {"id": " "},
        {"id": "a\nb"},
        {"scope": "ä"},
        {"root": "x" * 1_000},
        {"tenant": "a\u0007"},
        {"priority": "urgent"},
    ],
    ids=str,
)
def test_what_is_not_surely_plain_is_left_to_the_codec(members):
    """Ids and names of such an event go on into other events, which nobody checks again."""
    assert decode_stage_event(changed(**members)) is None


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"\xff", b"{" * 100_000], ids=len)
def test_rubbish_is_no_stage_event(data):
    """It is read closely, and buried with its reason."""
    assert decode_stage_event(data) is None
