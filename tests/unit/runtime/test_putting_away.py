"""What comes from outside and is too large to travel lies in the blob store before a job is made."""

import json

import msgspec
import pytest

from streams.blobs import BlobStore
from streams.broker.port import Outgoing
from streams.clock import SystemClock
from streams.codec import kafka
from streams.engine.messages import SIGNAL, SUBMIT
from streams.engine.rows import decode_input
from streams.event import Event, fingerprint
from streams.runtime.putting_away import put_away
from tests.unit.runtime.rig import NAMING, Rig, running

LARGE = {"text": "x" * 100_000}


def event(value, type="com.example.made.v1", **more):
    return Event.make(id="e", source="/s", type=type, value=value, **more)


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(str(tmp_path))


async def test_small_data_and_signals_stay_as_they_are(blobs):
    """Nearly all events."""
    small, signal = event({"n": 1}), event(LARGE, SIGNAL)

    assert await put_away(small, blobs, "n/p/j") is small
    assert await put_away(signal, blobs, "n/p/j") is signal


async def test_large_data_becomes_a_reference_and_a_repeat_the_same_one(blobs):
    """So a re-send is still seen as one, and another body as another (E12)."""
    once = await put_away(event(LARGE), blobs, "n/p/j")
    again = await put_away(event(LARGE), blobs, "n/p/j")
    other = await put_away(event({"text": "y" * 100_000}), blobs, "n/p/j")

    assert once == again
    assert len(once.data) < 500
    assert fingerprint(once) == fingerprint(again) != fingerprint(other)


async def test_text_and_bytes_are_put_away_as_the_json_that_stages_see(blobs):
    """Whatever the content type was."""
    text = await put_away(event("t" * 60_000, datacontenttype="text/plain"), blobs, "n/p/j")

    assert text.datacontenttype == "application/json"
    reference = msgspec.json.decode(text.data)["$blob"]
    assert reference["size"] == 60_002


async def test_of_a_submission_only_the_data_goes(blobs):
    """Its parameters are small by their own rule; what is no submission is left to be refused."""
    body = {"params": {"n": 1}, "data": LARGE}
    small = await put_away(event(body, SUBMIT), blobs, "n/p/j")
    broken = event(json.dumps({"params": ["x" * 60_000]}).encode(), SUBMIT)

    assert msgspec.json.decode(small.data)["params"] == {"n": 1}
    assert list(msgspec.json.decode(small.data)["data"]) == ["$blob"]
    assert await put_away(broken, blobs, "n/p/j") is broken


async def test_a_stranger_s_large_event_becomes_a_job_with_its_data_and_parameters(tmp_path):
    """Row 21: at the limit of the log, its rows and events stay far below."""
    topology = "params: {size: integer}\nstages:\n  - {name: one, type: t}\n"
    seen = []

    async def t(ctx):
        seen.append((ctx.snapshot.params, len(ctx.snapshot.data["text"])))

    rig = Rig(tmp_path, topology, stages={"t": t}, clock=SystemClock())
    async with running(rig):
        value, headers = kafka.encode(event({**LARGE, "size": 3}, extensions={"job": "j"}))
        await rig.log.publish([Outgoing(NAMING.intake, b"k", value, headers)])
        await rig.view_when("j", "succeeded")

        assert len((await rig.rows("j"))["@input"]) < 1_000
        assert decode_input((await rig.rows("j"))["@input"]).params == {"size": 3}
        assert all(len(r.value) < 5_000 for r in await rig.records(NAMING.stage("one")))


async def test_parameters_as_large_as_a_record_are_refused(tmp_path):
    """They would travel with every event, which could not be written then."""
    topology = "stages:\n  - {name: one, type: t}\n"
    rig = Rig(tmp_path, topology, stages={"t": lambda ctx: None})
    async with running(rig):
        body = {"params": {"p": "x" * 60_000}}
        value, headers = kafka.encode(event(body, SUBMIT, extensions={"job": "j"}))
        await rig.log.publish([Outgoing(NAMING.intake, b"k", value, headers)])

        async def dead():
            return await rig.dead()

        assert await rig.until(dead) == ["V050"]
