"""Promises about topics, records, readers and transactions."""

from __future__ import annotations

import pytest

from streams.broker.port import (
    Committed,
    Log,
    Outgoing,
    Record,
    TopicPartition,
    TopicSpec,
    Transaction,
)
from streams.clock import Clock
from streams.errors import Fenced, LogError, TopicError
from streams.testing.conformance.broker_ground import BrokerGround


class RecordPromises(BrokerGround):
    """What stands in the log, and how it gets there."""

    # Topics

    async def test_a_created_topic_is_listed_as_it_was_asked_for(
        self, log: Log, topic: str
    ) -> None:
        """The layout record is checked against what the log says."""
        await log.create_topics([TopicSpec(topic, 3, "compact")])
        spec = (await log.topics())[topic]
        assert (spec.name, spec.partitions, spec.cleanup) == (topic, 3, "compact")

    async def test_creating_a_topic_again_changes_nothing(self, log: Log, topic: str) -> None:
        """Every worker creates what it needs at its start."""
        await log.create_topics([TopicSpec(topic, 2)])
        await log.publish([Outgoing(topic, b"k", b"v")])
        await log.create_topics([TopicSpec(topic, 2)])
        marks = await log.watermarks([TopicPartition(topic, 0), TopicPartition(topic, 1)])
        assert max(mark.high for mark in marks.values()) >= 1

    async def test_a_topic_with_other_partitions_is_refused(self, log: Log, topic: str) -> None:
        """The partition of a scope is fixed by the layout; a silent change would split rows."""
        await log.create_topics([TopicSpec(topic, 2)])
        with pytest.raises(TopicError):
            await log.create_topics([TopicSpec(topic, 3)])

    async def test_a_deleted_topic_is_gone(self, log: Log, clock: Clock, topic: str) -> None:
        """A stage's topic goes when no plan names it any more."""
        await log.create_topics([TopicSpec(topic, 1)])
        await log.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await log.topics()

        await self.until(clock, gone)

    async def test_publishing_to_a_missing_topic_is_an_error(self, log: Log, topic: str) -> None:
        """KT-3: topics come from the topology, never from a typing error."""
        with pytest.raises(LogError):
            await log.publish([Outgoing(topic, b"k", b"v")])

    # Records and readers

    async def test_records_come_back_as_they_were_written(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """Bytes, missing values and repeated headers survive: the codec decides what they mean."""
        await log.create_topics([TopicSpec(topic, 1)])
        headers = (("ce_id", b"\x00\xff"), ("twice", b"1"), ("twice", None), ("ü", b""))
        await log.publish(
            [
                Outgoing(topic, b"key", b"value", headers),
                Outgoing(topic, None, b""),
                Outgoing(topic, b"", None),
            ]
        )
        records = await self.read(log, clock, 3, TopicPartition(topic, 0))
        assert [(r.key, r.value, r.headers) for r in records] == [
            (b"key", b"value", headers),
            (None, b"", ()),
            (b"", None, ()),
        ]

    async def test_offsets_rise_and_times_never_fall(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """The keeper takes the highest append time it saw for now."""
        await log.create_topics([TopicSpec(topic, 1)])
        for number in range(5):
            await log.publish([Outgoing(topic, None, b"%d" % number)] * 2)
        records = await self.read(log, clock, 10, TopicPartition(topic, 0))
        offsets = [record.offset for record in records]
        times = [record.timestamp for record in records]
        assert offsets == sorted(set(offsets))
        assert times == sorted(times)
        assert times[0] > 1_600_000_000_000

    async def test_a_key_goes_to_the_partition_that_kafka_gives_it(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """Foreign producers and ours must agree on where a key lives."""
        await log.create_topics([TopicSpec(topic, 7)])
        await log.publish(
            [
                Outgoing(topic, b"foobar", b"1"),
                Outgoing(topic, b"abc", b"2"),
                Outgoing(topic, None, b"3"),
                Outgoing(topic, b"abc", b"4", partition=5),
            ]
        )
        places = [TopicPartition(topic, number) for number in range(7)]
        records = await self.read(log, clock, 4, *places)
        assert {r.value: r.partition for r in records} == {b"1": 0, b"2": 4, b"3": 0, b"4": 5}

    async def test_a_record_over_the_limit_is_refused_whole(self, log: Log, topic: str) -> None:
        """Large data belongs into the blob store; the error comes before anything is written."""
        await log.create_topics([TopicSpec(topic, 1)])
        producer = await log.producer(topic)
        large = Outgoing(topic, b"k", b"x" * self.features.too_large)
        with pytest.raises(LogError):
            await producer.commit(Transaction([large]))
        await producer.close()

    async def test_a_reader_starts_where_it_is_told(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """A table goes on from its snapshot's offset."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        await log.publish([Outgoing(topic, None, b"%d" % n) for n in range(4)])
        third = (await self.read(log, clock, 4, place))[2].offset
        reader = log.reader()
        reader.assign({place: third})
        values: list[bytes | None] = []

        async def done() -> bool:
            values.extend(r.value for r in await reader.poll(1, 0.05))
            return len(values) >= 2

        await self.until(clock, done)
        assert values == [b"2", b"3"]
        assert await reader.poll(10, 0.05) == []

    async def test_a_position_reaches_the_high_watermark_over_gaps(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """A restore ends by comparing positions, never by counting records."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        producer = await log.producer(topic)
        await producer.commit(Transaction([Outgoing(topic, b"k", b"v")]))
        await producer.close()
        await self.read(log, clock, 1, place)  # ends only when the position is there

    async def test_a_waiting_reader_gets_what_is_written_meanwhile(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """A tail shows news without asking again."""
        await log.create_topics([TopicSpec(topic, 2)])
        reader = log.reader()
        reader.assign({TopicPartition(topic, 0): 0, TopicPartition(topic, 1): 0})
        assert await reader.poll(10, 0) == []
        await log.publish([Outgoing(topic, None, b"news", partition=1)])
        records: list[Record] = []

        async def done() -> bool:
            records.extend(await reader.poll(10, 5))
            return bool(records)

        await self.until(clock, done)
        assert [record.value for record in records] == [b"news"]

    async def test_a_trimmed_partition_begins_at_its_low_watermark(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """KT-3: owners trim below their frontier."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        await log.publish([Outgoing(topic, None, b"%d" % n) for n in range(4)])
        third = (await self.read(log, clock, 4, place))[2].offset
        await log.trim({place: third})

        async def trimmed() -> bool:
            return (await log.watermarks([place]))[place].low == third

        await self.until(clock, trimmed)
        records = await self.read(log, clock, 2, place)
        assert [record.value for record in records] == [b"2", b"3"]

    async def test_the_offset_of_a_time_is_that_of_the_first_record_since(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """Who begins to read at a time misses nothing of it, and begins at the end of a log that
        has nothing so new."""
        await log.create_topics([TopicSpec(topic, 2)])
        place, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await log.publish([Outgoing(topic, None, b"old", partition=0)])
        await clock.sleep(0.05)
        await log.publish([Outgoing(topic, None, b"new", partition=0)])
        old, new = await self.read(log, clock, 2, place)
        high = (await log.watermarks([place]))[place].high
        asked = {old.timestamp: old.offset, old.timestamp + 1: new.offset}
        asked[new.timestamp + 60_000] = high
        for time, offset in asked.items():
            assert await log.offsets_at({place: time, empty: time}) == {place: offset, empty: 0}

    async def test_the_high_watermark_lies_behind_the_last_record(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """An empty partition has both marks at the same place."""
        await log.create_topics([TopicSpec(topic, 1)])
        place = TopicPartition(topic, 0)
        empty = (await log.watermarks([place]))[place]
        assert empty.low == empty.high
        await log.publish([Outgoing(topic, None, b"v")])
        (record,) = await self.read(log, clock, 1, place)
        assert (await log.watermarks([place]))[place].high > record.offset

    async def test_compaction_keeps_the_newest_record_of_each_key(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """The ledger is a compacted topic: its newest rows are the state."""
        if self.features.compact is None:
            pytest.skip("compaction cannot be asked for here")
        await log.create_topics([TopicSpec(topic, 1, "compact")])
        for value in (b"1", b"2", b"3"):
            await log.publish([Outgoing(topic, b"a", value), Outgoing(topic, b"b", value)])
        await log.publish([Outgoing(topic, b"c", b"4")])
        await self.features.compact(log)
        records = await self.read(log, clock, 3, TopicPartition(topic, 0))
        assert [(r.key, r.value) for r in records] == [(b"a", b"3"), (b"b", b"3"), (b"c", b"4")]

    # Transactions

    async def test_an_empty_transaction_is_fine(self, log: Log, topic: str) -> None:
        """A step may decide to write nothing."""
        producer = await log.producer(topic)
        await producer.commit(Transaction())
        await producer.close()

    async def test_records_and_offsets_become_visible_together(
        self, log: Log, clock: Clock, topic: str, group: str
    ) -> None:
        """One transaction per step: outputs and the input's position."""
        await log.create_topics([TopicSpec(topic, 1), TopicSpec(topic + ".out", 1)])
        place = TopicPartition(topic, 0)
        await log.publish([Outgoing(topic, None, b"in")])
        member = await self.member(log, group, "m", topic)
        await self.receive(clock, member, 1)
        producer = await log.producer(topic)
        after = member.records[0].offset + 1
        out = Outgoing(topic + ".out", b"k", b"out")
        await producer.commit(Transaction([out], {place: Committed(after, "v;0;ä")}, member.proof))
        assert await member.consumer.committed([place]) == {place: Committed(after, "v;0;ä")}
        assert (await log.positions(group))[place] == Committed(after, "v;0;ä")
        records = await self.read(log, clock, 1, TopicPartition(topic + ".out", 0))
        assert [record.value for record in records] == [b"out"]
        await member.consumer.close()

    async def test_a_refused_transaction_leaves_nothing(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """Half a step would be a lost or a doubled event."""
        await log.create_topics([TopicSpec(topic, 1)])
        producer = await log.producer(topic)
        half = Outgoing(topic, None, b"half")
        with pytest.raises(LogError):
            await producer.commit(Transaction([half, Outgoing(topic + ".missing", None, b"x")]))
        await producer.close()
        await log.publish([Outgoing(topic, None, b"whole")])
        records = await self.read(log, clock, 1, TopicPartition(topic, 0))
        assert [record.value for record in records] == [b"whole"]

    async def test_opening_a_producer_fences_its_namesake(
        self, log: Log, clock: Clock, topic: str
    ) -> None:
        """R3: the slot's next process ends what the former one left open."""
        await log.create_topics([TopicSpec(topic, 1)])
        old = await log.producer(topic)
        await old.commit(Transaction([Outgoing(topic, None, b"old")]))
        new = await log.producer(topic)
        with pytest.raises(Fenced):
            await old.commit(Transaction([Outgoing(topic, None, b"zombie")]))
        await new.commit(Transaction([Outgoing(topic, None, b"new")]))
        records = await self.read(log, clock, 2, TopicPartition(topic, 0))
        assert [record.value for record in records] == [b"old", b"new"]
        await old.close()
        await new.close()

    async def test_closing_a_producer_twice_raises_nothing(self, log: Log, topic: str) -> None:
        """A shutdown path must not fail."""
        producer = await log.producer(topic)
        await producer.close()
        await producer.close()
