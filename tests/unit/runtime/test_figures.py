"""Figures of a pipeline, as Prometheus reads them: literal values after known histories."""

import contextlib

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.broker.local import LocalLog
from streams.broker.port import TopicPartition
from streams.clock import ManualClock
from streams.observe.metrics import Metrics
from streams.outcome import Fail, Retry, Skip
from streams.runtime.pages import Pages
from streams.testing.faults import Fault
from tests.unit.runtime.rig import NAMING, Rig

ONE = "stages:\n  - {name: one, type: t}\n"
GATED = """
gates: {go: {after: one, until: facts.go}}
stages:
  - {name: one, type: t}
  - {name: two, type: t, depends_on: [one]}
"""
RETRIED = """
policies:
  now: {max_attempts: 4, backoff: {strategy: none}}
  later: {max_attempts: 2, backoff: {strategy: linear, initial: 60, maximum: 60, jitter: false}}
stages:
  - {name: quick, type: q, policy: now}
  - {name: slow, type: s, policy: later, depends_on: [quick]}
"""


class Scraped:
    """A worker in a rig, and what a scrape of it says."""

    def __init__(self, rig, worker, metrics):
        self.rig = rig
        self.worker = worker
        self.metrics = metrics
        self.pages = Pages(metrics, lambda: [worker])

    async def read(self):
        """(name, values of its labels as defined, without the pipeline's) → value."""
        answer = await self.pages.metrics({})
        found = {}
        names = ("stage", "topic", "gate", "outcome", "reason", "partition")
        for family in text_string_to_metric_families(answer.body.decode()):
            for sample in family.samples:
                assert sample.labels.get("pipeline", "p") == "p"
                values = tuple(sample.labels[name] for name in names if name in sample.labels)
                if not sample.name.endswith("_bucket"):
                    found[sample.name, *values] = sample.value
        return found

    async def of(self, name):
        """One family without its prefix: values of the labels → value."""
        return {key[1:]: v for key, v in (await self.read()).items() if key[0] == f"streams_{name}"}


@contextlib.asynccontextmanager
async def scraped(tmp_path, topology, stages, **more):
    """A worker that owns all there is."""
    metrics = Metrics()
    async with Rig(tmp_path, topology, stages=stages, **more) as rig:
        worker = rig.worker(metrics=metrics)
        rig.start(worker)
        await rig.until(lambda: worker.keeper and worker.keeper.owned and worker.agents)
        await rig.until(lambda: worker.agents["default"].owned)
        yield Scraped(rig, worker, metrics)


async def test_events_are_counted_by_topic_and_outcome(tmp_path):
    """PR-4: one job of two stages, from intake to done. The gate's arrival goes through hold."""
    async with scraped(tmp_path, GATED, {"t": lambda ctx: "ok"}) as here:
        await here.rig.submit()
        await here.rig.view_when(status="waiting")
        await here.rig.signal("fact", facts={"go": True})
        await here.rig.view_when(status="succeeded")
        await here.rig.pass_time(1)

        assert await here.of("events_consumed_total") == {
            ("", "t.p.intake", "decided"): 2,
            ("", "t.p.hold", "decided"): 1,
            ("one", "t.p.one", "succeeded"): 1,
            ("two", "t.p.two", "succeeded"): 1,
        }
        assert await here.of("events_produced_total") == {
            ("t.p.one",): 1,
            ("t.p.hold",): 1,
            ("t.p.two",): 1,
            ("t.p.done",): 1,
        }
        assert await here.of("inflight_events") == {
            ("t.p.one",): 0,
            ("t.p.two",): 0,
            ("t.p.hold",): 0,
            ("t.p.intake",): 0,
        }
        assert set(await here.of("last_success_timestamp_seconds")) == {("one",), ("two",)}


