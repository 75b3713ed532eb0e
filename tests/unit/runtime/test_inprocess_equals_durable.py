"""A run in memory and a job on the embedded log: the same engine, so the same rows at the end."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from streams.clock import ManualClock
from streams.engine.rows import InputRow, JobRow, Row, decode
from streams.runtime.inprocess_host import Host
from tests.simulation.plans import sketches
from tests.unit.runtime.rig import Rig

PARAMS = {"n": 1, "names": ["a"]}
DATA = {"text": "hello"}


class Script:
    """Answers as the sketch says, the last one again and again."""

    def __init__(self, sketch):
        self._answers = sketch.answers
        self.calls = Counter()

    def __call__(self, ctx):
        asked = self.calls[ctx.stage_name]
        self.calls[ctx.stage_name] += 1
        answer = self._answers[ctx.stage_name]
        return answer[min(asked, len(answer) - 1)] if isinstance(answer, list) else answer


def telling(part, data):
    """What a row says that does not depend on when it was written, and by whom."""
    row = decode(part, data)
    if isinstance(row, JobRow):
        return (row.status, row.epoch, row.phase, row.reason, row.err, row.stopping)
    if isinstance(row, InputRow):
        return (row.params, bytes(row.data))
    assert isinstance(row, Row)
    meta = {name: value for name, value in row.meta.items() if not name.startswith("gate.")}
    tries = [(each.attempt, each.status, each.error) for each in row.times]
    return (
        row.status, row.epoch, row.turn, row.attempt, row.phase, row.taken, bytes(row.out),
        row.err, tries, meta, row.reason, row.wait is None,
    )  # fmt: skip


async def in_memory(sketch):
    """Rows, outputs and calls of a run in this process."""
    script, clock = Script(sketch), ManualClock()
    with tempfile.TemporaryDirectory() as folder:
        registry = Rig(Path(folder), stages={"t": script}).registry
    host = Host(sketch.plan, registry, clock)
    task = asyncio.create_task(host.run(PARAMS, DATA, job="j"))
    while not task.done():
        for _ in range(20):
            await asyncio.sleep(0)
        if not task.done() and clock.next_due() is not None:
            clock.advance(max(0.001, (clock.next_due() - clock.now()) / 1000))
    ended = await task
    rows = {part: telling(part, data) for part, data in ended.rows.items()}
    return rows, ended.view, script.calls


async def on_the_log(sketch):
    """The same of a job on a log, with an agent and a keeper."""
    script = Script(sketch)
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), stages={"t": script})
        rig.plans = [sketch.plan]
        async with rig:
            await rig.start_both()
            await rig.submit(data=DATA, **PARAMS)
            view = await rig.view_when(seconds=200)
            rows = {part: telling(part, data) for part, data in (await rig.rows()).items()}
    return rows, view, script.calls


def both(sketch):
    async def run():
        return await in_memory(sketch), await on_the_log(sketch)

    return asyncio.run(run())


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(sketches())
def test_a_run_in_memory_leaves_the_rows_that_a_job_on_the_log_leaves(sketch):
    """One engine: stages, echoes, gates, sleeps, routes, skips and retries. Every row, every call
    and every stage's end are the same; only times, ids and the worker's name are not."""
    (ours, view, calls), (theirs, their_view, their_calls) = both(sketch)

    assert ours == theirs
    assert calls == their_calls
    assert {path: each.status for path, each in view.stages.items()} == {
        path: each.status for path, each in their_view.stages.items()
    }


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(sketches(bad=True).filter(lambda sketch: len(sketch.bad) == 1))
def test_a_run_in_memory_fails_as_a_job_on_the_log_fails(sketch):
    """What ran beside the stage that failed depends on the moment; how the job ended does not."""
    (ours, view, _), (theirs, their_view, _) = both(sketch)
    (bad,) = sketch.bad

    assert ours["@job"] == theirs["@job"]
    assert ours.get(bad) == theirs.get(bad)
    assert (view.status, view.reason) == (their_view.status, their_view.reason)
