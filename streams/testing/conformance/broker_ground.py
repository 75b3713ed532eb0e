"""What the tests of the log's promises stand on: features, members, and waiting until it is so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from streams.broker.port import (
    Committed,
    Consumer,
    Log,
    Membership,
    Outgoing,
    Poll,
    Record,
    TopicPartition,
    Transaction,
)
from streams.clock import Clock, SystemClock

OpenLog = Callable[[], Awaitable[Log]]


class BrokerFeatures(msgspec.Struct, frozen=True):
    """What an adapter can do beyond the promises, or how long it may take."""

    patience: float = 60.0
    """Seconds after which something that should happen is held not to happen."""
    compact: Callable[[Any], Awaitable[object]] | None = None
    """Makes compaction happen now, where that can be asked for."""
    too_large: int = 17 * 1024 * 1024
    """A value of this many bytes is refused."""


class Member:
    """A consumer, with what it was given so far."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.owned: dict[TopicPartition, Committed | None] = {}
        self.records: list[Record] = []
        self.proof: Membership | None = None
        self.last = Poll()

    async def poll(self, timeout: float = 0.05) -> Poll:
        """One poll, minded: what was revoked or lost is not owned any more."""
        self.last = poll = await self.consumer.poll(100, timeout)
        for place in poll.lost | poll.revoked:
            self.owned.pop(place, None)
        self.owned.update(poll.assigned)
        self.records += poll.records
        self.proof = poll.membership
        return poll

    @property
    def partitions(self) -> set[int]:
        """The numbers of the partitions it owns."""
        return {place.partition for place in self.owned}

    def values(self) -> list[bytes | None]:
        """The values it read, in the order in which it got them."""
        return [record.value for record in self.records]

    def transaction(self, offsets: dict[TopicPartition, int], *records: Outgoing) -> Transaction:
        """A transaction under the latest proof."""
        moved = {place: Committed(offset) for place, offset in offsets.items()}
        return Transaction(list(records), moved, self.proof)


class BrokerGround:
    """The fixtures and the patience that all promises share."""

    features = BrokerFeatures()
    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def open_log(self) -> OpenLog:
        """Opens the log under test."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock that the log was given."""
        return SystemClock()

    @pytest_asyncio.fixture
    async def log(self, open_log: OpenLog) -> AsyncIterator[Log]:
        """The log, closed at the end."""
        log = await open_log()
        yield log
        await log.close()

    @pytest.fixture
    def topic(self) -> str:
        """A name no other test has used, even on a cluster that outlives them."""
        return "conform." + SystemClock().new_id()[:12]

    @pytest.fixture
    def group(self, topic: str) -> str:
        """A group of this test alone."""
        return topic + ".group"

    async def until(self, clock: Clock, probe: Callable[[], Awaitable[bool]]) -> None:
        """Returns when `probe` says yes."""
        end = clock.monotonic() + self.features.patience
        while not await probe():
            if clock.monotonic() > end:
                pytest.fail(f"not so after {self.features.patience} s")
            await clock.sleep(0.01)

    async def member(self, log: Log, group: str, name: str, *topics: str) -> Member:
        """A member that has subscribed and not yet polled."""
        consumer = log.consumer(group, name)
        await consumer.subscribe(topics)
        return Member(consumer)

    async def settle(self, clock: Clock, shares: dict[Member, set[int]]) -> None:
        """Polls all members in turn until each owns these partitions."""

        async def settled() -> bool:
            for member in shares:
                await member.poll()
            return all(member.partitions == share for member, share in shares.items())

        await self.until(clock, settled)

    async def receive(self, clock: Clock, member: Member, count: int) -> list[bytes | None]:
        """Polls until the member got `count` records; all their values."""

        async def received() -> bool:
            if len(member.records) < count:
                await member.poll()
            return len(member.records) >= count

        await self.until(clock, received)
        return member.values()

    async def read(
        self, log: Log, clock: Clock, count: int, *places: TopicPartition
    ) -> list[Record]:
        """At least `count` records of these partitions, and what else is visible by then."""
        reader = log.reader()
        reader.assign(dict.fromkeys(places, 0))
        records: list[Record] = []
        marks = await log.watermarks(places)

        async def done() -> bool:
            records.extend(await reader.poll(1000, 0.05))
            whole = all(reader.position(place) >= marks[place].high for place in places)
            return whole and len(records) >= count

        await self.until(clock, done)
        await reader.close()
        return records
