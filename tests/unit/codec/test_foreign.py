"""Records of others as submissions: every format, every way in which they can be wrong."""

import http.server
import io
import json
import threading
import uuid

import fastavro
import pytest

from streams.broker.port import Record
from streams.codec.avro import AvroReader
from streams.codec.foreign import Reading, job_of
from streams.codec.registry import RegistryAway, SchemaRegistry
from streams.errors import EventError, UserError
from streams.event import submission_job_id
from streams.inspection.foreign_writing import foreign_records
from streams.topology.plan import SourceTopic

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "raw", "type": "bytes"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    ],
}  # fmt: skip
VALUE = {"id": "o1", "at": 1000, "raw": b"\xff", "price": b"\x04\xd2"}
PLAIN = {"id": "o1", "at": "1970-01-01T00:00:01Z", "raw": "/w==", "price": "12.34"}


def record(value, key=None, headers=(), partition=2, offset=17):
    return Record("orders", partition, offset, 1_000, key, value, tuple(headers))


def bare(value=VALUE, schema=ORDER):
    out = io.BytesIO()
    given = {**value, "at": value["at"]} if "at" in value else value
    if "price" in given:
        from decimal import Decimal

        given = {**given, "price": Decimal("12.34")}
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), given)
    return out.getvalue()


def framed(number, value=VALUE, schema=ORDER):
    return b"\0" + number.to_bytes(4, "big") + bare(value, schema)


async def refused(reading, given):
    with pytest.raises(EventError) as caught:
        await reading.event(given)
    return caught.value.code


# -- ids ------------------------------------------------------------------------------------


async def test_without_an_id_the_place_of_the_record_is_it():
    """protocol.md K3: given, else derived from (source, id); a second reading gives the same."""
    reading = Reading(SourceTopic("orders", "json"))

    event = await reading.event(record(b'{"n": 1}'))

    assert (event.id, event.source) == ("2-17", "/topics/orders")
    assert job_of(event) == submission_job_id("/topics/orders", "2-17")
    assert await reading.event(record(b'{"n": 1}')) == event


@pytest.mark.parametrize(
    ("id", "job"),
    [
        ("${{ data.id }}", "7"),
        ("order-${{ data.id }}", "order-7"),
        ("${{ key }}", "k"),
        ("${{ headers.region }}-${{ data.id }}", "eu-7"),
    ],
)
async def test_an_id_is_read_from_the_record(id, job):
    """`${{ key }}`, `${{ headers.x }}`, `${{ data.x }}`."""
    reading = Reading(SourceTopic("orders", "json", id))
    headers = [("region", b"us"), ("region", b"eu"), ("none", None)]

    assert job_of(await reading.event(record(b'{"id": 7}', b"k", headers))) == job


@pytest.mark.parametrize(
    ("id", "value"),
    [
        ("${{ data.missing }}", b'{"id": 7}'),
        ("${{ data.id }}", b'{"id": null}'),
        ("${{ data.id }}", b'{"id": ""}'),
        ("${{ data.id }}", b'{"id": true}'),
        ("${{ data.id }}", b'{"id": 1.5}'),
        ("${{ data.id }}", b'{"id": [1]}'),
        ("${{ data.id }}", b"[1]"),
        ("${{ key }}", b"{}"),
    ],
)
async def test_a_record_without_the_id_is_refused_and_none_is_invented(id, value):
    """E1: an invented id would make a new job of each repeat."""
    assert await refused(Reading(SourceTopic("orders", "json", id)), record(value)) == "V064"


# -- JSON -----------------------------------------------------------------------------------


async def test_json_stays_as_it_was_written():
    """Numbers that no float holds, and the order of keys."""
    value = b'{"n": 12345678901234567890.123, "a": 1}'

    event = await Reading(SourceTopic("orders", "json")).event(record(value))

    assert event.data == value
    assert event.datacontenttype == "application/json"


@pytest.mark.parametrize("value", [b"{", b"", b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000, b"NaN"])
async def test_what_is_no_strict_json_is_refused(value):
    """E7: two readers might understand it differently."""
    code = await refused(Reading(SourceTopic("orders", "json")), record(value))

    assert code.startswith("V0")


