"""The state of a simulated log, and what all its clients share: arriving, waiting, writing."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence

from streams.broker.port import Outgoing, Record, TopicPartition
from streams.clock import Clock
from streams.errors import Fenced, LogError, LogUnavailable, OutcomeUnknown, TransactionAborted
from streams.testing.faults import Fault
from streams.testing.simulated_faults import Call, Faults
from streams.testing.simulated_groups import Groups, Rebalance
from streams.testing.simulated_process import Process
from streams.testing.simulated_recording import Recording
from streams.testing.simulated_records import Partition, Target, Topics
from streams.testing.simulated_transactions import Pending, Transactions

OF_ITS_OWN = -1
"""The number of a transaction that nobody else can meet."""


class Broker:
    """One cluster, without the clients that use it."""

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int,
        record: bool,
        rebalance: Rebalance,
        session: float,
        poll_interval: float,
        transaction_timeout: float,
        record_limit: int,
    ) -> None:
        self.clock = clock
        self.random = random.Random(seed)
        self.faults = Faults()
        self.recording = Recording(on=record)
        self.processes: dict[str, Process] = {}
        self.topics = Topics(record_limit)
        self.groups = Groups(self.topics, rebalance, session, poll_interval, self.changed)
        self.transactions = Transactions(
            clock, self.topics, self.groups, transaction_timeout, self._ended
        )
        self.version = 0
        """Rises with everything that somebody could see."""
        self.appended = 0
        """Records that became visible."""
        self.lows = 0
        """Rises when a low watermark does."""
        self.readers = 0
        self.commits: dict[str, int] = {}
        self._session = session
        self._poll_interval = poll_interval
        self._hung: asyncio.Future[None] | None = None
        self._minding: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Something is not as it was."""
        self.version += 1

    # -- arriving -----------------------------------------------------------------------------

    async def arrive(self, process: Process, call: Call) -> None:
        """Returns when the call has reached the log; `LogUnavailable` if it cannot."""
        if process.halted:
            await process.gate()
        latency = self.faults.latency
        if latency is not None:
            await self.take(process, latency(call, process.name))
        self.check_reach(process)

    def check_reach(self, process: Process) -> None:
        """Raises if the process cannot reach the log."""
        if self.faults.down or process.cut:
            raise LogUnavailable("the log cannot be reached, as was asked for")

    def is_away(self, process: Process) -> bool:
        """Whether the process cannot reach the log."""
        return self.faults.down or process.cut

    async def take(self, process: Process, seconds: float) -> None:
        """So much time passes for the process, and it runs at its end."""
        if seconds > 0:
            await self.clock.sleep(seconds)
            if process.halted:
                await process.gate()

    async def hang(self) -> None:
        """Returns when everybody who hangs is let go."""
        if self._hung is None:
            self._hung = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._hung)

    def let_go(self) -> None:
        """Nobody hangs any more."""
        if self._hung is not None:
            self._hung.set_result(None)
            self._hung = None

    # -- writing ------------------------------------------------------------------------------

    def append(self, pending: Pending, targets: Sequence[Target]) -> None:
        """The records of a transaction have their offsets."""
        records = self.transactions.produce(pending, targets)
        self.recording.began(pending)
        if records:
            self.recording.appended(records, pending.process, pending)
        self.transactions.watch()

    async def publish(self, process: Process, records: Sequence[Outgoing]) -> None:
        """All stand in the log, or none, as the fault of this call says."""
        hook = self.faults.publish
        fault = None if hook is None else hook(process.name, records)
        targets = self.topics.targets(records)
        if fault is Fault.ABORTED:
            raise TransactionAborted("a fault was asked for")
        if fault is Fault.FENCED:
            raise Fenced("a fault was asked for")
        if fault is Fault.HANG:
            await self.hang()
        if fault is Fault.LATE:
            delay = self.faults.late(process.name)
            asyncio.get_running_loop().call_later(delay, self._publish, process.name, targets)
        if fault in {Fault.UNKNOWN, Fault.LATE, Fault.HANG}:
            raise OutcomeUnknown("a fault was asked for")
        self._publish(process.name, targets)
        self.check_accepted(targets)
        if fault is Fault.UNKNOWN_COMMITTED:
            raise OutcomeUnknown("a fault was asked for")

    def check_accepted(self, targets: Sequence[Target]) -> None:
        """Raises if some of what was sent is refused; then all of it counts for nothing."""
        refused = self.topics.refused(targets)
        if refused:
            names = ", ".join(sorted({partition.place.topic for partition in refused}))
            raise LogError(f"a record without a key for the compacted {names}", code="K026")

    def _publish(self, process: str, targets: Sequence[Target]) -> None:
        """Several are a transaction of their own, which is over before anybody sees it open."""
        now, refused = self.clock.now(), self.topics.refused(targets)
        number = OF_ITS_OWN if len(targets) > 1 else 0
        records: dict[Partition, list[Record]] = {}
        for partition, one in targets:
            if partition not in refused:
                records.setdefault(partition, []).append(partition.append(one, now, number))
        for partition, mine in records.items():
            partition.end(number, mine if refused else ())
        if not refused:
            written = [record for mine in records.values() for record in mine]
            self.recording.appended(written, process)
            self.appended += len(written)
        self.version += 1
        for partition in records:
            if partition.settle():
                for watcher in partition.watchers:
                    watcher.wake()

    def arrives_late(self, pending: Pending) -> None:
        """The end of a transaction that nobody waits for any more."""
        with contextlib.suppress(Fenced):
            self.transactions.end(pending, "committed")

    def _ended(self, pending: Pending) -> None:
        if pending.outcome == "committed":
            self.appended += sum(map(len, pending.records.values()))
        self.version += 1
        self.recording.ended(pending)

    def maintain(self, tombstones_ms: int) -> int:
        """What retention and compaction allow is gone; how many records and steps that were."""
        now, removed = self.clock.now(), 0
        for spec, partitions in self.topics.by_name.values():
            for partition in partitions:
                if spec.retention_ms >= 0 and partition.expire(now - spec.retention_ms):
                    self.lows += 1
                    removed += 1
                if spec.cleanup == "compact":
                    removed += partition.compact(now - tombstones_ms)
        if removed:
            self.version += 1
        return removed

    def removed(self) -> dict[TopicPartition, frozenset[int]]:
        """Offsets of committed records that are not there any more."""
        found: dict[TopicPartition, set[int]] = {}
        for record in self.recording.committed():
            place = record.place
            topic = self.topics.by_name.get(place.topic)
            slots = topic.partitions[place.partition].slots if topic is not None else []
            if record.offset >= len(slots) or slots[record.offset] is None:
                found.setdefault(place, set()).add(record.offset)
        return {place: frozenset(offsets) for place, offsets in found.items()}

    # -- members ------------------------------------------------------------------------------

    def mind_members(self, within: float | None = None) -> None:
        """Whoever is dead is put out of its group in time."""
        within = self._poll_interval if within is None else within
        loop = asyncio.get_running_loop()
        if self._minding is not None:
            if self._minding.when() <= loop.time() + within:
                return
            self._minding.cancel()
        self._minding = loop.call_later(within, self._look_at_members)

    def fell_silent(self) -> None:
        """A process is not heard any more: its members may be dead sooner than was thought."""
        if self._minding is not None:
            self.mind_members(self._session)

    def _look_at_members(self) -> None:
        self._minding = None
        now = self.clock.monotonic()
        if self.faults.down:
            self.groups.excuse_all(now)
        due = self.groups.expel_silent(now)
        if due is not None:
            self.mind_members(max(due - now, 1e-3))

    def close(self) -> None:
        """Nothing happens by itself any more."""
        self.transactions.close()
        if self._minding is not None:
            self._minding.cancel()
            self._minding = None