async def test_a_gate_says_how_many_wait_and_how_long_the_first_has(tmp_path):
    """PR-4: what the alert on a forgotten gate reads; nobody waiting is a 0, not a gap."""
    async with scraped(tmp_path, GATED, {"t": lambda ctx: "ok"}) as here:
        assert await here.of("gate_waiting_jobs") == {("go",): 0}

        await here.rig.submit("a")
        await here.rig.view_when("a", status="waiting")
        await here.rig.pass_time(100)
        await here.rig.submit("b")
        await here.rig.view_when("b", status="waiting")
        assert await here.of("gate_waiting_jobs") == {("go",): 2}
        [age] = (await here.of("gate_oldest_waiting_seconds")).values()
        assert 100 <= age < 103

        await here.rig.signal("fact", "a", facts={"go": True})
        await here.rig.view_when("a", status="succeeded")
        assert await here.of("gate_waiting_jobs") == {("go",): 1}
        [age] = (await here.of("gate_oldest_waiting_seconds")).values()
        assert 0 <= age < 3


async def test_retries_are_counted_by_reason_in_place_and_parked(tmp_path):
    """PR-2: a stage's own code is `other`; ours stay as they are, and a `retry` verdict is asked
    for."""
    tries = {"q": 0, "s": 0}

    def quick(_):
        tries["q"] += 1
        if tries["q"] == 1:
            return Fail("busy", code="MY-OWN", retriable=True)
        if tries["q"] == 2:
            raise ValueError("no")
        return "ok"

    def slow(_):
        tries["s"] += 1
        if tries["s"] == 1:
            return Retry(30)
        if tries["s"] == 2:
            raise ValueError("no")
        return "ok"

    async with scraped(tmp_path, RETRIED, {"q": quick, "s": slow}) as here:
        await here.rig.submit()
        view = await here.rig.view_when(seconds=300)
        await here.rig.pass_time(1)

        assert view.status == "succeeded"
        assert await here.of("retries_total") == {
            ("quick", "other"): 1,
            ("quick", "S001"): 1,
            ("slow", "asked"): 1,
            ("slow", "S001"): 1,
        }
        assert await here.of("process_duration_seconds_count") == {("quick",): 3, ("slow",): 3}
        consumed = await here.of("events_consumed_total")
        assert consumed["slow", "t.p.slow", "retrying"] == 2
        assert consumed["slow", "t.p.slow", "succeeded"] == 1


async def test_a_failure_is_a_dead_letter_with_its_reason_and_ends_the_job(tmp_path):
    """PR-4; events that cannot be obeyed are dead letters too, of no stage."""
    async with scraped(tmp_path, ONE, {"t": lambda ctx: Fail("broken", code="S011")}) as here:
        await here.rig.submit()
        await here.rig.view_when(status="failed")
        await here.rig.signal("nonsense", "j")
        await here.rig.send("interlock.job.submit.v1", "j", "again", {"params": {"other": 1}})
        await here.rig.until(lambda: len(here.metrics.dead_letters.values) == 3)

        assert await here.of("dead_letters_total") == {
            ("one", "S011"): 1,
            ("", "V040"): 1,
            ("", "V043"): 1,
        }
        assert await here.of("end_to_end_duration_seconds_count") == {("failed",): 1}


async def test_end_to_end_takes_the_time_from_submission_to_the_end(tmp_path):
    """PR-3: seconds, gates included."""
    async with scraped(tmp_path, GATED, {"t": lambda ctx: Skip()}) as here:
        await here.rig.submit()
        await here.rig.view_when(status="waiting")
        await here.rig.pass_time(50)
        await here.rig.signal("fact", facts={"go": True})
        view = await here.rig.view_when()
        await here.rig.pass_time(1)

        assert view.status == "succeeded"
        [seconds] = (await here.of("end_to_end_duration_seconds_sum")).values()
        assert 50 <= seconds < 53
        spread = here.metrics.end_to_end.values["p", "succeeded"]
        assert spread.counts == [0] * 12 + [1] + [0] * 3


