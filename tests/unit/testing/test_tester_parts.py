"""The pieces under the test driver, each for itself."""

import asyncio
from contextvars import ContextVar

import pytest

from streams.blobs import BlobError
from streams.clock import ManualClock
from streams.testing import TopologyTester
from streams.testing.tester_blobs import MemoryBlobs
from streams.testing.tester_clock import TesterClock
from streams.testing.tester_inline import OnTheSpot, outside_of_any_loop
from streams.testing.virtual_time import virtual_loop


async def test_a_call_is_done_when_it_is_handed_in_and_has_its_own_context():
    seen = ContextVar("seen", default=0)

    def work():
        seen.set(1)
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return "done"

    work_done = OnTheSpot(ManualClock()).submit(work)

    assert work_done.future.result() == "done"
    assert work_done.began == 0.0
    assert seen.get() == 0


async def test_outside_of_any_loop_leaves_everything_as_it_was():
    """Also the task: timeouts and cancellations of the caller go by it."""
    before = asyncio.current_task()

    with outside_of_any_loop():
        assert asyncio.run(asyncio.sleep(0, "inner")) == "inner"

    assert asyncio.current_task() is before
    assert await asyncio.wait_for(asyncio.sleep(0, "outer"), 5) == "outer"


def test_the_clock_runs_only_while_it_is_told_to():
    """Loop time goes on with every poll of a worker; the wall clock does not, and a leap passes
    every monotonic clock by."""
    with virtual_loop() as loop:
        clock = TesterClock(loop, start=1_000)
        loop.run(asyncio.sleep(5))
        assert (clock.now(), clock.monotonic()) == (1_000, 0.0)
        clock.go()
        clock.go()
        loop.run(asyncio.sleep(5))
        assert clock.now() == 6_000
        clock.stand()
        loop.run(asyncio.sleep(5))
        clock.leap(3600)
        assert (clock.now(), clock.monotonic()) == (3_606_000, 5.0)


def test_blobs_in_memory_are_as_strict_as_others(tmp_path):
    blobs = MemoryBlobs()
    file = tmp_path / "data"
    file.write_bytes(b'"x"')

    ref = blobs.put_now("test/p/j", file)

    assert blobs.value_now(ref) == "x"
    assert asyncio.run(blobs.list_prefix("test/p/j")) == [ref.url]
    assert asyncio.run(blobs.delete_prefix("test/p/j")) == 1
    with pytest.raises(BlobError) as gone:
        blobs.get_now(ref)
    assert gone.value.code == "B001"


def test_a_job_of_a_test_may_carry_a_priority():
    """What a pipeline does with it is seen as in production."""
    text = "pipeline: p\nstages:\n  - {name: one, type: work}\n  - {name: two, type: work}\n"
    with TopologyTester(text, stages={"work": lambda ctx: 1}) as tester:
        tester.submit(id="a", priority="high")
        tester.submit(id="b")
        tester.submit(id="c", priority="low")
        tester.run_until_idle()

        jobs = [tester.job(job) for job in ("a", "b", "c")]
        assert [job.priority for job in jobs] == ["high", "normal", "low"]
        assert {job.status for job in jobs} == {"succeeded"}
