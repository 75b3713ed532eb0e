"""How a job ends: settled, failed, cancelled, overdue, purged."""

from streams.outcome import Cancel, Fail, Ok, Skip
from tests.simulation.building import echo, fault, gate, pipeline, sleep, stage
from tests.simulation.harness import NOW, World

DAY = 24 * 3600


class TestTheGoodEnd:
    def test_a_linear_job_runs_each_stage_once_and_says_so_once(self):
        """The plainest promise there is."""
        world = World(pipeline(stage("a", "b"), stage("b", "c"), stage("c")))
        world.answers = {"c": Ok({"n": 3})}
        world.submit()
        world.settle()

        assert world.ran == [("a", 1, 1, 1), ("b", 1, 1, 1), ("c", 1, 1, 1)]
        assert world.statuses() == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
        assert world.job().status == "SUCCESS"
        assert world.done == [
            {
                "job": "j",
                "pipeline": "pipe",
                "status": "succeeded",
                "epoch": 1,
                "outputs": {"c": {"n": 3}},
                "reason": "",
                "error": None,
                "created_at": NOW,
                "completed_at": NOW,
            }
        ]

    def test_whoever_depends_on_a_skipped_stage_still_runs(self):
        """A skipped stage counts as done."""
        world = World(pipeline(stage("a", "b"), stage("b")), answers={"a": Skip("nothing new")})
        world.submit()
        world.settle()

        assert world.statuses() == {"a": "skipped", "b": "succeeded"}
        assert world.view().stages["a"].reason == "nothing new"
        assert world.job().status == "SUCCESS"

    def test_a_job_of_which_every_stage_skipped_is_skipped(self):
        """Job status follows from the rows by one rule."""
        world = World(pipeline(stage("a", "b"), stage("b")), answers={"a": Skip(), "b": Skip()})
        world.submit()
        world.settle()

        assert world.view().status == "skipped"

    def test_a_job_of_parts_without_user_code_ends_in_the_transaction_of_its_submit(self):
        """Folded parts need no hop."""
        world = World(pipeline(echo("a", "b"), echo("b")))
        world.submit()
        world.take_intake()
        world.commit_turn()

        assert world.job().status == "SUCCESS"
        assert world.echoes == [("j", "a", "hi"), ("j", "b", "hi")]


