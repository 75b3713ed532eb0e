"""Retrying a job that has ended: from what failed, from a named stage, with the inputs it had."""

import msgspec

from streams.engine import payload as payloads
from streams.outcome import Fail, Ok
from tests.simulation.building import echo, fault, gate, pipeline, sleep, stage
from tests.simulation.harness import World

BIG = "b" * 2_000
NO = Fail("no", retriable=False)


def ended(*parts, **answers):
    world = World(pipeline(*parts), answers=answers)
    world.submit(v=1)
    return world.later(15)


def retry(world, start="", **answers):
    world.answers.update(answers)
    before = len(world.ran)
    world.signal("retry", **{"from": start})
    world.later(15)
    return [part for part, *_ in world.ran[before:]]


class TestFromWhatFailed:
    def test_only_the_failed_stage_and_what_follows_runs_again(self):
        """Epoch 2 from the failed event that was kept."""
        world = ended(stage("a", "b"), stage("b", "c"), stage("c"), b=NO)
        assert world.job().status == "FAILED"
        assert retry(world, b=Ok()) == ["b", "c"]

        assert (world.job().status, world.job().epoch) == ("SUCCESS", 2)
        assert world.job().restarts == {"b": 2}
        assert [done["status"] for done in world.done] == ["failed", "succeeded"]
        assert "b~dead" not in world.rows()
        assert world.job().err is None
        assert world.job().reason == ""

    def test_the_retried_stage_sees_the_input_it_had(self):
        """Its event is kept whole in `part~dead`."""
        seen = []

        def look(work):
            seen.append(
                (
                    work.payload.params,
                    {k: bytes(memoryview(v.out)) for k, v in work.payload.stages.items()},
                )
            )
            return NO if len(seen) == 1 else Ok()

        world = ended(stage("a", "b"), stage("b"), a=Ok({"n": BIG}), b=look)
        retry(world)

        assert seen[0] == seen[1] == ({"v": 1}, {"a": msgspec.json.encode({"n": BIG})})

    def test_the_job_shows_as_queued_and_running_again_meanwhile(self):
        """A row below its floor does not count: not in the view, not for gates."""
        world = ended(stage("a", "b"), stage("b", "c"), stage("c"), b=NO)
        world.asleep = {"b"}
        retry(world)

        assert world.statuses() == {"a": "succeeded", "b": "queued"}
        assert world.view().status == "running"
        assert world.view().error is None

    def test_a_second_retry_is_epoch_three(self):
        """Each retry counts on its own."""
        world = ended(stage("a", "b"), stage("b"), b=NO)
        assert retry(world) == ["b"]
        assert world.job().status == "FAILED"
        assert retry(world, b=Ok()) == ["b"]

        assert (world.job().status, world.job().epoch) == ("SUCCESS", 3)
        assert [done["epoch"] for done in world.done] == [1, 2, 3]

    def test_every_failed_or_cancelled_part_is_a_restart_point(self):
        """The siblings that were stopped run again too."""
        world = World(pipeline(stage("a", "j"), stage("b", "j"), stage("j")))
        world.answers = {"a": NO}
        world.asleep = {"a", "b"}
        world.submit()
        world.settle()
        work = world.begin("b")
        world.run("a")
        world.settle()
        world.finish(work)
        world.settle()
        world.asleep = set()
        assert world.row("b").status == "CANCELLED"
        assert sorted(retry(world, a=Ok())) == ["a", "b", "j"]
        assert world.job().restarts == {"a": 2, "b": 2}
        assert world.job().status == "SUCCESS"

    def test_a_join_does_not_wait_for_the_way_that_is_not_run_again(self):
        """Its arrival is made again from the rows."""
        seen = []

        def look(work):
            seen.append({k: msgspec.json.decode(v.out) for k, v in work.payload.stages.items()})
            return Ok()

        world = ended(
            stage("a", "j"), stage("b", "j"), stage("j"), a=Ok("left"), b=[NO, Ok("right")], j=look
        )
        assert retry(world) == ["b", "j"]
        assert seen == [{"a": "left", "b": "right"}]

    def test_a_join_that_failed_itself_runs_again_alone(self):
        """Its merged input is in the failed event."""
        world = ended(stage("a", "j"), stage("b", "j"), stage("j"), j=NO)
        assert retry(world, j=Ok()) == ["j"]
        assert world.job().status == "SUCCESS"

    def test_a_stage_whose_output_was_too_large_to_keep_runs_again(self):
        """Above 1 KiB an output is not in the row: its maker runs again too."""
        world = ended(stage("a", "j"), stage("b", "j"), stage("j"), a=Ok(BIG), b=[NO, Ok("right")])
        assert sorted(retry(world)) == ["a", "b", "j"]
        assert world.job().restarts == {"a": 2, "b": 2}

    def test_a_raise_part_fails_again(self):
        """Folded parts restart like any other."""
        world = ended(stage("a", "r"), fault("r", "b"), stage("b"))
        assert retry(world) == []
        assert (world.job().status, world.job().epoch) == ("FAILED", 2)
        assert "r~dead" in world.rows()

    def test_a_gate_that_timed_out_waits_anew(self):
        """A new wait with a deadline of its own."""
        world = ended(gate("g", "a", until="has(facts.ok)", timeout_ms=5_000), stage("a"))
        assert world.job().status == "FAILED"
        world.signal("retry")
        world.settle()
        assert world.view().status == "waiting"
        assert world.waits()[0].due == world.now + 5_000
        world.signal("fact", facts={"ok": 1})
        world.settle()

        assert world.job().status == "SUCCESS"

    def test_nothing_to_retry_is_an_answer(self):
        """A job that ended well needs a stage to start from."""
        world = ended(stage("a"))
        assert retry(world) == []
        assert world.job().last_signal.endswith("nothing failed: name a stage to start from")