async def test_a_tombstone_is_skipped_or_submitted_as_declared():
    """`deletes: skip|submit`."""
    skipping = Reading(SourceTopic("orders", "json"))
    submitting = Reading(SourceTopic("orders", "json", "${{ key }}", deletes="submit"))

    assert await skipping.event(record(None, b"k")) is None
    event = await submitting.event(record(None, b"k"))
    assert (event.data, job_of(event)) == (b"null", "k")


async def test_the_trace_of_a_record_goes_on():
    """CE-10: per-hop context stands in plain headers."""
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    event = await Reading(SourceTopic("o", "json")).event(
        record(b"{}", headers=[("traceparent", trace), ("tracestate", b"\xff")])
    )

    assert event.extensions["traceparent"] == trace.decode()


# -- CloudEvents ----------------------------------------------------------------------------

BINARY = [("ce_id", b"e1"), ("ce_source", b"/s"), ("ce_type", b"t.v1"), ("ce_specversion", b"1.0")]


async def test_an_event_is_submitted_as_it_is_in_either_mode():
    """KB-1; its id and source are its own."""
    reading = Reading(SourceTopic("orders"))
    body = {"id": "e1", "source": "/s", "type": "t.v1", "specversion": "1.0", "data": {"n": 1}}
    structured = json.dumps(body).encode()

    first = await reading.event(
        record(b'{"n":1}', headers=[*BINARY, ("content-type", b"application/json")])
    )
    second = await reading.event(
        record(structured, headers=[("content-type", b"application/cloudevents+json")])
    )

    assert job_of(first) == job_of(second) == submission_job_id("/s", "e1")
    assert first.value() == second.value() == {"n": 1}


async def test_an_event_s_attributes_are_there_for_the_id_and_forged_ones_are_gone():
    """E11: what only the engine may say is taken off."""
    reading = Reading(SourceTopic("orders", id="${{ event.subject }}.${{ data.n }}"))
    headers = [
        *BINARY,
        ("ce_subject", b"s1"),
        ("ce_epoch", b"9"),
        ("content-type", b"application/json"),
    ]

    event = await reading.event(record(b'{"n": 1}', headers=headers))

    assert job_of(event) == "s1.1"
    assert event.extensions == {"job": "s1.1"}


async def test_a_record_that_is_no_event_or_a_signal_is_refused():
    """KB-7; and who may write to the topic must not act on jobs."""
    reading = Reading(SourceTopic("orders"))
    signal = [("ce_type", b"interlock.signal.v1") if n == "ce_type" else (n, v) for n, v in BINARY]

    assert await refused(reading, record(b"{}")) == "V020"
    assert await refused(reading, record(b"{}", headers=signal)) == "V065"
    assert await reading.event(record(None)) is None
    submitting = Reading(SourceTopic("orders", deletes="submit"))
    assert await refused(submitting, record(None)) == "V020"


# -- Debezium -------------------------------------------------------------------------------


def change(op, before, after, **more):
    return json.dumps({"op": op, "before": before, "after": after, "ts_ms": 5, **more}).encode()


@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "with its schema"])
async def test_a_change_is_submitted_whole(wrap):
    """op, before, after; with or without the schema that the JSON converter sends along."""
    value, key = change("u", {"id": 1}, {"id": 1, "n": 2}, source={"table": "t"}), b'{"id": 1}'
    if wrap:
        value = b'{"schema": {}, "payload": %s}' % value
        key = b'{"schema": {}, "payload": %s}' % key
    reading = Reading(SourceTopic("orders", "debezium", "${{ key.id }}-${{ data.op }}"))

    event = await reading.event(record(value, key))

    assert job_of(event) == "1-u"
    assert event.value() == {
        "op": "u",
        "before": {"id": 1},
        "after": {"id": 1, "n": 2},
        "source": {"table": "t"},
        "ts_ms": 5,
    }


async def test_deletes_and_their_tombstones_follow_the_policy():
    """`d` and the null behind it are one thing to a table."""
    skipping = Reading(SourceTopic("orders", "debezium"))
    submitting = Reading(SourceTopic("orders", "debezium", deletes="submit"))
    deleted = record(change("d", {"id": 1}, None))

    assert await skipping.event(deleted) is None
    assert await skipping.event(record(None)) is None
    assert (await submitting.event(deleted)).value()["before"] == {"id": 1}
    tombstone = await submitting.event(record(None))
    assert tombstone.value() == {"op": "d", "before": None, "after": None}


