"""The promises of `broker.port`, as tests that every adapter passes unchanged.

An adapter's test module makes a subclass whose name begins with `Test`, says its `features`, and
gives the fixture `open_log`: an async function that opens the log under test. Needs pytest and
pytest-asyncio.

Nothing here asks for contiguous offsets, for a visible last stable offset, or for speed: whatever
may take time is asked for again until it is so, for as long as `features.patience`.
"""

from __future__ import annotations

from streams.broker.port import (
    Committed,
    Log,
    Outgoing,
    TopicPartition,
    TopicSpec,
)
from streams.clock import Clock
from streams.testing.conformance.broker_ground import BrokerFeatures, OpenLog
from streams.testing.conformance.broker_groups import GroupPromises
from streams.testing.conformance.broker_records import RecordPromises

__all__ = ["BrokerConformance", "BrokerFeatures", "SharedBrokerConformance"]


class BrokerConformance(RecordPromises, GroupPromises):
    """Subclass me. Each test is one promise."""


class SharedBrokerConformance(BrokerConformance):
    """The same, for a log that outlives the process and that several processes share: `open_log`
    gives another access to the same log each time."""

    async def test_a_log_opened_again_is_as_it_was(
        self, open_log: OpenLog, clock: Clock, topic: str, group: str
    ) -> None:
        """A restart keeps all state."""
        place = TopicPartition(topic, 0)
        first = await open_log()
        await first.create_topics([TopicSpec(topic, 1)])
        await first.publish([Outgoing(topic, b"k", b"v")])
        await first.set_positions(group, {place: Committed(1, "m")})
        await first.close()
        second = await open_log()
        records = await self.read(second, clock, 1, place)
        assert [(r.key, r.value) for r in records] == [(b"k", b"v")]
        assert await second.positions(group) == {place: Committed(1, "m")}
        await second.close()

    async def test_two_accesses_see_each_other(
        self, open_log: OpenLog, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """Several processes are one group."""
        other = await open_log()
        await log.create_topics([TopicSpec(topic, 2)])
        a = await self.member(log, group, "a", topic)
        await self.settle(clock, {a: {0, 1}})
        b = await self.member(other, group, "b", topic)
        await self.settle(clock, {a: {0}, b: {1}})
        await log.publish([Outgoing(topic, None, b"for b", partition=1)])
        await other.publish([Outgoing(topic, None, b"for a", partition=0)])
        assert await self.receive(clock, a, 1) == [b"for a"]
        assert await self.receive(clock, b, 1) == [b"for b"]
        await other.close()
        await self.settle(clock, {a: {0, 1}})
        await a.consumer.close()