class TestAFailure:
    def test_the_last_failure_fails_the_job_at_once_when_nothing_else_runs(self):
        """No way on from a failed stage: its dependents are never reached."""
        world = World(pipeline(stage("a", "b"), stage("b")))
        world.answers = {"a": Fail("disk full", code="S101", retriable=False)}
        world.submit()
        world.settle()

        job = world.job()
        assert (job.status, job.reason, job.completed) == ("FAILED", "stage a failed", NOW)
        assert (job.err.code, job.err.message) == ("S101", "disk full")
        assert world.statuses() == {"a": "failed", "b": "skipped"}
        assert [letter.part for letter in world.dead] == ["a"]
        assert "a~dead" in world.rows()

    def test_a_stage_that_fails_cancels_its_running_siblings_and_awaits_them(self):
        """Running siblings are cancelled and awaited; finished outputs stay readable."""
        world = World(pipeline(stage("a"), stage("b"), stage("c")))
        world.answers = {"a": Fail("no", retriable=False), "c": Ok("kept")}
        world.asleep = {"a", "b"}
        world.submit()
        world.settle()
        work = world.begin("b")
        world.show_running(work)
        world.run("a")
        world.settle()

        assert world.stopped(work.delivery)
        assert world.job().stopping == "FAILED"
        assert world.view().status == "running"
        world.finish(work)
        world.settle()

        assert world.job().status == "FAILED"
        assert world.row("b").status == "CANCELLED"
        assert world.view().stages["c"].outputs == "kept"

    def test_a_stopped_job_is_over_after_two_seconds_when_nothing_shows_that_it_runs(self):
        """Agents have to hear of the stop: a queued event may be about to start."""
        world = World(pipeline(stage("a"), stage("b")), answers={"a": Fail("", retriable=False)})
        world.asleep = {"b"}
        world.submit()
        world.later(1.9)
        assert world.job().status == "RUNNING"
        world.later(0.2)

        assert world.job().status == "FAILED"
        assert world.job().completed == NOW + 2_000

    def test_a_queued_delivery_of_a_stopped_job_is_acknowledged_unrun(self):
        """Stage agent, step 1."""
        world = World(pipeline(stage("a"), stage("b")), answers={"a": Fail("", retriable=False)})
        world.asleep = {"b"}
        world.submit()
        world.later(5)
        world.asleep = set()
        world.settle()

        assert world.ran == [("a", 1, 1, 1)]
        assert "b" not in world.rows()
        assert world.statuses() == {"a": "failed", "b": "cancelled"}

    def test_a_stage_that_does_not_stop_is_cut_off_after_ten_seconds(self):
        """At the latest then the cancel is acknowledged, RUNNING row or not."""
        world = World(pipeline(stage("a"), stage("b")), answers={"a": Fail("", retriable=False)})
        world.asleep = {"a", "b"}
        world.submit()
        world.settle()
        work = world.begin("b")
        world.show_running(work)
        world.run("a")
        world.later(9.9)
        assert world.job().status == "RUNNING"
        world.later(0.6)

        assert world.job().status == "FAILED"
        assert world.statuses() == {"a": "failed", "b": "cancelled"}
        world.finish(work, sees_stop=False)
        world.settle()
        assert [done["status"] for done in world.done] == ["failed"]

    def test_holds_end_with_the_job_that_failed(self):
        """Nothing may wake a job that is over."""
        world = World(
            pipeline(stage("a"), gate("g", until="has(facts.ok)"), sleep("s"))
        )  # fmt: skip
        world.answers = {"a": Fail("", retriable=False)}
        world.submit()
        world.settle()

        assert world.statuses() == {"a": "failed", "g": "cancelled", "s": "cancelled"}
        world.signal("fact", facts={"ok": True})
        world.later(120)
        assert world.row("g").status == "CANCELLED"
        assert len(world.done) == 1

    def test_a_raise_part_fails_the_job_with_its_message(self):
        """`raise` at the root is folded into the submission."""
        world = World(pipeline(fault("a", "b", message="bad ${{ params.x }}"), stage("b")))
        world.submit(x=7)
        world.settle()

        assert world.job().status == "FAILED"
        assert (world.job().err.code, world.job().err.message) == ("S002", "bad 7")
        assert [letter.part for letter in world.dead] == ["a"]


class TestACancel:
    def test_a_cancelled_job_stops_what_waits_and_acknowledges(self):
        """One transaction: stopping, the stop record, the holds."""
        world = World(pipeline(gate("g", "a", until="has(facts.ok)"), stage("a")))
        world.submit()
        world.settle()
        world.signal("cancel", by="ann", reason="wrong file")
        world.settle()

        assert world.control["stop/j"] == (
            b'{"below":2,"at":1800000000000,"reason":"wrong file (by ann)"}'
        )
        assert world.job().status == "CANCELLED"
        assert world.job().reason == "wrong file (by ann)"
        assert world.statuses() == {"g": "cancelled", "a": "skipped"}

    def test_a_cancelled_job_waits_for_what_runs(self):
        """The acknowledgement comes with the last running stage's row."""
        world = World(pipeline(stage("a", "b"), stage("b")))
        world.asleep = {"a"}
        world.submit()
        world.settle()
        work = world.begin("a")
        world.signal("cancel")
        world.settle()
        assert world.job().stopping == "CANCELLED"
        world.finish(work)
        world.settle()

        assert world.job().status == "CANCELLED"
        assert world.row("a").status == "CANCELLED"
        assert "b" not in world.queues

    def test_a_second_cancel_changes_nothing(self):
        """Signals are told twice all the time."""
        world = World(pipeline(stage("a")))
        world.asleep = {"a"}
        world.submit()
        world.signal("cancel", id="one", reason="first")
        world.signal("cancel", id="two", reason="second")
        world.later(3)

        assert world.job().reason == "first"
        assert [done["status"] for done in world.done] == ["cancelled"]

    def test_the_cancel_verdict_of_a_stage_cancels_the_job(self):
        """Verdict cancel: a row and a `signal` in one transaction."""
        world = World(pipeline(stage("a", "b"), stage("b")), answers={"a": Cancel("duplicate")})
        world.submit()
        world.settle()

        assert world.job().status == "CANCELLED"
        assert world.job().reason == "duplicate"
        assert world.statuses() == {"a": "cancelled", "b": "skipped"}
        assert len(world.done) == 1

    def test_the_cancel_verdict_holds_whether_its_row_or_its_signal_is_seen_first(self):
        """Two topics: no order between them. The row alone must not look like a good end."""
        for row_first in (True, False):
            world = World(pipeline(stage("a")), answers={"a": Cancel("x")})
            world.asleep = {"a"}
            world.submit()
            world.settle()
            world.run("a")
            if row_first:
                while world.table.position < len(world.ledger):
                    world.read_row()
            else:
                world.take_hold()
            world.commit_turn()
            world.later(3)

            assert [done["status"] for done in world.done] == ["cancelled"]

    def test_a_deadline_cancels_a_job_that_only_waits(self):
        """A deadline fires with no traffic at all."""
        world = World(pipeline(gate("g", until="has(facts.ok)"), deadline_ms=60_000))
        world.submit()
        world.later(59)
        assert world.job().status == "RUNNING"
        world.later(1)

        assert (world.job().status, world.job().reason) == ("CANCELLED", "deadline passed")
        assert world.job().completed == NOW + 60_000

    def test_a_deadline_lets_what_runs_stop_first(self):
        """Past it the job is cancelled like by hand: told, awaited, acknowledged."""
        world = World(pipeline(stage("a"), deadline_ms=60_000))
        world.asleep = {"a"}
        world.submit()
        world.later(61)
        assert world.job().stopping == "CANCELLED"
        world.later(1.5)

        assert world.job().status == "CANCELLED"


