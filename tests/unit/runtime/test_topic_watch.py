"""A worker looks whether the topics are still those it began with (rows 25 and 27)."""

import asyncio
import io

import msgspec
import pytest

from streams.broker.cluster import TopicFound
from streams.clock import ManualClock
from streams.errors import TopicError
from streams.observe import logs
from streams.runtime.control import ControlTable
from streams.runtime.topic_watch import TopicWatch
from streams.runtime.topics import topics
from streams.settings import Settings
from streams.topology.plan import Naming, Part, Plan
from tests.unit.runtime.clusters import SaidCluster

NAMING = Naming("ns", "p")
PLAN = Plan("p", "1", (Part("a", "stage", "t"),))


class Watched:
    """A watch on topics that the test changes under it."""

    def __init__(self):
        self.clock = ManualClock(0)
        self.cluster = SaidCluster(
            TopicFound(spec.name, spec.partitions, 1, f"id-{spec.name}")
            for spec in topics(NAMING, [PLAN], 4)
        )
        table = ControlTable()
        table.plans = {PLAN.digest: PLAN}
        self._watch = TopicWatch(self.cluster, NAMING, table, self.clock, 4)
        self.task = asyncio.ensure_future(self._watch.run())

    async def after(self, seconds):
        """What the watch has come to; None while it goes on."""
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            for _ in range(10):
                await asyncio.sleep(0)
            if self.task.done():
                return self.task.exception()
        return None

    def change(self, name, **fields):
        topics = self.cluster.topics
        topics[name] = msgspec.structs.replace(topics[name], **fields)


@pytest.fixture
async def watched():
    made = Watched()
    assert await made.after(11) is None
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


@pytest.mark.parametrize("name", ["ns.p.a", "ns.p.done", "ns.p.control"])
async def test_a_topic_that_is_gone_ends_it_with_the_topics_name(watched, name):
    """Also one that is only written to; within 30 s, of which the worker needs some to end."""
    del watched.cluster.topics[name]

    error = await watched.after(15)

    assert isinstance(error, TopicError)
    assert error.code == "K087"
    assert error.message == f"topic {name} deleted while pipeline p runs"
    assert "streams apply FILE --kafka kafka.example:9092" in error.help


async def test_a_topic_made_anew_is_not_the_one_it_was(watched):
    """Empty, under the same name: its offsets would mean nothing."""
    watched.change("ns.p.hold", id="another")
    error = await watched.after(15)
    assert isinstance(error, TopicError)
    assert "ns.p.hold" in error.message


async def test_a_topic_that_is_not_seen_once_is_no_reason_to_stop(watched):
    """A broker that has just come back does not know every topic yet."""
    gone = watched.cluster.topics.pop("ns.p.a")
    assert await watched.after(4.5) is None
    watched.cluster.topics["ns.p.a"] = gone
    assert await watched.after(30) is None


async def test_added_partitions_are_told_once(watched):
    """They stay unused; the worker goes on."""
    out = io.StringIO()
    logs.configure(Settings(), stream=out)
    try:
        watched.change("ns.p.intake", partitions=6)
        assert await watched.after(40) is None
    finally:
        logs.configure(Settings())
    assert out.getvalue().count("topics.partitions_added") == 1
