"""What tells that a record was handled, one trace at a time: any one of them is enough."""

import msgspec
import pytest

from streams.broker.local import LocalLog
from streams.broker.port import Outgoing, TopicPartition, TopicSpec
from streams.clock import ManualClock
from streams.codec import kafka
from streams.engine import rows
from streams.engine.messages import ARRIVE, DEAD, RETRY, SIGNAL, SUBMIT, Origin, make, stage_event
from streams.engine.payload import Payload
from streams.engine.rows import JobRow, Row
from streams.event import Event
from streams.inspection.finished import Finished
from streams.inspection.scan import scan
from streams.runtime.commit import written
from streams.runtime.outlook import read_control
from streams.topology.plan import Naming, Part, Plan

NAMING = Naming("t", "p")
PLAN = Plan("p", "1", (Part("a", "stage", "a"), Part("b", "stage", "b", pool="gpu")))
POOL = NAMING.pool_group("default")


class Evidence:
    """A pipeline's topics, written by hand: the job `j` runs."""

    def __init__(self):
        self.clock = ManualClock()
        self.log = LocalLog.open(None, clock=self.clock)

    async def set_up(self):
        own = (NAMING.intake, NAMING.hold, NAMING.done, NAMING.dead)
        stages = (NAMING.stage("a"), NAMING.stage("b"))
        await self.log.create_topics([TopicSpec(name, 1) for name in (*own, *stages)])
        tables = (NAMING.ledger, NAMING.control)
        await self.log.create_topics([TopicSpec(name, 1, "compact") for name in tables])
        await self.put(NAMING.control, f"plan/{PLAN.digest}", PLAN.encoded)
        await self.put(NAMING.control, f"begun/{NAMING.keeper_group}/x/0", b'{"offset":0}')
        await self.row("@job", JobRow("RUNNING", phase=1, plan=PLAN.digest, root="j"))

    async def put(self, topic, key, value, headers=()):
        await self.log.publish([Outgoing(topic, key.encode(), value, headers, 0)])

    async def row(self, part, row):
        await self.put(NAMING.ledger, f"j|{part}", rows.encode(row))

    async def input(self, part="a", *, epoch=1, turn=1, root="j"):
        """An event to a stage."""
        origin = Origin("j", root, epoch, PLAN.digest)
        value, headers = written(stage_event(PLAN, origin, part, "x", Payload(), 0, turn=turn))
        await self.put(NAMING.stage(part), "j", value, headers)

    async def held(self, kind, *, epoch=1, turn=1, via="up", part="a"):
        """An engine's event in the hold topic."""
        origin = Origin("j", "j", epoch, PLAN.digest)
        event = make(kind, PLAN, origin, part, f"x{turn}", b"{}", 0, turn=turn, source=via, via=via)
        value, headers = kafka.encode(event)
        await self.put(NAMING.hold, "j", value, headers)

    async def said(self, topic, what, id, job="", **body):
        """Something from outside."""
        event = Event(id=id, source="/test", type=what, data=msgspec.json.encode(body),
                      datacontenttype="application/json",
                      extensions={"job": job} if job else {})  # fmt: skip
        value, headers = kafka.encode(event)
        await self.put(topic, id, value, headers)

    async def first(self, topic, group=POOL):
        """What is said of the first record of a topic."""
        table = await read_control(self.log, NAMING)
        finished = Finished(NAMING, table, 1)
        await finished.learn(self.log)
        records = [record async for record in scan(self.log, [TopicPartition(topic, 0)])]
        if topic in (NAMING.hold, NAMING.intake):
            return finished.of_keeper(records[0])
        return finished.of_stage(records[0], group)


@pytest.fixture
async def seen():
    made = Evidence()
    await made.set_up()
    yield made
    await made.log.close()


def an_end(status="SUCCESS", **more):
    return Row(status, plan=PLAN.digest, root="j", **more)


A = NAMING.stage("a")