@pytest.mark.parametrize(
    "value", [b"{}", b"[]", b"1", b'{"op": "z"}', b'{"op": ["c"]}', b'{"op": "c"}', b'{"op": "d"}']
)
async def test_what_is_no_change_is_refused(value):
    """A flattened row is not guessed at."""
    assert await refused(Reading(SourceTopic("orders", "debezium")), record(value)) == "V063"


# -- Avro -----------------------------------------------------------------------------------


async def test_avro_by_a_file_is_read_bare_and_framed():
    """No registry is asked; times, decimals and bytes become what JSON has."""
    reading = Reading(SourceTopic("orders", "avro", "${{ data.id }}", schema=ORDER))

    for value in (bare(), framed(7)):
        event = await reading.event(record(value))
        assert (event.value(), job_of(event)) == (PLAIN, "o1")


@pytest.mark.parametrize(
    "value", [b"", b"\0", b"\0\0\0\0\7", bare() + b"x", bare()[:-1], b"\xff" * 20]
)
async def test_bytes_that_do_not_fit_the_schema_are_refused(value):
    """To the last byte; whatever the reader makes of hostile ones."""
    assert await refused(Reading(SourceTopic("o", "avro", schema=ORDER)), record(value)) == "V061"


async def test_what_could_be_read_in_two_ways_is_not_guessed_at():
    """Bare and framed both fit: nobody knows which was meant."""
    fields = [{"name": "a", "type": "int"}, {"name": "b", "type": "bytes"}]
    reader = AvroReader(schema={"type": "record", "name": "R", "fields": fields})

    assert await reader.read(b"\x02\x00") == {"a": 1, "b": b""}
    with pytest.raises(EventError, match="with and without"):
        await reader.read(b"\x00\x0a\x00\x00\x00\x02\x00")


def test_a_schema_that_is_none_is_refused_before_anything_is_read():
    """When the worker starts."""
    with pytest.raises(UserError):
        Reading(SourceTopic("o", "avro", schema={"type": "nothing"}))


class _Registry(http.server.BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, object]] = {}
    asked: list[str] = []

    def do_GET(self):
        type(self).asked.append(self.path)
        status, body = self.answers.get(self.path, (404, {"error_code": 40403}))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def registry():
    """(address, answers by path, paths asked for)."""
    _Registry.answers, _Registry.asked = {}, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", _Registry.answers, _Registry.asked
    server.shutdown()
    server.server_close()


async def test_schemas_are_asked_for_once_by_their_number(registry):
    """A number never changes its meaning."""
    url, answers, asked = registry
    answers["/schemas/ids/7"] = (200, {"schema": json.dumps(ORDER)})
    reading = Reading(SourceTopic("orders", "avro", registry=url), SchemaRegistry(url))

    for _ in range(3):
        assert (await reading.event(record(framed(7)))).value() == PLAIN
    await reading.close()

    assert asked == ["/schemas/ids/7"]


async def test_what_a_schema_names_of_others_is_asked_for_too(registry):
    """Schema references, one inside the other."""
    url, answers, _ = registry
    money = {"type": "record", "name": "Money", "fields": [{"name": "n", "type": "int"}]}
    line = {"type": "record", "name": "Line", "fields": [{"name": "price", "type": "Money"}]}
    order = {"type": "record", "name": "Order", "fields": [{"name": "line", "type": "Line"}]}
    of_money = {"name": "Money", "subject": "money/x", "version": 1}
    of_line = {"name": "Line", "subject": "line", "version": 2}
    answers["/schemas/ids/9"] = (200, {"schema": json.dumps(order), "references": [of_line]})
    answers["/subjects/line/versions/2"] = (
        200,
        {"schema": json.dumps(line), "references": [of_money]},
    )
    answers["/subjects/money%2Fx/versions/1"] = (200, {"schema": json.dumps(money)})
    reading = Reading(SourceTopic("orders", "avro", registry=url), SchemaRegistry(url))

    event = await reading.event(record(b"\0\0\0\0\x09\x0a"))
    await reading.close()

    assert event.value() == {"line": {"price": {"n": 5}}}