@pytest.mark.parametrize("fault", [Fault.ABORTED, Fault.UNKNOWN, Fault.FENCED])
async def test_a_transaction_that_was_rolled_back_counts_nothing(tmp_path, fault):
    """A counter of committed events says what is in the log, however often it was tried."""

    def choose(_name, number, _):
        return fault if number in (2, 3, 5) else None

    async with scraped(tmp_path, ONE, {"t": lambda ctx: "ok"}) as here:
        here.rig.log.choose = choose
        for n in range(4):
            await here.rig.submit(f"j{n}")
        for n in range(4):
            await here.rig.view_when(f"j{n}", seconds=200)
        await here.rig.pass_time(3)

        figures = await here.read()
        in_log = {
            topic: len(await here.rig.records(topic))
            for topic in (NAMING.stage("one"), NAMING.done)
        }
        assert in_log == {"t.p.one": 4, "t.p.done": 4}
        assert figures["streams_events_produced_total", "t.p.one"] == 4
        assert figures["streams_events_produced_total", "t.p.done"] == 4
        assert figures["streams_events_consumed_total", "one", "t.p.one", "succeeded"] == 4


async def test_lag_is_what_the_owner_has_not_finished_and_the_age_of_the_first(tmp_path):
    """PR-4. A paused stage: its events wait, the others' do not."""
    async with scraped(tmp_path, ONE, {"t": lambda ctx: "ok"}) as here:
        await here.rig.signal("pause", None)
        await here.rig.until(lambda: here.worker.control.table.is_paused("one"))
        await here.rig.submit("a")
        await here.rig.submit("b")
        await here.rig.pass_time(100)

        lag = await here.of("consumer_lag_events")
        assert lag == {
            ("t.p.one", "0"): 2,
            ("t.p.hold", "0"): 0,
            ("t.p.intake", "0"): 0,
        }
        age = (await here.of("consumer_lag_seconds"))["t.p.one", "0"]
        assert 99 < age < 103


async def test_marks_of_transactions_at_the_end_of_a_partition_are_no_lag(tmp_path):
    """On Kafka every transaction ends with one: a pipeline at rest would seem behind for ever."""
    clock = ManualClock()
    marked = {"clock": clock, "inner": LocalLog.open(None, clock=clock, offset_gaps=True)}
    async with scraped(tmp_path, ONE, {"t": lambda ctx: "ok"}, **marked) as here:
        await here.rig.submit()
        await here.rig.view_when()
        await here.rig.pass_time(10)
        place = TopicPartition(NAMING.stage("one"), 0)
        end = (await here.rig.log.watermarks([place]))[place].high

        assert here.worker.agents["default"].frontiers[place].high < end
        assert set((await here.of("consumer_lag_events")).values()) == {0}


async def test_lag_is_missing_while_the_log_is_away(tmp_path):
    """No figure rather than a wrong one; the scrape itself goes on."""
    async with scraped(tmp_path, ONE, {"t": lambda ctx: "ok"}) as here:
        assert len(await here.of("consumer_lag_events")) == 3
        here.rig.log.down = True
        await here.rig.pass_time(10)

        assert await here.of("consumer_lag_events") == {}
        assert await here.of("ledger_rows") is not None
        here.rig.log.down = False


async def test_rows_restores_and_rebalances_are_counted(tmp_path):
    """PR-4: what a start, a second worker and an end change."""
    async with scraped(tmp_path, ONE, {"t": lambda ctx: "ok"}, partitions=2) as here:
        await here.rig.submit()
        await here.rig.view_when()
        rows = (await here.of("ledger_rows"))[()]
        before = (await here.of("rebalances_total"))["orderly",]
        assert rows == 3  # @input, @job, one
        assert before == 2  # the agent's and the keeper's
        assert set(await here.of("ledger_restore_seconds")) == {()}

        other = here.rig.worker("other")
        here.rig.start(other)
        await here.rig.until(lambda: other.keeper and other.keeper.owned and other.agents)
        await here.rig.until(lambda: other.agents["default"].owned)
        assert (await here.of("rebalances_total"))["orderly",] > before