class TestStages:
    async def test_without_a_trace_an_event_is_not_finished(self, seen):
        await seen.input()

        assert await seen.first(A) is False

    @pytest.mark.parametrize(
        ("row", "finished"),
        [
            (an_end(), True),
            (an_end("RETRYING"), True),
            (an_end(epoch=2), True),
            (an_end("RUNNING", phase=1), False),
        ],
    )
    async def test_a_row_of_its_turn_or_a_later_one_has_ended(self, seen, row, finished):
        """R5: order >= (epoch, turn, 2)."""
        await seen.input()
        await seen.row("a", row)

        assert await seen.first(A) is finished

    async def test_a_row_of_an_earlier_turn_says_nothing(self, seen):
        await seen.input(turn=2)
        await seen.row("a", an_end("RETRYING"))

        assert await seen.first(A) is False

    async def test_the_keeper_has_it_to_offer_it_again(self, seen):
        """Parked, not due yet."""
        await seen.input()
        await seen.row("a~", an_end("WAITING", phase=0, turn=2, n=1))

        assert await seen.first(A) is True

    async def test_it_is_on_its_way_to_the_keeper(self, seen):
        """Parked without a row: a plan that the worker had not read."""
        await seen.input()
        await seen.held(RETRY)

        assert await seen.first(A) is True

    async def test_it_was_offered_again_already(self, seen):
        """The companion is gone by then."""
        await seen.input()
        await seen.input(turn=2)

        assert await seen.first(A) is True

    async def test_a_stage_of_another_pool_is_passed_over(self, seen):
        """Both pools read the topic while it moves."""
        await seen.input("b")

        assert await seen.first(NAMING.stage("b")) is True
        assert await seen.first(NAMING.stage("b"), NAMING.pool_group("gpu")) is False

    async def test_a_stopped_job_s_events_are_dropped(self, seen):
        await seen.input()
        await seen.put(NAMING.control, "stop/j", b'{"below":2,"at":0}')

        assert await seen.first(A) is True

    async def test_an_event_of_a_job_that_is_gone_is_over(self, seen):
        """Purged or erased."""
        await seen.input(root="purged")

        assert await seen.first(A) is True

    async def test_where_no_keeper_looks_after_jobs_none_has_a_job_row(self, seen):
        """Events were fed to the first stage itself."""
        await seen.input(root="fed")
        await seen.put(NAMING.control, f"begun/{NAMING.keeper_group}/x/0", None)

        assert await seen.first(A) is False


