"""Transactions of the simulated log, as Kafka's transaction coordinator runs them.

A transaction is open from its first record to its end: its records have offsets and hide whatever
comes later in their partitions, its positions are not stable. It ends when its producer says so,
when a namesake is opened, or when it has been open for too long; the latter two raise the epoch of
the id, so that its producer is fenced whatever it tries next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from streams.broker.port import Committed, Membership, Record, TopicPartition
from streams.clock import Clock
from streams.errors import Fenced
from streams.testing.history import Outcome, TransactionSeen
from streams.testing.simulated_groups import Group, Groups
from streams.testing.simulated_records import Partition, Target, Topics

Decided = Callable[["Pending"], None]


class Pending:
    """One transaction. `outcome` is decided before its markers are `landed`."""

    __slots__ = (
        "before", "began", "ended", "epoch", "generation", "group", "landed", "membership",
        "number", "offsets", "opened", "outcome", "process", "producer", "records", "waiting",
    )  # fmt: skip

    def __init__(self, number: int, producer: str, epoch: int, process: str) -> None:
        self.number = number
        self.producer = producer
        self.epoch = epoch
        self.process = process
        self.began = self.ended = 0
        self.opened = 0.0
        self.records: dict[Partition, list[Record]] = {}
        self.group: Group | None = None
        self.membership: Membership | None = None
        self.generation = 0
        self.offsets: Mapping[TopicPartition, Committed] = {}
        self.before: dict[TopicPartition, Committed | None] = {}
        self.outcome: Outcome = "open"
        self.landed = False
        self.waiting: asyncio.Future[None] | None = None

    def seen(self) -> TransactionSeen:
        """How it went, in the words of the history."""
        return TransactionSeen(
            id=self.number,
            producer=self.producer,
            outcome=self.outcome,
            offsets=dict(sorted(self.offsets.items())),
            before=dict(sorted(self.before.items())),
            membership=self.membership,
            generation=self.generation,
            began=self.began,
            ended=self.ended,
        )


class Transactions:
    """All producers' ids and transactions of a broker."""

    def __init__(
        self, clock: Clock, topics: Topics, groups: Groups, timeout: float, decided: Decided
    ) -> None:
        self.open: dict[int, Pending] = {}
        """Not landed yet, oldest first."""
        self.timed_out = 0
        """How many were aborted because they had been open for too long."""
        self._clock = clock
        self._topics = topics
        self._groups = groups
        self._timeout = timeout
        self._decided = decided
        self._epochs: dict[str, int] = {}
        self._latest: dict[str, Pending] = {}
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None

    # -- ids ----------------------------------------------------------------------------------

    async def init(self, producer: str) -> int:
        """The epoch of a new producer of this id; what its namesake left open is aborted."""
        epoch = self._raise_epoch(producer)
        await self._ready(producer)
        return epoch

    def check_epoch(self, producer: str, epoch: int) -> None:
        """`Fenced` unless this is the latest epoch of the id."""
        if self._epochs.get(producer) != epoch:
            raise Fenced(f"another producer {producer} was opened, or its transaction timed out")

    def _raise_epoch(self, producer: str) -> int:
        epoch = self._epochs[producer] = self._epochs.get(producer, 0) + 1
        latest = self._latest.get(producer)
        if latest is not None and latest.outcome == "open":
            self.end(latest, "aborted")
        return epoch

    async def _ready(self, producer: str) -> None:
        """Returns when no marker of the id is still under way."""
        latest = self._latest.get(producer)
        while latest is not None and latest.outcome != "open" and not latest.landed:
            if latest.waiting is None:
                latest.waiting = asyncio.get_running_loop().create_future()
            await asyncio.shield(latest.waiting)

    # -- one transaction ----------------------------------------------------------------------

    async def begin(self, producer: str, epoch: int, process: str) -> Pending:
        """An open transaction; what this producer itself left open is aborted."""
        self.check_epoch(producer, epoch)
        latest = self._latest.get(producer)
        if latest is not None and not latest.landed:
            if latest.outcome == "open":
                self.end(latest, "aborted")
            await self._ready(producer)
            self.check_epoch(producer, epoch)
        self._numbers += 1
        pending = Pending(self._numbers, producer, epoch, process)
        pending.began = self._clock.now()
        pending.opened = self._clock.monotonic()
        self._latest[producer] = self.open[pending.number] = pending
        return pending

    def produce(self, pending: Pending, targets: Sequence[Target]) -> list[Record]:
        """The records have their offsets."""
        self._check_open(pending)
        now, number, records = self._clock.now(), pending.number, pending.records
        added = []
        for partition, one in targets:
            record = partition.append(one, now, number)
            added.append(record)
            mine = records.get(partition)
            if mine is None:
                records[partition] = [record]
            else:
                mine.append(record)
        for partition in records:
            partition.settle()
        return added

    def add_offsets(
        self,
        pending: Pending,
        membership: Membership,
        offsets: Mapping[TopicPartition, Committed],
    ) -> None:
        """The positions will be those of the group; `Fenced` if the member may not say so."""
        self._check_open(pending)
        group = self._groups.check(membership)
        pending.group, pending.membership = group, membership
        pending.generation = group.generation
        pending.offsets = dict(offsets)
        group.hold(offsets)

    def end(self, pending: Pending, outcome: Outcome, delay: float = 0.0) -> None:
        """It is decided. What readers see of it changes when its markers land, after `delay`."""
        self._check_open(pending)
        pending.outcome = outcome
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, self._land, pending)
        else:
            self._land(pending)

    def _check_open(self, pending: Pending) -> None:
        if pending.outcome != "open":
            raise Fenced(f"the transaction of {pending.producer} was ended by somebody else")

    def _land(self, pending: Pending) -> None:
        aborted = pending.outcome == "aborted"
        pending.landed = True
        pending.ended = self._clock.now()
        for partition, records in pending.records.items():
            partition.end(pending.number, records if aborted else ())
        moved = [partition for partition in pending.records if partition.settle()]
        group = pending.group
        if group is not None:
            pending.before = {place: group.positions.get(place) for place in pending.offsets}
            if not aborted:
                group.positions.update(pending.offsets)
            group.release(pending.offsets)
        del self.open[pending.number]
        self._decided(pending)
        for partition in moved:
            for watcher in partition.watchers:
                watcher.wake()
        if pending.waiting is not None:
            pending.waiting.set_result(None)

    # -- time ---------------------------------------------------------------------------------

    def watch(self) -> None:
        """Open transactions are aborted when their time is over. To be called by whoever lets
        time pass while one is open."""
        if self._timer is None:
            self._set_timer()

    def close(self) -> None:
        """Time ends nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        oldest = next((p for p in self.open.values() if p.outcome == "open"), None)
        self._timer = None
        if oldest is not None:
            left = max(0.0, oldest.opened + self._timeout - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(left, self._time_out)

    def _time_out(self) -> None:
        limit = self._clock.monotonic() - self._timeout + 1e-6
        for pending in list(self.open.values()):
            if pending.opened <= limit and pending.outcome == "open":
                self.timed_out += 1
                self._raise_epoch(pending.producer)
        self._set_timer()
