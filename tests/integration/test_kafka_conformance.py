"""The adapter for Kafka keeps the port's promises, on a real broker, and some of its own."""

import asyncio

import pytest

from streams.broker.kafka import KafkaLog
from streams.broker.kafka_backlog import FULL
from streams.broker.port import Committed, Outgoing, TopicPartition, TopicSpec
from streams.clock import SystemClock
from streams.errors import Fenced, LogError, OffsetLost
from streams.testing.conformance.broker import BrokerFeatures, SharedBrokerConformance
from streams.testing.conformance.broker_ground import BrokerGround
from streams.testing.conformance.broker_groups import GroupPromises


class OnKafka:
    """How the log under test is opened."""

    features = BrokerFeatures(patience=60)
    options = {"max.poll.interval.ms": 8_000}

    @pytest.fixture
    def open_log(self, kafka):
        async def opened():
            return KafkaLog.open(kafka, clock=SystemClock(), options=self.options)

        return opened


class TestKafka(OnKafka, SharedBrokerConformance):
    """Static membership, classic protocol: as workers run."""


class WithoutSeats(OnKafka, GroupPromises):
    """Members that leave at once and keep no seat: nobody is anybody's namesake."""

    options = {**OnKafka.options, "streams.static": False}
    test_a_namesake_takes_the_seat_at_once = None
    test_a_replaced_member_is_told_so = None


class TestKafkaWithoutSeats(WithoutSeats):
    """Each rebalance takes all partitions away first."""


class WithOtherShares(WithoutSeats):
    """Who gets which partition follows another rule than the suite's, so that those tests cannot
    be run which name the shares."""

    test_two_members_share_the_partitions = None
    test_a_partition_is_taken_only_after_it_was_given_up = None
    test_a_commit_for_a_partition_given_up_is_fenced = None
    test_a_silent_member_is_replaced_and_its_commit_fenced = None
    test_a_member_that_was_expelled_loses_all_and_may_join_again = None


class TestKafkaCooperative(WithOtherShares):
    """Rebalances that move single partitions."""

    options = {
        **WithoutSeats.options,
        "partition.assignment.strategy": "cooperative-sticky",
    }


class TestKafkaBrokerAssigns(WithOtherShares):
    """KIP-848: the broker assigns; by random names of its own, so nobody knows who gets what."""

    options = {**WithoutSeats.options, "group.protocol": "consumer"}


class TestKafkaItself(OnKafka, BrokerGround):
    """What the port leaves open, or only a real broker shows."""

    async def test_a_cancelled_poll_loses_nothing(self, log, clock, topic, group):
        """The library counts as given what the loop never saw: nobody would read it again."""
        await log.create_topics([TopicSpec(topic, 1)])
        member = await self.member(log, group, "m", topic)
        await self.settle(clock, {member: {0}})
        waiting = asyncio.ensure_future(member.consumer.poll(10, 30))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await log.publish([Outgoing(topic, None, b"v")])
        assert await self.receive(clock, member, 1) == [b"v"]
        await member.consumer.close()

    async def test_a_partition_paused_for_long_gives_everything_in_order(
        self, log, clock, topic, group
    ):
        """What was fetched for it is kept up to a bound; above that the library is paused."""
        await log.create_topics([TopicSpec(topic, 2)])
        member = await self.member(log, group, "m", topic)
        await self.settle(clock, {member: {0, 1}})
        member.consumer.pause([TopicPartition(topic, 0)])
        count = 3 * FULL
        await log.publish([Outgoing(topic, None, b"%d" % n, (), 0) for n in range(count)])
        await log.publish([Outgoing(topic, None, b"other", (), 1)])
        for _ in range(60):
            await member.poll()
        assert member.values() == [b"other"]
        member.consumer.resume([TopicPartition(topic, 0)])
        values = await self.receive(clock, member, count + 1)
        assert values[1:] == [b"%d" % n for n in range(count)]
        await member.consumer.close()

    async def test_one_who_lost_the_group_writes_nothing_at_all(self, log, clock, topic, group):
        """Not even records that are aborted afterwards: they would hold back every reader."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        old = await self.member(log, group, "m", topic)
        await self.settle(clock, {old: {0}})
        stale = old.transaction({place: 7}, Outgoing(topic, None, b"zombie"))
        new = await self.member(log, group, "m", topic)
        await self.settle(clock, {new: {0}})
        producer = await log.producer(topic)
        with pytest.raises(Fenced):
            await producer.commit(stale)
        assert (await log.watermarks([place]))[place] == (0, 0)
        for closing in (producer, old.consumer, new.consumer):
            await closing.close()

    async def test_a_position_beyond_the_end_is_never_moved_in_silence(
        self, log, clock, topic, group
    ):
        """After an unclean election or a topic made anew the log may be shorter than what was
        committed; the library would begin at its end."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        await log.set_positions(group, {place: Committed(50)})
        member = await self.member(log, group, "m", topic)

        async def told():
            try:
                await member.poll()
            except OffsetLost:
                return True
            return False

        await self.until(clock, told)
        await member.consumer.close()

    async def test_an_option_that_the_library_does_not_know_is_named_without_its_value(self, kafka):
        """The value may be a password in the wrong place."""
        with pytest.raises(LogError, match=r"no\.such\.option") as caught:
            KafkaLog.open(kafka, clock=SystemClock(), options={"no.such.option": "hunter2"})
        assert caught.value.code == "K060"
        assert "hunter2" not in str(caught.value)

    async def test_topics_have_append_times_and_the_settings_they_were_made_with(self, log, topic):
        """The port promises append times; the rest is for whoever makes the topic to say."""
        rows = TopicSpec(topic + ".rows", 1, "compact", config={"segment.ms": "3600000"})
        await log.create_topics([TopicSpec(topic, 1), rows])
        found = await log.topics()
        assert found[topic].retention_ms == -1
        assert found[topic].config["message.timestamp.type"] == "LogAppendTime"
        assert found[topic + ".rows"].cleanup == "compact"
        assert found[topic + ".rows"].config["segment.ms"] == "3600000"