class TestFromANamedStage:
    def test_the_stage_and_all_that_follows_runs_again(self):
        """Also in a job that succeeded."""
        world = ended(stage("a", "b"), stage("b", "c"), stage("c"))
        assert retry(world, "b") == ["b", "c"]
        assert (world.job().status, world.job().epoch) == ("SUCCESS", 2)

    def test_its_input_is_rebuilt_from_the_snapshot_and_the_rows(self):
        """`@input` and the rows' outputs."""
        seen = []

        def look(work):
            stages = {k: msgspec.json.decode(v.out) for k, v in work.payload.stages.items()}
            seen.append((work.payload.params, stages))
            return Ok()

        world = ended(stage("a", "b"), echo("b", "c"), stage("c"), a=Ok({"n": 1}), c=look)
        retry(world, "c")
        assert seen == [({"v": 1}, {"a": {"n": 1}, "b": None})] * 2

    def test_where_the_output_was_not_kept_the_nearest_rebuildable_stage_is_the_start(self):
        """13: the nearest rebuildable upstream runs again."""
        world = ended(
            stage("a", "b"), stage("b", "c"), stage("c", "d"), stage("d"), a=Ok("small"), b=Ok(BIG)
        )
        assert retry(world, "d") == ["b", "c", "d"]
        assert world.job().restarts == {"b": 2}

    def test_what_failed_elsewhere_runs_again_as_well(self):
        """Else the job could only fail, or wait for ever, at once."""
        world = ended(stage("a"), stage("b"), a=NO)
        assert sorted(retry(world, "b", a=Ok())) == ["a", "b"]
        assert world.job().status == "SUCCESS"

    def test_a_stage_that_is_not_there_or_was_never_reached_is_an_answer(self):
        """Nothing happens to the job."""
        world = ended(stage("a", "b"), stage("b"), a=NO)
        for start, answer in (("x", "no stage x in pipe"), ("b", "stage b was never reached")):
            assert retry(world, start) == []
            assert world.job().last_signal.endswith(answer)
        assert world.job().epoch == 1


class TestOfACancelledJob:
    def test_it_goes_on_where_it_waited(self):
        """A gate that was cancelled is entered again."""
        world = World(pipeline(stage("a", "g"), gate("g", "b", until="has(facts.ok)"), stage("b")))
        world.submit()
        world.settle()
        world.signal("cancel")
        world.settle()
        assert retry(world) == []
        assert world.view().status == "waiting"
        world.signal("fact", facts={"ok": 1})
        world.settle()
        assert world.statuses() == {"a": "succeeded", "g": "succeeded", "b": "succeeded"}

    def test_what_was_queued_when_it_was_cancelled_is_delivered_again(self):
        """The old delivery is acknowledged unrun, the new one runs."""
        world = World(pipeline(stage("a", "b"), stage("b"), sleep("s", seconds=1)))
        world.asleep = {"a"}
        world.submit()
        world.settle()
        world.signal("cancel")
        world.later(3)
        assert world.job().status == "CANCELLED"
        world.asleep = set()
        assert retry(world) == ["a", "b"]
        assert [epoch for _, epoch, _, _ in world.ran] == [2, 2]
        assert world.job().status == "SUCCESS"


class TestLateResults:
    def test_a_result_of_an_old_epoch_changes_nothing_in_the_new_one(self):
        """Floor: its row is below, its events are dropped."""
        world = World(pipeline(stage("a", "j"), stage("b", "j"), stage("j")))
        world.answers = {"b": [NO, Ok("new")]}
        world.asleep = {"a", "b"}
        world.submit()
        world.settle()
        zombie = world.begin("a")
        world.run("b")
        world.later(12)
        assert world.job().status == "FAILED"
        world.signal("retry")
        world.settle()
        world.answers["a"] = Ok("old")
        world.finish(zombie, sees_stop=False)
        world.settle()
        assert world.statuses() == {"a": "queued", "b": "queued"}
        world.answers["a"] = Ok("new")
        world.asleep = set()
        world.settle()

        assert world.view().stages["a"].outputs == "new"
        assert world.job().status == "SUCCESS"

    def test_a_failed_event_of_an_old_epoch_is_not_kept(self):
        """It would be taken for the input of the next retry."""
        world = World(pipeline(stage("a"), stage("b")), answers={"b": NO})
        world.asleep = {"a", "b"}
        world.submit()
        world.settle()
        zombie = world.begin("a")
        world.run("b")
        world.later(12)
        world.signal("retry")
        world.settle()
        world.answers["a"] = NO
        world.finish(zombie, sees_stop=False)
        world.settle()

        assert "a~dead" not in world.rows()


def test_attempts_begin_anew_with_the_epoch():
    """A kept event has its earlier attempts taken off."""
    tries = []

    def look(work):
        tries.append(len(work.payload.tries))
        return NO

    world = ended(stage("a"), a=look)
    retry(world)
    assert tries == [0, 0]
    assert payloads.decode(world.row("a~dead").wait.event.payload).params == {"v": 1}


def test_restart_points_are_written_in_the_same_order_by_every_process():
    """One seed, one run: the order of a set differs from process to process, and so would the
    bytes of the row."""
    names = ("f", "b", "e", "a", "d", "c")
    world = ended(*(stage(name) for name in names), **dict.fromkeys(names, NO))
    retry(world, **dict.fromkeys(names, Ok()))

    assert list(world.job().restarts) == ["a", "b", "c", "d", "e", "f"]
