"""What a record of a stage's topic says, in whichever form it was written."""

import msgspec
import pytest

from streams.broker.port import Record
from streams.codec import kafka
from streams.engine import payload as payloads
from streams.engine.messages import INPUT, Origin, encode_stage_event, make, read, stage_event
from streams.engine.payload import Payload
from streams.errors import EventError
from streams.runtime.deliveries import opened
from tests.simulation.building import pipeline, stage

PLAN = pipeline(stage("a"))
ORIGIN = Origin("j1", "j1", 1, PLAN.digest)
PAYLOAD = Payload({"p": 1}, msgspec.Raw(b'{"n":1}'))
NOW = 1_800_000_000_000


def record(value, headers):
    return Record("t.p.a", 0, 7, NOW, b"j1", value, headers)


def test_both_forms_say_the_same():
    """Hops write the one, the keeper's retries and older logs hold the other."""
    own = stage_event(PLAN, ORIGIN, "a", "e0", PAYLOAD, NOW)
    event, delivery, payload = opened(record(encode_stage_event(own), kafka.STRUCTURED_HEADERS))
    assert event is delivery
    assert event == own
    assert payload is event.data
    binary = make(INPUT, PLAN, ORIGIN, "a", "e0", payloads.encode(PAYLOAD), NOW)
    other, same, also = opened(record(*kafka.encode(binary)))
    assert other == binary
    assert same == read(own)
    assert also == payload


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"{}", "V002"), (b"{", "V013"), (None, "V016"), (b'{"id": "1", "id": "2"}', "V014")],
)
def test_what_is_no_event_is_refused_with_the_codecs_reason(value, code):
    """The fast look gives none: whoever finds the dead letter wants to know why."""
    with pytest.raises(EventError) as caught:
        opened(record(value, kafka.STRUCTURED_HEADERS))
    assert caught.value.code == code
