"""A log whose transactions fail when told to, around any real one.

What a broker does once a month, a test needs at every commit: a transaction that was surely
aborted, one whose outcome nobody knows (committed or not), a producer that was fenced, a commit
that hangs, a reader that lags. Everything else is the real log's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum

from streams.broker.port import (
    Committed,
    Consumer,
    Log,
    Outgoing,
    Poll,
    Producer,
    Reader,
    Record,
    TopicPartition,
    TopicSpec,
    Transaction,
    Watermarks,
)
from streams.clock import Clock
from streams.errors import Fenced, LogUnavailable, OutcomeUnknown, TransactionAborted


class Fault(Enum):
    """What happens to a commit."""

    ABORTED = "surely not committed"
    UNKNOWN = "not committed, but nobody knows"
    UNKNOWN_COMMITTED = "committed, but nobody knows"
    FENCED = "refused: somebody else is the owner now"
    LATE = "nobody knows; the end of the transaction arrives later, unless it was ended before"
    """Of a `SimulatedLog` only, as the next one."""
    HANG = "never comes back; its transaction stays open until its time is over"


Choose = Callable[[str, int, Transaction], Fault | None]
"""Producer's id, which of its commits this is (from 1, over all producers of that id), and what
it is to commit."""


class FaultyLog:
    """A log around another. `choose` says which commits fail; closing it closes the inner one."""

    def __init__(self, inner: Log, clock: Clock, choose: Choose | None = None) -> None:
        self.inner = inner
        self.clock = clock
        self.choose: Choose = choose or (lambda *_: None)
        self.tried: dict[str, int] = {}
        """Producer's id → commits asked for so far."""
        self.opened: dict[str, int] = {}
        """Producer's id → how often it was opened."""
        self.stuck: set[str] = set()
        """Producers whose commits do not reach the log, nor come back, for as long as they are
        in it."""
        self.muted: set[str] = set()
        """Topics of which readers (not consumers) are given nothing for now."""
        self.killed: set[str] = set()
        """Members that do not leave their groups when they are closed."""
        self.down = False
        """Whatever asks the log for something is told `LogUnavailable`."""

    def check(self) -> None:
        """Raises while the log is down."""
        if self.down:
            raise LogUnavailable("the log is down, as was asked for")

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        self.check()
        await self.inner.create_topics(specs)

    async def topics(self) -> dict[str, TopicSpec]:
        self.check()
        return await self.inner.topics()

    async def delete_topics(self, names: Collection[str]) -> None:
        self.check()
        await self.inner.delete_topics(names)

    async def watermarks(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Watermarks]:
        self.check()
        return await self.inner.watermarks(places)

    async def offsets_at(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        self.check()
        return await self.inner.offsets_at(times)

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        self.check()
        await self.inner.trim(before)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self.check()
        await self.inner.publish(records)

    async def positions(self, group: str) -> dict[TopicPartition, Committed]:
        self.check()
        return await self.inner.positions(group)

    async def set_positions(
        self, group: str, positions: Mapping[TopicPartition, Committed]
    ) -> None:
        self.check()
        await self.inner.set_positions(group, positions)

    async def members(self, group: str) -> list[str]:
        self.check()
        return await self.inner.members(group)

    def consumer(self, group: str, member: str) -> Consumer:
        """A member of the inner log's group that hears when the log is down."""
        return FaultyConsumer(self, member, self.inner.consumer(group, member))

    async def producer(self, transactional_id: str) -> Producer:
        """A producer of the inner log, with the faults of this one."""
        self.check()
        self.opened[transactional_id] = self.opened.get(transactional_id, 0) + 1
        return FaultyProducer(self, transactional_id, await self.inner.producer(transactional_id))

    def reader(self) -> Reader:
        """A reader of the inner log that is given nothing of muted topics."""
        return LaggingReader(self, self.inner.reader())

    async def close(self) -> None:
        await self.inner.close()


class FaultyProducer:
    """Commits as its log says."""

    def __init__(self, log: FaultyLog, name: str, inner: Producer) -> None:
        self._log = log
        self._name = name
        self._inner = inner

    async def commit(self, transaction: Transaction) -> None:
        """As the inner one, or with the fault that was chosen for this commit."""
        number = self._log.tried[self._name] = self._log.tried.get(self._name, 0) + 1
        fault = self._log.choose(self._name, number, transaction)
        if fault in {Fault.LATE, Fault.HANG}:
            raise ValueError(f"{fault} needs transactions that stay open: take a SimulatedLog")
        while self._name in self._log.stuck:
            await self._log.clock.sleep(0.05)
        if self._log.down:
            raise TransactionAborted("the log is down, as was asked for")
        if fault is Fault.ABORTED:
            raise TransactionAborted("a fault was asked for")
        if fault is Fault.FENCED:
            raise Fenced("a fault was asked for")
        if fault is Fault.UNKNOWN:
            raise OutcomeUnknown("a fault was asked for")
        await self._inner.commit(transaction)
        if fault is Fault.UNKNOWN_COMMITTED:
            raise OutcomeUnknown("a fault was asked for")

    async def close(self) -> None:
        await self._inner.close()


class FaultyConsumer:
    """Reads as its log lets it."""

    def __init__(self, log: FaultyLog, member: str, inner: Consumer) -> None:
        self._log = log
        self._member = member
        self._inner = inner

    async def subscribe(self, topics: Collection[str]) -> None:
        self._log.check()
        await self._inner.subscribe(topics)

    async def poll(self, max_records: int, timeout: float) -> Poll:
        """As the inner one, unless the log is down."""
        self._log.check()
        return await self._inner.poll(max_records, timeout)

    def pause(self, places: Iterable[TopicPartition]) -> None:
        self._inner.pause(places)

    def resume(self, places: Iterable[TopicPartition]) -> None:
        self._inner.resume(places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._inner.seek(place, offset)

    async def committed(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed | None]:
        self._log.check()
        return await self._inner.committed(places)

    async def close(self) -> None:
        """Who was killed does not leave: the others have to wait for the end of its session."""
        if self._member not in self._log.killed:
            await self._inner.close()


class LaggingReader:
    """Reads what is not muted."""

    def __init__(self, log: FaultyLog, inner: Reader) -> None:
        self._log = log
        self._inner = inner
        self._topics: set[str] = set()

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._topics = {place.topic for place in positions}
        self._inner.assign(positions)

    async def poll(self, max_records: int, timeout: float) -> list[Record]:
        """Nothing while one of its topics is muted."""
        self._log.check()
        if self._topics & self._log.muted:
            await self._log.clock.sleep(timeout)
            return []
        return await self._inner.poll(max_records, timeout)

    def position(self, place: TopicPartition) -> int:
        return self._inner.position(place)

    async def close(self) -> None:
        await self._inner.close()
