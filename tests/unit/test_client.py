"""What a client says stands in the intake as agreed, and what it shows is what the log holds."""

import asyncio

import msgspec
import pytest

from streams.blobs import BlobStore
from streams.client import Client, Filter, Submission
from streams.codec import kafka
from streams.engine.messages import SignalData
from streams.engine.rows import FactRow, JobRow
from streams.errors import NotFoundError, UserError
from streams.event import Event, submission_job_id
from tests.unit.cli.scene import PLAN, SECOND, START, Scene


@pytest.fixture
async def scene():
    made = await Scene.open()
    yield made
    await made.log.close()


@pytest.fixture
async def info(scene):
    return await scene.client.pipeline("demo")


async def intake(scene):
    return [r async for r in scene.client.tail([scene.naming.intake], "beginning", follow=False)]


class TestSubmitting:
    async def test_a_submission_is_an_event_keyed_by_its_job(self, scene, info):
        """Partition by key, so that what is said to one job keeps its order."""
        job = await scene.client.submit(
            info, Submission({"title": "Salt"}, {"page": 1}, id="doc-1", deadline=START + SECOND)
        )

        (record,) = await intake(scene)
        event = kafka.decode(record.value, record.headers)
        assert (job, record.key) == ("doc-1", b"doc-1")
        assert (event.type, event.source) == ("interlock.job.submit.v1", "/streams/cli")
        assert event.extensions["job"] == "doc-1"
        assert msgspec.json.decode(event.data) == {
            "params": {"title": "Salt"},
            "data": {"page": 1},
            "deadline": START + SECOND,
        }

    async def test_without_an_id_the_job_gets_the_one_the_keeper_will_derive(self, scene, info):
        """CE-2: (source, id) is the dedupe key, so the id can be printed before anyone acts."""
        job = await scene.client.submit(info, Submission())

        (record,) = await intake(scene)
        event = kafka.decode(record.value, record.headers)
        assert job == submission_job_id(event.source, event.id)
        assert "job" not in event.extensions

    async def test_many_are_sent_in_order_and_each_has_its_id(self, scene, info):
        wanted = [Submission(id=f"doc-{n}") for n in range(1201)]

        sent = [job async for job in scene.client.submit_many(info, wanted)]

        assert sent == [f"doc-{n}" for n in range(1201)]
        assert len(await intake(scene)) == 1201

    async def test_data_over_48_kib_goes_to_the_blob_store(self, scene, info, tmp_path):
        """CE-7: never in the log itself."""
        client = Client(scene.log, "default", blobs=BlobStore(str(tmp_path)), clock=scene.clock)

        await client.submit(info, Submission(data="x" * 50_000, id="doc-1"))

        (record,) = await intake(scene)
        blob = msgspec.json.decode(record.value)["data"]["$blob"]
        assert (blob["size"], blob["type"]) == (50_002, "application/json")
        assert "/default/demo/doc-1/" in blob["url"]
        assert len(record.value) < 1000

    async def test_a_file_travels_by_reference_with_its_type(self, scene, info, tmp_path):
        paper = tmp_path / "paper.pdf"
        paper.write_bytes(b"%PDF-1.7 " + b"x" * 100)
        client = Client(scene.log, "default", blobs=BlobStore(str(tmp_path)), clock=scene.clock)

        await client.submit(
            info, Submission(file=paper, content_type="application/pdf", id="doc-1")
        )

        (record,) = await intake(scene)
        blob = msgspec.json.decode(record.value)["data"]["$blob"]
        assert (blob["size"], blob["type"]) == (109, "application/pdf")

    async def test_large_data_without_a_blob_store_is_refused(self, scene, info):
        with pytest.raises(UserError, match="no blob store") as refused:
            await scene.client.submit(info, Submission(data="x" * 50_000))
        assert refused.value.code == "C104"

    async def test_large_parameters_are_refused(self, scene, info):
        """They would travel with every event."""
        with pytest.raises(UserError) as refused:
            await scene.client.submit(info, Submission({"text": "x" * 50_000}))
        assert refused.value.code == "C103"

    @pytest.mark.parametrize("job", ["a b", "a/b", "x" * 129, "ä", "a|b"])
    async def test_an_id_that_cannot_be_a_key_is_refused(self, scene, info, job):
        """P1, P2: ids become keys and parts of file names."""
        with pytest.raises(UserError) as refused:
            await scene.client.submit(info, Submission(id=job))
        assert refused.value.code == "C102"

    async def test_ones_own_event_is_sent_as_it_is(self, scene, info):
        """A re-send of the same event is the same job, whoever sends it."""
        own = Event.make(id="e1", source="/shop", type="com.acme.order.v1", value={"n": 1})

        job = await scene.client.submit_event(info, own)

        (record,) = await intake(scene)
        assert kafka.decode(record.value, record.headers) == own
        assert job == submission_job_id("/shop", "e1")
        assert record.key == job.encode()


