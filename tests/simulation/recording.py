"""A log in memory that writes down everything about a run: what a `History` is dumped from.

Each record is stamped with the transaction it came in; the stamps are taken off in the dump. The
offsets of records that were never committed are some that the log left out, as Kafka's would be.
"""

import msgspec

from streams.broker.local import LocalLog
from streams.broker.port import Outgoing, TopicPartition, partition_for
from streams.errors import Fenced, TransactionAborted
from streams.testing.faults import FaultyLog
from streams.testing.history import Appended, Read, TransactionSeen

STAMP = "test-transaction"
ROOM = 60
"""Offsets left out behind each commit: room for records of transactions that are aborted there."""


class Tried(msgspec.Struct):
    """A transaction as its producer asked for it."""

    id: int
    producer: str
    transaction: object
    before: dict
    began: int
    ended: int = 0
    outcome: str = "open"


class RecordingLog(FaultyLog):
    """`FaultyLog` with a memory. Transactions are numbered from 1, publications from -1."""

    @classmethod
    def in_memory(cls, clock):
        return cls(LocalLog.open(None, clock=clock, offset_gaps=ROOM), clock)

    def __init__(self, inner, clock):
        super().__init__(inner, clock)
        self.tried_transactions = {}
        self.publications = 0
        self.reads = []
        self.readers = 0
        self.order = []
        """Numbers of all that was appended or given up, in the order of their ends."""

    async def publish(self, records):
        self.publications += 1
        number = -self.publications
        await super().publish([stamped(record, number) for record in records])
        self.order.append(number)

    async def producer(self, transactional_id):
        return RecordingProducer(self, transactional_id, await super().producer(transactional_id))

    def consumer(self, group, member):
        return RecordingConsumer(self, member, super().consumer(group, member))

    def reader(self):
        self.readers += 1
        return RecordingReader(self, f"reader {self.readers}", super().reader())

    async def commit(self, producer, transaction, commit):
        """Runs `commit`, with everything about it noted."""
        number = len(self.tried_transactions) + 1
        before = {}
        if transaction.membership is not None:
            stood = await self.inner.positions(transaction.membership.group)
            before = {place: stood.get(place) for place in transaction.offsets}
        now = self.clock.now
        tried = Tried(number, producer, transaction, before, now())
        self.tried_transactions[number] = tried
        records = [stamped(record, number) for record in transaction.records]
        try:
            await commit(msgspec.structs.replace(transaction, records=records))
            tried.outcome = "committed"
        except (TransactionAborted, Fenced):
            tried.outcome = "aborted"
            raise
        finally:
            # An outcome that nobody knew: the log knows it, see `dump`.
            tried.ended = now()
            self.order.append(number)

    async def dump(self):
        """(records, transactions, reads) of the run so far."""
        found = await self._stamped_records()
        ends = {}
        records = []
        for number in self.order:
            tried = self.tried_transactions.get(number)
            there = found.pop(number, [])
            if tried is not None and there:
                tried.outcome = "committed"
            if tried is not None and not there and tried.transaction.records:
                there = self._never(tried, ends)
                tried.outcome = "aborted" if tried.outcome == "committed" else tried.outcome
            for record in there:
                ends[record.place] = (record.offset, record.timestamp)
            records += there
        assert not found, found
        transactions = {t.id: self._seen(t) for t in self.tried_transactions.values()}
        reads = [
            Read(who=who, place=place, generation=generation, offsets=tuple(offsets))
            for who, place, generation, offsets in self.reads
        ]
        return records, transactions, reads

    async def _stamped_records(self):
        found = {}
        for topic, spec in (await self.inner.topics()).items():
            places = [TopicPartition(topic, p) for p in range(spec.partitions)]
            marks = await self.inner.watermarks(places)
            reader = self.inner.reader()
            reader.assign({place: marks[place].low for place in places})
            while any(reader.position(place) < marks[place].high for place in places):
                for record in await reader.poll(10_000, 0):
                    number = int(dict(record.headers)[STAMP])
                    found.setdefault(number, []).append(appended(record, number))
            await reader.close()
        return found

    def _never(self, tried, ends):
        """The records of a transaction that did not come to be, where they would have stood."""
        there = []
        for one in tried.transaction.records:
            partition = one.partition
            if partition is None:
                partition = partition_for(one.key, self.width)
            place = TopicPartition(one.topic, partition)
            # In a partition where nothing stands yet there is no room but before the first offset.
            offset, timestamp = ends.get(place, (-ROOM, 0))
            ends[place] = (offset + 1, max(timestamp, tried.ended))
            there.append(
                Appended(
                    place=place, offset=offset + 1, timestamp=ends[place][1], key=one.key,
                    value=one.value, headers=one.headers, transaction=tried.id,
                )
            )  # fmt: skip
        return there

    def _seen(self, tried):
        t = tried.transaction
        return TransactionSeen(
            id=tried.id, producer=tried.producer, outcome=tried.outcome, offsets=dict(t.offsets),
            before=tried.before, membership=t.membership,
            generation=t.membership.generation if t.membership else 0,
            began=tried.began, ended=tried.ended,
        )  # fmt: skip


class RecordingProducer:
    def __init__(self, log, name, inner):
        self.log, self.name, self.inner = log, name, inner

    async def commit(self, transaction):
        await self.log.commit(self.name, transaction, self.inner.commit)

    async def close(self):
        await self.inner.close()


class RecordingConsumer:
    """Notes what it was given, anew for each assignment."""

    def __init__(self, log, member, inner):
        self.log, self.member, self.inner, self.open = log, member, inner, {}
        self.subscribe, self.pause, self.resume = inner.subscribe, inner.pause, inner.resume
        self.seek, self.committed, self.close = inner.seek, inner.committed, inner.close

    async def poll(self, max_records, timeout):
        poll = await self.inner.poll(max_records, timeout)
        for place in poll.assigned:
            generation = poll.membership.generation if poll.membership else 0
            self.open[place] = []
            self.log.reads.append((self.member, place, generation, self.open[place]))
        for record in poll.records:
            self.open[record.place].append(record.offset)
        return poll


class RecordingReader:
    """Notes what it was given, anew for each `assign`."""

    def __init__(self, log, name, inner):
        self.log, self.name, self.inner, self.open, self.times = log, name, inner, {}, 0
        self.position, self.close = inner.position, inner.close

    def assign(self, positions):
        self.inner.assign(positions)
        self.times += 1
        self.open = {place: [] for place in positions}
        self.log.reads += [(self.name, place, self.times, o) for place, o in self.open.items()]

    async def poll(self, max_records, timeout):
        records = await self.inner.poll(max_records, timeout)
        for record in records:
            self.open[record.place].append(record.offset)
        return records


def stamped(record, number):
    return Outgoing(
        record.topic,
        record.key,
        record.value,
        (*(pair for pair in record.headers if pair[0] != STAMP), (STAMP, str(number).encode())),
        record.partition,
    )


def appended(record, number):
    return Appended(
        place=record.place, offset=record.offset, timestamp=record.timestamp, key=record.key,
        value=record.value, headers=tuple(pair for pair in record.headers if pair[0] != STAMP),
        transaction=max(number, 0),
    )  # fmt: skip
