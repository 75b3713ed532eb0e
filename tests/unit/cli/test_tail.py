"""`streams tail`, `publish` and `dlq redrive` on whatever stands in a log."""

import json

import msgspec
import pytest

from streams.broker.port import Outgoing, Record, TopicSpec
from streams.cli.events import _said, record_object
from streams.codec.foreign import Reading
from streams.engine.rows import FactRow, Row
from streams.errors import EventError, UserError
from streams.inspection.foreign_writing import values_in
from streams.topology.plan import SourceTopic
from tests.unit.cli.scene import PLAN, Scene

READS = msgspec.structs.replace(
    PLAN,
    sources=(
        SourceTopic("orders", "json", "${{ data.id }}"),
        SourceTopic("changes", "debezium"),
        SourceTopic("nowhere", "avro"),
    ),
)


@pytest.fixture
async def scene():
    made = await Scene.open(plan=READS)
    await made.log.create_topics([TopicSpec(name, 1) for name in ("orders", "changes", "other")])
    yield made
    await made.log.close()


async def shown(scene, topic):
    """(object, line) of every record of a topic."""
    decoder = await scene.client.decoder()
    found = []
    async for record in scene.client.tail([topic], "beginning", follow=False):
        plain = record_object(record, await decoder.decoded(record))
        found.append((plain, _said(plain)))
    await decoder.close()
    return found


async def put(scene, topic, *records):
    await scene.log.publish(
        [Outgoing(topic, key, value, tuple(headers), 0) for key, value, headers in records]
    )


async def test_rows_of_the_ledger_are_shown_as_they_stand_with_their_status_in_words(scene):
    """The first byte is flags, the rest JSON."""
    await scene.row("j", "fetch", Row("SUCCESS", out=msgspec.Raw(b'{"n": 1}'), at=5))
    await scene.row("j", "@fact/ok", FactRow(True, 7, "me"))
    await scene.row("j", "fetch", None)

    found = {
        (each["key"], each["kind"]): each["value"]
        for each, _ in await shown(scene, scene.naming.ledger)
    }

    assert found[("j|fetch", "row")] == {
        "status": "succeeded",
        "s": "SUCCESS",
        "out": {"n": 1},
        "at": 5,
    }
    assert found[("j|@fact/ok", "row")] == {"value": True, "at": 7, "by": "me"}
    assert found[("j|fetch", "deleted")] is None


async def test_control_records_are_shown_as_their_json(scene):
    """Plans, what is active, stops, facts."""
    found = {each["key"]: each for each, _ in await shown(scene, scene.naming.control)}

    assert found["active"]["kind"] == "control"
    assert found["active"]["value"] == {"digest": READS.digest}


async def test_records_of_a_source_are_read_as_it_declares(scene):
    """JSON and changes; a tombstone is a deletion; the rest as its bytes, with the reason."""
    await put(scene, "orders", (b"k", b'{"id": 1}', ()), (b"k", None, ()), (b"k", b"{broken", ()))
    await put(scene, "changes", (b"k", b'{"op": "c", "after": {"id": 1}}', ()))

    (one, line), (gone, gone_line), (broken, broken_line) = await shown(scene, "orders")

    assert (one["kind"], one["value"], line) == ("record", {"id": 1}, 'k  {"id": 1}')
    assert (gone["kind"], gone_line) == ("deleted", "k  (deleted)")
    assert (broken["kind"], broken["value"]) == ("unread", "{broken")
    assert "not JSON" in broken_line
    ((change, _),) = await shown(scene, "changes")
    assert change["value"] == {"op": "c", "after": {"id": 1}}


async def test_any_other_topic_is_read_as_events_json_or_bytes(scene):
    """`tail` shows what it can of a topic that nobody has declared."""
    await put(
        scene,
        "other",
        (
            None,
            b"1",
            [("ce_id", b"e"), ("ce_source", b"/s"), ("ce_type", b"t"), ("ce_specversion", b"1.0")],
        ),
        (b"\xff", b'{"a": 1}', ()),
        (b"k", b"\xff\xfe", ()),
    )

    (event, _), (plain, _), (raw, _) = await shown(scene, "other")

    assert (event["kind"], event["event"]["id"]) == ("event", "e")
    assert (plain["kind"], plain["value"], plain["key"]) == ("record", {"a": 1}, {"base64": "/w=="})
    assert (raw["kind"], raw["value"]) == ("unread", {"base64": "//4="})