class TestSignals:
    async def test_a_jobs_signal_is_keyed_by_the_job(self, scene, info):
        await scene.client.signal(info, SignalData("release", gate="review", by="ann"), "doc-1")

        (record,) = await intake(scene)
        event = kafka.decode(record.value, record.headers)
        assert (record.key, event.type) == (b"doc-1", "interlock.signal.v1")
        assert event.extensions["job"] == "doc-1"
        assert msgspec.json.decode(event.data) == {"kind": "release", "gate": "review", "by": "ann"}

    @pytest.mark.parametrize(
        ("signal", "key"),
        [
            (SignalData("fact", {"open": True}, everywhere=True), b"@global/open"),
            (SignalData("pause"), b"@pause/*"),
            (SignalData("resume", stage="fetch"), b"@pause/fetch"),
        ],
    )
    async def test_what_is_for_all_jobs_is_keyed_by_what_it_changes(self, scene, info, signal, key):
        """K3: the partition of the state it belongs to takes it."""
        await scene.client.signal(info, signal)

        (record,) = await intake(scene)
        assert record.key == key
        assert "ce_job" not in dict(record.headers)


class TestFinding:
    async def test_a_job_is_found_by_its_id_or_a_prefix_of_its_own(self, scene):
        await scene.job("doc-1")
        await scene.job("doc-20")

        assert (await scene.client.job("doc-20")).id == "doc-20"
        assert (await scene.client.job("doc-2")).id == "doc-20"

    async def test_a_whole_id_wins_over_longer_ones_that_begin_so(self, scene):
        await scene.job("doc-1")
        await scene.job("doc-11")

        assert (await scene.client.job("doc-1")).id == "doc-1"

    async def test_a_prefix_of_several_jobs_is_refused_with_their_names(self, scene):
        await scene.job("doc-1")
        await scene.job("doc-2")

        with pytest.raises(UserError, match="fits 2 jobs") as refused:
            await scene.client.job("doc")
        assert refused.value.code == "C101"

    async def test_a_submission_that_nobody_took_up_shows_as_queued(self, scene, info):
        await scene.client.submit(info, Submission({"title": "Salt"}, id="doc-1"))

        found = await scene.client.find("doc-1")

        assert found.untaken
        assert (found.view.status, found.view.params) == ("queued", {"title": "Salt"})

    async def test_an_unknown_job_is_not_found(self, scene):
        with pytest.raises(NotFoundError, match="no job `nope` here"):
            await scene.client.job("nope")

    async def test_an_unknown_pipeline_names_the_one_that_looks_alike(self, scene):
        with pytest.raises(NotFoundError) as missing:
            await scene.client.pipeline("dmeo")
        assert missing.value.help == "did you mean `demo`?"

    async def test_a_late_older_row_does_not_turn_the_view_back(self, scene):
        """The order (epoch, turn, phase, n) never falls, whatever order records came in."""
        await scene.job("doc-1", s="FAILED", ph=2, n=3, completed=START)
        late = JobRow("RUNNING", plan=PLAN.digest, root="doc-1", n=2)
        await scene.row("doc-1", "@job", late)

        assert (await scene.client.job("doc-1")).status == "failed"


class TestListing:
    async def test_jobs_are_listed_newest_first_and_filtered(self, scene):
        await scene.waiting_at_gate("doc-1")
        await scene.failed("doc-2")
        await scene.job("doc-3", created=START + SECOND)

        jobs = scene.client.jobs
        assert [view.id for view in await jobs()] == ["doc-3", "doc-2", "doc-1"]
        assert [view.id for view in await jobs(Filter(status="failed"))] == ["doc-2"]
        assert [view.id for view in await jobs(Filter(stage="review"))] == ["doc-1"]
        assert [view.id for view in await jobs(Filter(limit=1))] == ["doc-3"]

    async def test_purged_jobs_are_gone(self, scene):
        await scene.job("doc-1")
        for part in ("@job", "@input"):
            await scene.row("doc-1", part, None)

        assert await scene.client.jobs() == []

    async def test_jobs_that_wait_are_found_with_the_clause_they_wait_for(self, scene):
        await scene.waiting_at_gate("doc-1")
        await scene.job("doc-2")

        (job,) = await scene.client.waiting()

        assert [wait.gate for wait in job.waits()] == ["review"]