async def test_debezium_in_avro_has_its_key_in_avro_too(registry):
    """The usual connector with the usual converter."""
    url, answers, _ = registry
    row = {"type": "record", "name": "Row", "fields": [{"name": "id", "type": "int"}]}
    envelope = {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "op", "type": "string"},
            {"name": "before", "type": ["null", row]},
            {"name": "after", "type": ["null", "Row"]},
        ],
    }
    answers["/schemas/ids/1"] = (200, {"schema": json.dumps(row)})
    answers["/schemas/ids/2"] = (200, {"schema": json.dumps(envelope)})
    source = SourceTopic("orders", "debezium", "${{ key.id }}", registry=url)
    reading = Reading(source, SchemaRegistry(url))
    value = {"op": "c", "before": None, "after": {"id": 4}}

    event = await reading.event(record(framed(2, value, envelope), framed(1, {"id": 4}, row)))
    await reading.close()

    assert (job_of(event), event.value()) == ("4", value)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((404, {}), "V062"),
        ((200, {"schema": "syntax", "schemaType": "PROTOBUF"}), "V062"),
        ((200, {"schema": '{"type": "nothing"}'}), "V061"),
    ],
    ids=["unknown", "another kind", "no schema"],
)
async def test_a_number_without_a_schema_is_the_record_s_fault(registry, answer, code):
    """It would never get better."""
    url, answers, _ = registry
    answers["/schemas/ids/7"] = answer
    reading = Reading(SourceTopic("orders", "avro", registry=url), SchemaRegistry(url))

    assert await refused(reading, record(framed(7))) == code
    assert await refused(reading, record(bare())) == "V061"
    await reading.close()


@pytest.mark.parametrize("answer", [(500, {}), (401, {}), (200, "what?")])
async def test_a_registry_in_trouble_is_not_the_record_s_fault(registry, answer):
    """Nothing becomes a dead letter for it."""
    url, answers, _ = registry
    answers["/schemas/ids/7"] = answer
    reading = Reading(SourceTopic("orders", "avro", registry=url), SchemaRegistry(url))

    with pytest.raises(RegistryAway):
        await reading.event(record(framed(7)))
    await reading.close()


async def test_a_registry_that_is_not_there_is_not_the_record_s_fault():
    """Port 1 answers nobody."""
    reading = Reading(
        SourceTopic("o", "avro", registry="http://127.0.0.1:1"),
        SchemaRegistry("http://127.0.0.1:1"),
    )

    with pytest.raises(RegistryAway):
        await reading.event(record(framed(7)))
    await reading.close()


async def test_values_are_written_by_the_newest_schema_of_the_topic(registry):
    """`streams publish` to a topic that a source reads through a registry."""
    url, answers, _ = registry
    newest = {"id": 7, "schema": '"string"'}
    answers["/subjects/orders-value/versions/latest"] = (200, newest)
    answers["/schemas/ids/7"] = (200, {"schema": '"string"'})
    source = SourceTopic("orders", "avro", registry=url)

    (written,) = await foreign_records(source, ["ab"])
    reading = Reading(source, SchemaRegistry(url))
    found = await reading.value(record(written.value))
    await reading.close()

    assert (written.value, found) == (b"\0\0\0\0\7\x04ab", "ab")


async def test_a_schema_named_by_its_guid_in_a_header_is_asked_for_by_it(registry):
    """Newer senders: the value stands bare, and so may be a CloudEvent's (conventions, finding 5)."""
    url, answers, asked = registry
    guid = "4f1ad38e-5a1a-4b2e-9c37-0d6c5b7a9e10"
    answers[f"/schemas/guids/{guid}"] = (200, {"schema": json.dumps(ORDER)})
    raw = b"\1" + uuid.UUID(guid).bytes
    reading = Reading(SourceTopic("orders", "avro", registry=url), SchemaRegistry(url))
    headers = [("__value_schema_id", b"broken"), ("__value_schema_id", raw)]

    event = await reading.event(record(bare(), headers=headers))
    again = await reading.event(record(bare(), headers=headers))
    await reading.close()

    assert event.value() == again.value() == PLAIN
    assert asked == [f"/schemas/guids/{guid}"]