async def test_dead_letters_are_shown_with_their_cause_and_what_is_in_them(scene):
    """The original may be just what nobody could read."""
    cause = [("streams-dlq-topic", b"orders"), ("streams-dlq-partition", b"0"),
             ("streams-dlq-offset", b"5"), ("streams-dlq-reason", b"V064"),
             ("streams-dlq-error", b"no id")]  # fmt: skip
    await put(scene, scene.naming.dead, (b"k", b'{"no": 1}', cause))

    ((letter, line),) = await shown(scene, scene.naming.dead)

    assert letter["cause"]["reason"] == "V064"
    assert letter["value"] == {"no": 1}
    assert line.startswith("V064: no id  from orders[0]@5")


async def test_a_source_s_dead_letter_is_sent_again_as_a_submission(scene):
    """Its own bytes would be no event: the source's rules make one of them."""
    cause = [("streams-dlq-topic", b"orders"), ("streams-dlq-partition", b"0"),
             ("streams-dlq-offset", b"5"), ("streams-dlq-reason", b"V040")]  # fmt: skip
    await put(scene, scene.naming.dead, (b"k", b'{"id": "a"}', cause))
    info = await scene.client.pipeline("demo")

    await scene.client.redrive(info, await scene.client.dead_letters(), by="me")

    ((sent, _),) = await shown(scene, scene.naming.intake)
    assert (sent["key"], sent["event"]["job"], sent["event"]["data"]) == ("a", "a", {"id": "a"})
    (letter,) = await scene.client.dead_letters()
    assert letter.state == "redriven"


async def test_what_still_cannot_be_read_is_not_sent(scene):
    """It would only be a dead letter again."""
    cause = [("streams-dlq-topic", b"orders"), ("streams-dlq-reason", b"V064")]
    await put(scene, scene.naming.dead, (b"k", b'{"no": 1}', cause))
    info = await scene.client.pipeline("demo")

    with pytest.raises(UserError) as caught:
        await scene.client.redrive(info, await scene.client.dead_letters(), by="me")

    assert caught.value.code == "C137"
    assert await shown(scene, scene.naming.intake) == []


async def test_a_pointer_is_followed_to_its_original_or_says_that_it_is_gone(scene):
    """The letter has the place; the topic may have let go of it."""
    body = {"id": "e", "source": "/s", "type": "t", "specversion": "1.0"}
    original = (
        b"k",
        json.dumps(body).encode(),
        [("content-type", b"application/cloudevents+json")],
    )
    await put(scene, "other", original)
    cause = [("streams-dlq-topic", b"other"), ("streams-dlq-partition", b"0"),
             ("streams-dlq-offset", b"0"), ("streams-dlq-omitted", b"value,headers,key")]  # fmt: skip
    gone = [*cause[:2], ("streams-dlq-offset", b"7"), cause[3]]
    await put(scene, scene.naming.dead, (None, None, cause))
    info = await scene.client.pipeline("demo")

    await scene.client.redrive(info, await scene.client.dead_letters(), by="me")
    ((sent, _),) = await shown(scene, scene.naming.intake)
    assert sent["event"]["id"] == "e"

    await put(scene, scene.naming.dead, (None, None, gone))
    letters = [each for each in await scene.client.dead_letters() if each.state == "open"]
    with pytest.raises(UserError) as caught:
        await scene.client.redrive(info, letters, by="me")
    assert caught.value.code == "C136"


async def test_values_are_published_as_the_source_of_the_topic_reads_them(scene):
    """What is written to try a pipeline out is what its sender would write."""
    source = await scene.client.source_of("orders")
    records = await scene.client.foreign(
        source, values_in(b'{"id": 1}\n{"id": 2}'), "${{ data.id }}"
    )
    await scene.client.publish_records(records)

    (one, _), (two, _) = await shown(scene, "orders")

    assert (one["key"], one["value"]) == ("1", {"id": 1})
    assert (two["key"], two["value"]) == ("2", {"id": 2})
    assert await scene.client.source_of("other") is None


async def test_avro_is_written_by_the_source_s_own_schema(scene):
    """The same bytes that its reader takes; what does not fit is refused before anything is sent."""
    schema = {"type": "record", "name": "O", "fields": [{"name": "id", "type": "int"}]}
    source = SourceTopic("orders", "avro", schema=schema)

    (record,) = await scene.client.foreign(source, [{"id": 3}])

    assert await Reading(source).value(Record("orders", 0, 0, 0, None, record.value)) == {"id": 3}
    with pytest.raises(EventError) as caught:
        await scene.client.foreign(source, [{"id": 3}, {"id": "x"}])
    assert caught.value.code == "V061"


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b'[{"a": 1}, 2]', [{"a": 1}, 2]),
        (b'{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        (b'{\n"a": 1\n}', [{"a": 1}]),
    ],
)
def test_a_file_of_values_is_an_array_or_one_a_line_or_one_alone(content, values):
    """As for events."""
    assert values_in(content) == values