class TestHistory:
    async def test_attempts_and_facts_and_the_end_are_told_in_order(self, scene):
        await scene.failed("doc-1")
        await scene.row("doc-1", "@fact/reviewed", FactRow(True, START + SECOND // 2, "ann"))

        told = [
            (h.at - START, h.stage, h.status, h.attempt)
            for h in await scene.client.history("doc-1")
        ]

        assert told == [
            (0, "job", "submitted", 0),
            (500, "fact reviewed", "set", 0),
            (1000, "fetch", "succeeded", 1),
            (1040, "summarise", "failed", 1),
            (2040, "summarise", "failed", 2),
            (3040, "summarise", "failed", 3),
            (5000, "job", "failed", 1),
        ]


class TestFollowing:
    async def test_a_watch_gives_the_present_then_each_change_until_the_end(self, scene, info):
        await scene.waiting_at_gate("doc-1")
        seen = []

        async def watch():
            async for view in scene.client.watch(info, ["doc-1"]):
                seen.append(view.status)
                if view.status == "waiting":
                    await scene.failed("doc-1")

        await asyncio.wait_for(watch(), 10)

        assert (seen[0], seen[-1]) == ("waiting", "failed")

    async def test_changes_after_the_call_are_followed_and_none_before(self, scene):
        await scene.job("doc-1")
        changes = await scene.client.follow(["demo"])
        await scene.done("doc-2", "fetch", "summarise")

        first = await asyncio.wait_for(anext(changes), 10)
        await changes.aclose()

        assert (first.pipeline, first.job, first.part) == ("demo", "doc-2", "fetch")


class TestDeadLetters:
    async def test_a_letter_tells_its_cause_and_keeps_its_bytes(self, scene):
        """KT-5: the original key, value and headers unchanged."""
        await scene.dead_letter("doc-9")

        (letter,) = await scene.client.dead_letters()

        assert (letter.reason, letter.stage, letter.job) == ("stage-failed", "summarise", "doc-9")
        assert (letter.key, letter.value) == (b"doc-9", b"\x00raw")
        assert letter.headers == (("ce_id", b"e1"), ("x-own", b"kept"))
        assert (letter.topic, letter.partition, letter.offset) == (
            "default.demo.summarise",
            0,
            7,
        )

    async def test_redriving_a_jobs_letters_is_one_retry_of_the_job(self, scene, info):
        """Two stages of one job failed: a retry restarts both, a second one would be refused."""
        await scene.job("doc-9")
        await scene.dead_letter("doc-9", "fetch")
        await scene.dead_letter("doc-9", "summarise")

        await scene.client.redrive(info, await scene.client.dead_letters(), by="ann")

        (record,) = await intake(scene)
        assert msgspec.json.decode(record.value) == {
            "kind": "retry",
            "epoch": 1,
            "reason": "redrive",
            "by": "ann",
        }

    async def test_redriving_a_submission_sends_the_same_bytes_again_with_a_mark(self, scene, info):
        """CE-2: the mark lets it past the dedupe; G11: its id stays."""
        await scene.dead_letter("doc-9", stage="")

        await scene.client.redrive(info, await scene.client.dead_letters(), by="ann")

        (record,) = await intake(scene)
        assert (record.key, record.value) == (b"doc-9", b"\x00raw")
        assert record.headers == (
            ("ce_id", b"e1"),
            ("x-own", b"kept"),
            ("streams-redrive", b"0-0"),
        )
        (letter,) = await scene.client.dead_letters()
        assert (letter.state, letter.redriven) == ("redriven", 1)

    async def test_a_letter_is_settled_once_its_job_ran_again(self, scene):
        await scene.job("doc-9", e=2)
        await scene.dead_letter("doc-9")

        (letter,) = await scene.client.dead_letters()

        assert letter.state == "redriven"

    async def test_a_discarded_submission_is_settled_by_a_shared_fact(self, scene, info):
        await scene.dead_letter("doc-9", stage="")
        await scene.client.discard(info, await scene.client.dead_letters(), by="ann")

        (record,) = await intake(scene)
        assert record.key == b"@global/dlq-discarded-0-0"
        await scene.control("fact/dlq-discarded-0-0", {"value": True, "at": START, "by": "ann"})
        (letter,) = await scene.client.dead_letters()
        assert letter.state == "discarded"