class TestPurge:
    def test_every_row_goes_a_week_after_the_end(self):
        """Memory follows open jobs, not jobs ever seen."""
        world = World(pipeline(stage("a", "j"), stage("b", "j"), stage("j")))
        world.submit()
        world.signal("fact", facts={"x": 1})
        world.later(7 * DAY - 1)
        assert "@job" in world.rows()
        world.later(2)

        assert world.rows() == {}
        assert world.forgotten == ["j"]
        assert dict(world.table.rows("j")) == {}

    def test_an_unresolved_dead_letter_keeps_its_job(self):
        """A redrive needs the rows; the dead topic keeps its event 30 days."""
        world = World(pipeline(stage("a")), answers={"a": Fail("", retriable=False)})
        world.submit()
        world.later(29 * DAY)
        assert world.job().status == "FAILED"
        world.later(2 * DAY)

        assert world.rows() == {}

    def test_a_discarded_dead_letter_keeps_nothing(self):
        """Discard resolves it: the usual retention counts again."""
        world = World(pipeline(stage("a")), answers={"a": Fail("", retriable=False)})
        world.submit()
        world.later(DAY)
        world.signal("discard")
        world.settle()
        assert "a~dead" not in world.rows()
        world.later(6 * DAY + 1)

        assert world.rows() == {}

    def test_an_open_job_is_never_purged(self):
        """A scope that is open is never purged."""
        world = World(pipeline(gate("g", until="has(facts.ok)")))
        world.submit()
        world.later(400 * DAY)

        assert world.view().status == "waiting"

    def test_the_same_submission_is_a_new_job_after_the_purge(self):
        """Dedupe lasts as long as the job's rows."""
        world = World(pipeline(stage("a")))
        world.submit()
        world.later(8 * DAY)
        world._sent.clear()
        world.submit()
        world.settle()

        assert len(world.done) == 2


def test_no_event_is_published_by_a_job_that_is_over():
    """What arrives late finds the job ended and changes nothing (K4.2)."""
    world = World(pipeline(stage("a", "j"), stage("b", "j"), stage("j")))
    world.answers = {"a": Fail("", retriable=False)}
    world.asleep = {"a", "b"}
    world.submit()
    world.settle()
    work = world.begin("b")
    world.run("a")
    world.later(12)
    assert world.job().status == "FAILED"
    before = dict(world.rows())
    world.finish(work, sees_stop=False)
    world.settle()

    assert {part for part in world.rows() if part not in before} == {"b"}
    assert "j" not in world.queues
