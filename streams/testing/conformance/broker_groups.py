"""Promises about groups: who owns what, from where it is read, and who may commit."""

from __future__ import annotations

import pytest

from streams.broker.port import (
    Committed,
    Log,
    Outgoing,
    TopicPartition,
    TopicSpec,
    Transaction,
)
from streams.clock import Clock
from streams.errors import Fenced, LogError, OffsetLost
from streams.testing.conformance.broker_ground import BrokerGround


class GroupPromises(BrokerGround):
    """What members of a group may rely on."""

    async def test_a_first_member_gets_all_partitions_without_positions(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """None says that the group never committed there; reading begins at the low watermark."""
        await log.create_topics([TopicSpec(topic, 2)])
        await log.publish([Outgoing(topic, None, b"%d" % n, partition=n) for n in (0, 1)])
        member = await self.member(log, group, "m", topic)
        await self.settle(clock, {member: {0, 1}})
        assert set(member.owned.values()) == {None}
        assert sorted(await self.receive(clock, member, 2), key=repr) == [b"0", b"1"]
        assert await log.members(group) == ["m"]
        await member.consumer.close()

    async def test_reading_goes_on_where_the_group_committed(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """A restarted worker neither skips nor repeats what was committed."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        await log.publish([Outgoing(topic, None, b"%d" % n) for n in range(3)])
        first = await self.member(log, group, "m", topic)
        await self.receive(clock, first, 3)
        producer = await log.producer(topic)
        await producer.commit(first.transaction({place: first.records[1].offset}))
        await first.consumer.close()
        second = await self.member(log, group, "m", topic)
        assert await self.receive(clock, second, 2) == [b"1", b"2"]
        assert second.owned == {place: Committed(first.records[1].offset)}
        await second.consumer.close()
        await producer.close()

    async def test_two_members_share_the_partitions(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """Each partition has one owner."""
        await log.create_topics([TopicSpec(topic, 4)])
        a = await self.member(log, group, "a", topic)
        await self.settle(clock, {a: {0, 1, 2, 3}})
        b = await self.member(log, group, "b", topic)
        await self.settle(clock, {a: {0, 1}, b: {2, 3}})
        assert sorted(await log.members(group)) == ["a", "b"]
        await a.consumer.close()
        await self.settle(clock, {b: {0, 1, 2, 3}})
        await b.consumer.close()

    async def test_a_partition_is_taken_only_after_it_was_given_up(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """R2: the former owner ends its transaction before the next one reads."""
        await log.create_topics([TopicSpec(topic, 2)])
        a = await self.member(log, group, "a", topic)
        await self.settle(clock, {a: {0, 1}})
        b = await self.member(log, group, "b", topic)

        async def revoked() -> bool:
            await b.poll()
            return bool((await a.poll()).revoked)

        await self.until(clock, revoked)
        assert b.partitions == set()
        await b.poll(0.2)
        assert b.partitions == set(), "taken while the owner still held it"
        await self.settle(clock, {a: {0}, b: {1}})
        await a.consumer.close()
        await b.consumer.close()

    async def test_a_commit_for_a_partition_given_up_is_fenced(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """Whatever was gathered for it belongs to the next owner."""
        await log.create_topics([TopicSpec(topic, 2)])
        place = TopicPartition(topic, 1)
        a = await self.member(log, group, "a", topic)
        await self.settle(clock, {a: {0, 1}})
        stale = a.transaction({place: 7}, Outgoing(topic, None, b"zombie", partition=1))
        b = await self.member(log, group, "b", topic)
        await self.settle(clock, {a: {0}, b: {1}})
        producer = await log.producer(topic)
        with pytest.raises(Fenced):
            await producer.commit(stale)
        assert place not in await log.positions(group)
        assert (await log.watermarks([place]))[place].high <= 1
        for closing in (producer, a.consumer, b.consumer):
            await closing.close()

    async def test_a_silent_member_is_replaced_and_its_commit_fenced(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """A worker that hangs must not hold up its partitions, nor write when it wakes."""
        await log.create_topics([TopicSpec(topic, 2)])
        place = TopicPartition(topic, 1)
        a = await self.member(log, group, "a", topic)
        b = await self.member(log, group, "b", topic)
        await self.settle(clock, {a: {0}, b: {1}})
        stale = b.transaction({place: 7}, Outgoing(topic, None, b"zombie", partition=1))
        await self.settle(clock, {a: {0, 1}})  # b polls no more
        producer = await log.producer(topic)
        with pytest.raises(Fenced):
            await producer.commit(stale)
        assert place not in await log.positions(group)
        for closing in (producer, a.consumer, b.consumer):
            await closing.close()

    async def test_a_member_that_was_expelled_loses_all_and_may_join_again(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """After a long pause the worker forgets what it held and goes on."""
        await log.create_topics([TopicSpec(topic, 2)])
        a = await self.member(log, group, "a", topic)
        b = await self.member(log, group, "b", topic)
        await self.settle(clock, {a: {0}, b: {1}})
        await self.settle(clock, {a: {0, 1}})  # b polls no more

        async def lost() -> bool:
            return TopicPartition(topic, 1) in (await b.poll()).lost

        await self.until(clock, lost)
        await self.settle(clock, {a: {0}, b: {1}})
        await a.consumer.close()
        await b.consumer.close()

    async def test_a_namesake_takes_the_seat_at_once(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """A restarted worker need not wait until its former life is declared dead."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        old = await self.member(log, group, "m", topic)
        await self.settle(clock, {old: {0}})
        stale = old.transaction({place: 7})
        new = await self.member(log, group, "m", topic)
        await self.settle(clock, {new: {0}})
        producer = await log.producer(topic)
        with pytest.raises(Fenced):
            await producer.commit(stale)
        await producer.commit(new.transaction({place: 1}))
        assert await log.positions(group) == {place: Committed(1)}
        await old.consumer.close()
        assert await log.members(group) == ["m"]
        await new.consumer.close()
        await producer.close()

    async def test_a_replaced_member_is_told_so(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """Two workers under one name is a fault of the installation: the older one stops."""
        await log.create_topics([TopicSpec(topic, 1)])
        old = await self.member(log, group, "m", topic)
        await self.settle(clock, {old: {0}})
        new = await self.member(log, group, "m", topic)
        await self.settle(clock, {new: {0}})

        async def fenced() -> bool:
            try:
                await old.poll()
            except Fenced:
                return True
            return False

        await self.until(clock, fenced)
        await new.consumer.close()
        await old.consumer.close()

    async def test_changing_the_subscription_moves_partitions(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """`apply` adds and removes stages while workers run."""
        other = topic + ".other"
        await log.create_topics([TopicSpec(topic, 1), TopicSpec(other, 1)])
        member = await self.member(log, group, "m", topic)
        await self.settle(clock, {member: {0}})
        await member.consumer.subscribe([other])

        async def moved() -> bool:
            await member.poll()
            return set(member.owned) == {TopicPartition(other, 0)}

        await self.until(clock, moved)
        await member.consumer.close()

    async def test_paused_partitions_give_nothing_and_keep_their_place(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """A full lane stops its partition, not the others."""
        await log.create_topics([TopicSpec(topic, 2)])
        member = await self.member(log, group, "m", topic)
        await self.settle(clock, {member: {0, 1}})
        member.consumer.pause([TopicPartition(topic, 0)])
        await log.publish([Outgoing(topic, None, b"%d" % n, partition=n) for n in (0, 1)])
        assert await self.receive(clock, member, 1) == [b"1"]
        await member.poll(0.2)
        assert member.values() == [b"1"]
        member.consumer.resume([TopicPartition(topic, 0)])
        assert await self.receive(clock, member, 2) == [b"1", b"0"]
        await member.consumer.close()

    async def test_seek_repeats_from_an_offset(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """R4: after an abort a keeper reads its inputs again."""
        await log.create_topics([TopicSpec(topic, 1)])
        await log.publish([Outgoing(topic, None, b"%d" % n) for n in range(3)])
        member = await self.member(log, group, "m", topic)
        await self.receive(clock, member, 3)
        member.consumer.seek(TopicPartition(topic, 0), member.records[1].offset)
        assert await self.receive(clock, member, 5) == [b"0", b"1", b"2", b"1", b"2"]
        await member.consumer.close()

    async def test_a_new_group_begins_at_the_low_watermark(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """Nothing was promised about what was trimmed before the group existed."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        await log.publish([Outgoing(topic, None, b"%d" % n) for n in range(3)])
        last = (await self.read(log, clock, 3, place))[2].offset
        await log.trim({place: last})
        member = await self.member(log, group, "m", topic)
        assert await self.receive(clock, member, 1) == [b"2"]
        await member.consumer.close()

    async def test_events_deleted_before_they_were_read_are_never_skipped(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """Guarantee: no silent loss; `streams recover` decides."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        await log.publish([Outgoing(topic, None, b"%d" % n) for n in range(3)])
        second = (await self.read(log, clock, 3, place))[1].offset
        await log.set_positions(group, {place: Committed(0)})
        await log.trim({place: second})
        member = await self.member(log, group, "m", topic)

        async def told() -> bool:
            try:
                await member.poll()
            except OffsetLost:
                return True
            assert member.records == []
            return False

        await self.until(clock, told)
        with pytest.raises(OffsetLost):
            await member.poll()
        await member.consumer.close()
        await log.set_positions(group, {place: Committed(second)})
        after = await self.member(log, group, "m", topic)
        assert await self.receive(clock, after, 2) == [b"1", b"2"]
        await after.consumer.close()

    async def test_a_paused_partition_that_was_deleted_from_does_not_stop_the_others(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """What was lost in one topic that somebody else cleans up concerns that partition."""
        await log.create_topics([TopicSpec(topic, 2)])
        gone, good = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await log.publish([Outgoing(topic, None, b"%d" % n, partition=0) for n in range(3)])
        await log.publish([Outgoing(topic, None, b"good", partition=1)])
        second = (await self.read(log, clock, 3, gone))[1].offset
        await log.set_positions(group, {gone: Committed(0), good: Committed(0)})
        await log.trim({gone: second})
        member = await self.member(log, group, "m", topic)
        while gone not in member.owned:
            await member.poll()
        member.consumer.pause([gone])
        assert await self.receive(clock, member, 1) == [b"good"]
        member.consumer.resume([gone])

        async def told() -> bool:
            try:
                await member.poll()
            except OffsetLost:
                return True
            return False

        await self.until(clock, told)
        assert member.values() == [b"good"]
        await member.consumer.close()

    async def test_positions_are_set_only_while_nobody_reads(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """A running worker would overwrite them with what it holds."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        await log.set_positions(group, {place: Committed(0, "first")})
        assert await log.positions(group) == {place: Committed(0, "first")}
        member = await self.member(log, group, "m", topic)
        await self.settle(clock, {member: {0}})
        with pytest.raises(LogError):
            await log.set_positions(group, {place: Committed(0, "second")})
        await member.consumer.close()

        async def allowed() -> bool:
            try:
                await log.set_positions(group, {place: Committed(0, "third")})
            except LogError:
                return False
            return True

        await self.until(clock, allowed)
        assert await log.positions(group) == {place: Committed(0, "third")}

    async def test_each_record_takes_effect_once_while_members_come_and_go(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """The chain the runtime is built on: read, write and commit, fenced when too late."""
        out = topic + ".out"
        await log.create_topics([TopicSpec(topic, 3), TopicSpec(out, 1)])
        await log.publish([Outgoing(topic, b"%d" % n, b"%d" % n) for n in range(60)])
        seats = 0

        async def work() -> None:
            nonlocal seats
            seats += 1
            producer = await log.producer(f"{topic}.{seats}")
            member = await self.member(log, group, f"m{seats}", topic)
            polls = 10
            while polls:
                poll = await member.consumer.poll(4, 0.02)
                polls -= bool(poll.membership)  # joining may take its time
                if not poll.records:
                    continue
                moved = {r.place: Committed(r.offset + 1) for r in poll.records}
                done = [Outgoing(out, r.key, r.value) for r in poll.records]
                try:
                    await producer.commit(Transaction(done, moved, poll.membership))
                except Fenced:
                    break
            await member.consumer.close()
            await producer.close()

        async def complete() -> bool:
            await work()
            marks = await log.watermarks([TopicPartition(topic, n) for n in range(3)])
            positions = await log.positions(group)
            return all(
                place in positions and positions[place].offset >= mark.high - 1
                for place, mark in marks.items()
            )

        await self.until(clock, complete)
        records = await self.read(log, clock, 60, TopicPartition(out, 0))
        assert sorted(int(r.value or b"") for r in records) == list(range(60))
