"""A log in memory that behaves as Kafka does, in virtual time, and fails when it is told to.

    log = SimulatedLog(clock, seed=7)
    worker = log.process("w1")          # a whole `Log`, for the process of that name
    log.kill("w1")                      # nothing it asked for ever returns; its members time out
    log.faults.commit = lambda producer, number, transaction: Fault.LATE

Where the embedded log writes a transaction in one go, here it is open for a while: its records
have offsets, hide what comes later, and are passed over if it is aborted; a marker takes an offset
at its end; the group's positions are not stable meanwhile. Generations fence whoever is late.

It lives on one event loop, usually a `VirtualLoop`, whose timers it uses; times of records come
from `clock.now()`, liveness from `clock.monotonic()`. A clock whose time is not the loop's
(`ManualClock`) does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from streams.broker.port import (
    Committed,
    Outgoing,
    TopicPartition,
    TopicSpec,
    Watermarks,
)
from streams.clock import Clock
from streams.testing.history import Appended, Read, TransactionSeen
from streams.testing.simulated_broker import Broker
from streams.testing.simulated_consumer import SimulatedConsumer
from streams.testing.simulated_faults import Faults
from streams.testing.simulated_groups import Rebalance
from streams.testing.simulated_process import Process
from streams.testing.simulated_producer import SimulatedProducer
from streams.testing.simulated_reader import SimulatedReader
from streams.testing.simulated_recording import OnAppend, OnEnd

SESSION = 6.0
POLL_INTERVAL = 10.0
TRANSACTION_TIMEOUT = 10.0
RECORD_LIMIT = 1024 * 1024
TOMBSTONES_MS = 24 * 3_600_000


class ProcessLog:
    """A simulated log as one process sees it: a `Log` whose clients share that process's fate."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker = broker
        self._process = process
        self._consumers: list[SimulatedConsumer] = []

    @property
    def name(self) -> str:
        """The process's name."""
        return self._process.name

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """All exist; an existing one keeps its settings."""
        await self._broker.arrive(self._process, "admin")
        new = self._broker.topics.create(specs)
        if new:
            self._broker.groups.topics_changed(new)
            self._broker.changed()

    async def topics(self) -> dict[str, TopicSpec]:
        """All topics by name."""
        await self._broker.arrive(self._process, "admin")
        topics = self._broker.topics.by_name
        return {name: topics[name].spec for name in sorted(topics)}

    async def delete_topics(self, names: Collection[str]) -> None:
        """They are gone, with what groups had committed in them; unknown names are no error.
        Readers of them get nothing more, even if the name is used again."""
        await self._broker.arrive(self._process, "admin")
        self._broker.topics.delete(names)
        self._broker.groups.topics_changed(names)
        self._broker.changed()

    async def watermarks(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Watermarks]:
        """First and next offset of each, open transactions included."""
        await self._broker.arrive(self._process, "admin")
        return {place: self._broker.topics.partition(place).watermarks for place in places}

    async def offsets_at(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The first offset of each at or after a time."""
        await self._broker.arrive(self._process, "admin")
        topics = self._broker.topics
        return {place: topics.partition(place).first_since(time) for place, time in times.items()}

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        """Nothing below these offsets is given any more."""
        await self._broker.arrive(self._process, "admin")
        partitions = {place: self._broker.topics.partition(place) for place in before}
        for place, partition in partitions.items():
            if partition.trim(before[place]):
                self._broker.lows += 1
        self._broker.changed()

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """All stand in the log."""
        await self._broker.arrive(self._process, "publish")
        await self._broker.publish(self._process, records)

    async def positions(self, group: str) -> dict[TopicPartition, Committed]:
        """What the group has committed. Waits for transactions that could still change it."""
        await self._broker.arrive(self._process, "admin")
        found = self._broker.groups.group(group)
        while found.pending:
            await self._broker.take(self._process, 0.1)
        return dict(found.positions)

    async def set_positions(
        self, group: str, positions: Mapping[TopicPartition, Committed]
    ) -> None:
        """A group without members stands at these positions."""
        await self._broker.arrive(self._process, "admin")
        self._broker.topics.check_positions(positions)
        self._broker.groups.set_positions(group, positions)

    async def delete_groups(self, groups: Collection[str]) -> None:
        """They are gone with all their positions; one with members is an error."""
        await self._broker.arrive(self._process, "admin")
        for group in groups:
            self._broker.groups.delete(group)

    async def members(self, group: str) -> list[str]:
        """Who is in the group now, sorted."""
        await self._broker.arrive(self._process, "admin")
        return sorted(self._broker.groups.group(group).seats)

    def consumer(self, group: str, member: str) -> SimulatedConsumer:
        """A member to be; it joins when it subscribes."""
        consumer = SimulatedConsumer(self._broker, self._process, group, member)
        self._consumers = [*(c for c in self._consumers if not c.closed), consumer]
        return consumer

    async def producer(self, transactional_id: str) -> SimulatedProducer:
        """The only one that may commit under this id; what its namesake left open is aborted."""
        await self._broker.arrive(self._process, "producer")
        epoch = await self._broker.transactions.init(transactional_id)
        if self._process.halted:
            await self._process.gate()
        return SimulatedProducer(self._broker, self._process, transactional_id, epoch)

    def reader(self) -> SimulatedReader:
        """Reads outside any group."""
        return SimulatedReader(self._broker, self._process)

    async def maintain(self, *, tombstones_ms: int = TOMBSTONES_MS) -> int:
        """What retention and compaction allow is gone; how many records and steps that were.
        Tombstones stay for `tombstones_ms`."""
        await self._broker.arrive(self._process, "admin")
        return self._broker.maintain(tombstones_ms)

    async def close(self) -> None:
        """Its members have left, if the process is still heard."""
        for consumer in self._consumers:
            await consumer.close()


class SimulatedLog(ProcessLog):
    """The whole cluster, and the outside world's access to it (the process without a name)."""

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int = 0,
        record: bool = True,
        rebalance: Rebalance = "eager",
        session: float = SESSION,
        poll_interval: float = POLL_INTERVAL,
        transaction_timeout: float = TRANSACTION_TIMEOUT,
        record_limit: int = RECORD_LIMIT,
    ) -> None:
        """`seed` decides what the log itself leaves to chance: with which partition a poll
        begins. `record=False` keeps no history. A member is dead `session` seconds after its
        process fell silent, or `poll_interval` seconds after its last poll."""
        broker = Broker(
            clock,
            seed=seed,
            record=record,
            rebalance=rebalance,
            session=session,
            poll_interval=poll_interval,
            transaction_timeout=transaction_timeout,
            record_limit=record_limit,
        )
        outside = Process("")
        super().__init__(broker, outside)
        self._lives: dict[str, tuple[Process, ProcessLog]] = {"": (outside, self)}

    # -- processes ----------------------------------------------------------------------------

    def process(self, name: str) -> ProcessLog:
        """The log as the process of that name sees it; a new life of it if the last was killed."""
        process, view = self._lives.get(name, (None, None))
        if process is None or view is None or not process.alive:
            process = Process(name)
            view = ProcessLog(self._broker, process)
            self._lives[name] = process, view
        return view

    def kill(self, name: str) -> None:
        """The process is gone: its calls never return, its members do not leave, its open
        transactions stay open. Only closing its clients returns, and does nothing."""
        self._silence(name, Process.kill)

    def freeze(self, name: str) -> None:
        """The process stands still (SIGSTOP): its calls wait until `thaw`, then go on with what
        it believed."""
        self._silence(name, Process.freeze)

    def thaw(self, name: str) -> None:
        """The process goes on."""
        self._life(name).thaw()

    def cut(self, name: str) -> None:
        """The process runs, but is told that the log cannot be reached; its members time out."""
        self._silence(name, Process.cut_off)

    def mend(self, name: str) -> None:
        """The process reaches the log again."""
        self._life(name).mend()

    def _silence(self, name: str, how: Callable[[Process, float], None]) -> None:
        process = self._life(name)
        if process.alive:
            how(process, self._broker.clock.monotonic())
            self._broker.fell_silent()

    def _life(self, name: str) -> Process:
        if name not in self._lives:
            self.process(name)
        return self._lives[name][0]

    def let_go(self) -> None:
        """Whoever hangs (`Fault.HANG`) comes back and does not know what became of its commit."""
        self._broker.let_go()

    # -- what is going on ---------------------------------------------------------------------

    @property
    def faults(self) -> Faults:
        """The hooks by which it goes wrong."""
        return self._broker.faults

    @property
    def version(self) -> int:
        """Rises with everything that a client could see: records, positions, generations."""
        return self._broker.version

    @property
    def appended(self) -> int:
        """How many records were published or committed."""
        return self._broker.appended

    @property
    def open_transactions(self) -> int:
        """How many transactions are open, or decided and not visible yet."""
        return len(self._broker.transactions.open)

    @property
    def timed_out(self) -> int:
        """How many transactions were aborted because they had been open for too long."""
        return self._broker.transactions.timed_out

    @property
    def expelled(self) -> int:
        """How many members were declared dead."""
        return self._broker.groups.expelled

    def generation(self, group: str) -> int:
        """The present generation of a group."""
        return self._broker.groups.group(group).generation

    # -- what happened ------------------------------------------------------------------------

    @property
    def on_append(self) -> OnAppend | None:
        """Called with records as soon as they have offsets, their transaction and process."""
        return self._broker.recording.on_append

    @on_append.setter
    def on_append(self, hook: OnAppend | None) -> None:
        self._broker.recording.on_append = hook

    @property
    def on_end(self) -> OnEnd | None:
        """Called with each transaction when its markers are there."""
        return self._broker.recording.on_end

    @on_end.setter
    def on_end(self, hook: OnEnd | None) -> None:
        self._broker.recording.on_end = hook

    def history_records(self) -> list[Appended]:
        """Every record in the order of appending, whatever became of it since."""
        return self._broker.recording.records()

    def transactions_seen(self) -> dict[int, TransactionSeen]:
        """Every transaction that wrote records or positions, by its number. `generation` is that
        of the group when it accepted the positions."""
        return self._broker.recording.transactions()

    def reads(self) -> list[Read]:
        """What each reader (`process/reader#n`) and member (`group/member#incarnation`) was given,
        one entry for each partition and stretch without a jump."""
        return self._broker.recording.reads()

    def removed(self) -> dict[TopicPartition, frozenset[int]]:
        """Offsets of committed records that trimming, retention or compaction took away."""
        return self._broker.removed()

    async def close(self) -> None:
        """All members of all processes that run have left; nothing happens by itself any more."""
        for process, view in self._lives.values():
            if not process.halted:
                await ProcessLog.close(view)
        self._broker.close()