class TestHold:
    async def test_without_a_trace_nothing_was_decided(self, seen):
        for kind in (ARRIVE, RETRY, DEAD):
            await seen.held(kind, turn=len(kind))

            assert await seen.first(NAMING.hold) is False
            await seen.log.trim({TopicPartition(NAMING.hold, 0): 99})

    @pytest.mark.parametrize(
        ("kind", "part", "row"),
        [
            (ARRIVE, "a", an_end("WAITING", phase=0)),
            (ARRIVE, "a~up", an_end("WAITING", phase=0)),
            (RETRY, "a~", an_end("WAITING", phase=0, turn=2, n=1)),
            (RETRY, "a", an_end(turn=2)),
            (DEAD, "a~dead", an_end("WAITING", phase=0)),
        ],
    )
    async def test_the_row_that_follows_is_there(self, seen, kind, part, row):
        await seen.held(kind)
        await seen.row(part, row)

        assert await seen.first(NAMING.hold) is True

    async def test_rows_of_an_earlier_epoch_say_nothing(self, seen):
        await seen.held(ARRIVE, epoch=2)
        await seen.row("a", an_end())
        await seen.row("a~up", an_end("WAITING", phase=0))
        await seen.input()

        assert await seen.first(NAMING.hold) is False

    @pytest.mark.parametrize(("kind", "turn"), [(ARRIVE, 1), (RETRY, 2)])
    async def test_the_event_that_follows_is_there(self, seen, kind, turn):
        """To a part with user code: no row until it has run."""
        await seen.held(kind)
        await seen.input(turn=turn)

        assert await seen.first(NAMING.hold) is True

    @pytest.mark.parametrize("kind", [ARRIVE, RETRY])
    async def test_the_event_that_it_came_from_says_nothing_of_a_retry(self, seen, kind):
        await seen.held(kind, turn=2)
        await seen.input(turn=2)

        assert await seen.first(NAMING.hold) is (kind == ARRIVE)

    @pytest.mark.parametrize("kind", [ARRIVE, RETRY])
    async def test_whatever_comes_for_an_ended_job_is_dropped(self, seen, kind):
        await seen.held(kind)
        await seen.row("@job", JobRow("SUCCESS", n=1, plan=PLAN.digest, root="j"))

        assert await seen.first(NAMING.hold) is True

    async def test_a_failed_input_is_kept_for_an_ended_job_too(self, seen):
        """It can be redriven; unless the job was, since."""
        await seen.held(DEAD)
        await seen.row("@job", JobRow("FAILED", n=1, plan=PLAN.digest, root="j"))
        assert await seen.first(NAMING.hold) is False

        await seen.row("@job", JobRow("RUNNING", epoch=2, n=2, plan=PLAN.digest, root="j"))
        assert await seen.first(NAMING.hold) is True

    async def test_a_forwarded_submission_is_taken_when_its_job_is_there(self, seen):
        """That it stands in hold says nothing."""
        await seen.said(NAMING.hold, SUBMIT, "s", "new")
        assert await seen.first(NAMING.hold) is False

        await seen.put(NAMING.done, "new", b"{}")
        assert await seen.first(NAMING.hold) is True


class TestIntake:
    @pytest.mark.parametrize(("job", "taken"), [("j", True), ("new", False)])
    async def test_a_submission_is_taken_when_its_job_has_rows(self, seen, job, taken):
        await seen.said(NAMING.intake, SUBMIT, "s", job)

        assert await seen.first(NAMING.intake) is taken

    async def test_a_submission_was_taken_if_it_was_forwarded_or_has_ended(self, seen):
        await seen.said(NAMING.intake, SUBMIT, "s", "new")
        await seen.said(NAMING.hold, SUBMIT, "s", "new")
        assert await seen.first(NAMING.intake) is True

    @pytest.mark.parametrize("id", ["known", "unknown"])
    async def test_a_signal_is_known_to_its_job(self, seen, id):
        await seen.said(NAMING.intake, SIGNAL, id, "j", kind="cancel")
        head = JobRow("RUNNING", phase=1, n=1, plan=PLAN.digest, root="j", signals=("known",))
        await seen.row("@job", head)

        assert await seen.first(NAMING.intake) is (id == "known")

    @pytest.mark.parametrize(
        ("key", "body"),
        [
            ("fact/open", {"kind": "fact", "facts": {"open": True}, "global": True}),
            ("pause/a", {"kind": "pause", "stage": "a"}),
            ("pause/*", {"kind": "resume"}),
        ],
    )
    async def test_what_all_jobs_share_was_set_at_that_time_or_later(self, seen, key, body):
        """Else an old value would come back."""
        await seen.put(NAMING.control, key, None)
        seen.clock.advance(1)
        await seen.said(NAMING.intake, SIGNAL, "s", **body)
        assert await seen.first(NAMING.intake) is False

        await seen.put(NAMING.control, key, None)
        assert await seen.first(NAMING.intake) is True

    async def test_a_dead_letter_names_where_the_record_stood(self, seen):
        await seen.put(NAMING.intake, "k", b"\xff")
        assert await seen.first(NAMING.intake) is False

        origin = {"topic": NAMING.intake, "partition": "0", "offset": "0"}
        named = tuple((f"streams-dlq-{name}", text.encode()) for name, text in origin.items())
        await seen.put(NAMING.dead, "k", b"\xff", named)
        assert await seen.first(NAMING.intake) is True
