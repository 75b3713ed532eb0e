"""One trial: a pipeline under load on a real cluster, its faults, and what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from streams.blobs import BlobStore
from streams.broker.kafka import KafkaLog
from streams.broker.kafka_batches import BatchReader
from streams.broker.port import TopicPartition
from streams.client import Client
from streams.clock import Clock, SystemClock
from streams.engine.rows import ENDED, head
from streams.errors import LogError
from streams.registry import StageRegistry
from streams.testing.chaos.capture import Capture
from streams.testing.chaos.driver import Driver
from streams.testing.chaos.judging import Judged, judge
from streams.testing.chaos.load import BASE, PIPELINE, Job, job
from streams.testing.chaos.rates import Rates
from streams.testing.chaos.site import Site
from streams.testing.chaos.stages import stages
from streams.testing.history import Moved
from streams.topology.check import check_text
from streams.topology.plan import Naming, Plan

WARM = 6.0
"""Seconds of load before the first fault: the rate to come back to."""
RATE = 25.0
"""Jobs a second."""
LIVE = 60.0
"""Seconds after the last fault within which every job has ended (C15)."""
QUIET = 1.0
"""Seconds for what is still under way when all jobs have ended."""
WORKING = 60.0
SEATS = 12.0


Options = Mapping[str, str | int | float | bool]
"""Of the client library, for a cluster that needs some."""


class Trial:
    """Everything that one row of the plan of faults needs."""

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        namespace: str,
        *,
        topology: str,
        direct: str,
        rate: float,
        options: Options,
        tidy: bool,
    ) -> None:
        self.clock: Clock = SystemClock()
        self.rate = rate
        self.tidy = tidy
        """Whether no group of it may stay, either: the cluster outlives the trial."""
        self.topology = topology
        self.direct = direct
        """Where the judge reads, past any proxy."""
        self.naming = Naming(namespace, PIPELINE)
        self._options = options
        self.log = self._opened()
        self._sender: KafkaLog | None = None
        self.site = Site(
            folder,
            bootstrap,
            namespace=namespace,
            topology=topology,
            clock=self.clock,
            options=options,
        )
        self.client = self._client(self.log)
        self.driver = Driver(self.client, self.clock)
        self.capture = Capture(self.log, self.naming, BatchReader(direct), self.clock)
        self.healed = 0.0
        """When the last fault was over."""
        self.settled_in: float | None = None
        """Seconds from then until every job had ended; None if they have not."""
        self.moved: list[Moved] = []
        """Positions that were set by hand."""
        self._began = self.clock.now()
        self._watching = False
        self._stop = asyncio.Event()
        self._feeding: asyncio.Task[None] | None = None
        self._supervising: asyncio.Task[None] | None = None
        self.run = self.clock.new_id()[:6]
        """First part of the ids of its jobs."""

    def _opened(self) -> KafkaLog:
        return KafkaLog.open(self.direct, clock=self.clock, options=self._options)

    def _client(self, log: KafkaLog) -> Client:
        blobs = BlobStore((self.site.folder / "state" / "blobs").as_uri())
        return Client(log, self.naming.namespace, blobs=blobs, clock=self.clock)

    def plan(self) -> Plan:
        """What the workers make of the topology."""
        registry = StageRegistry()
        for each in stages():
            registry.register(each)
        found, findings = check_text(self.topology, self.site.file.name, registry)
        assert found is not None, findings
        return found

    # -- load -------------------------------------------------------------------------------

    async def start(self) -> None:
        """The workers run, the capture sees everything from the first record on."""
        await self.watch()
        self.site.start_team()
        await self.driver.find_pipeline()
        self.healed = self.clock.monotonic()

    async def watch(self) -> None:
        """Whatever is written from now on is evidence."""
        if not self._watching:
            self._watching = True
            await self.capture.start()

    def job(self, number: int) -> Job:
        """The job of this number."""
        return job(number, self.run)

    def feed(self, make: Callable[[int], Job] | None = None) -> None:
        """Jobs come at the trial's rate from now on."""
        self._feeding = asyncio.create_task(
            self.driver.feed(make or self.job, self.rate, self._stop), name="chaos.feed"
        )

    def send_anew(self) -> None:
        """Whoever submits jobs from now on knows the cluster as it is now."""
        self._sender = self._opened()
        self.driver.client = self._client(self._sender)

    async def warm(self, seconds: float = WARM) -> None:
        """The load has run for so long, counted from the first row it wrote."""
        until = self.clock.monotonic() + WORKING
        while not self.capture.seen_at and self.clock.monotonic() < until:
            await self.clock.sleep(0.1)
        # The first jobs wait for the groups to form, and then come all at once.
        await self.clock.sleep(2.0 + seconds)

    def supervise(self) -> None:
        """Who ends by itself is started again a second later, from now on."""
        self._supervising = asyncio.create_task(self._keep_up(), name="chaos.supervisor")

    async def _keep_up(self) -> None:
        while True:
            await self.clock.sleep(1.0)
            self.site.revive()

    def rates(self) -> Rates:
        """How fast rows came so far."""
        ledger = self.naming.ledger
        return Rates([at for at, record in self.capture.seen_at if record.topic == ledger])

    def base_rate(self, seconds: float = WARM) -> float:
        """Rows a second until now."""
        now = self.clock.monotonic()
        return self.rates().median(now - seconds, now)

    async def recovered(self, fault: float, base: float, patience: float) -> float | None:
        """Seconds from `fault` until the rate is back; None if it is not within `patience`."""
        while True:
            now = self.clock.monotonic()
            found = self.rates().recovered(fault, base, now)
            if found is not None or now - fault > patience:
                return found
            await self.clock.sleep(0.2)

    def heal(self) -> None:
        """The fault is over."""
        self.healed = self.clock.monotonic()

    # -- the end ----------------------------------------------------------------------------

    async def end_load(self) -> None:
        """No more jobs; what was asked for is confirmed."""
        self._stop.set()
        if self._feeding is not None:
            await self._feeding
        await self.driver.all_said()

    async def settle(self, patience: float = LIVE) -> bool:
        """Whether every job ends within that time."""
        began = self.clock.monotonic()
        while self.clock.monotonic() - began < patience:
            if not self.unended():
                self.settled_in = self.clock.monotonic() - self.healed
                await self.clock.sleep(QUIET)
                return True
            await self.clock.sleep(0.1)
        return False

    def unended(self) -> list[str]:
        """Jobs whose end could not be read yet."""
        done = self.naming.done
        told = {(r.key or b"").decode() for _, r in self.capture.seen_at if r.topic == done}
        return [each.id for each in self.driver.jobs if each.id not in told]

    async def judged(self, *, settled: bool = True) -> Judged:
        """The checker's word on all of it. The trial is over then."""
        if not settled:
            await self._end_work()
        await self.capture.stop()
        return await judge(
            self.capture,
            self.log,
            self.naming,
            asked=self.driver.asked,
            settled=settled,
            began=self._began,
            ended=self.clock.now(),
            logs=self.site.folder.glob("*.log"),
            moved=self.moved,
        )

    async def _end_work(self) -> None:
        """Nobody writes any more: of a transaction that was under way when the capture came to its
        end, it would have seen one topic and not the other."""
        self._cease()
        self.site.close()
        await self.clock.sleep(QUIET)

    def statuses(self) -> Mapping[str, str]:
        """Job → the code of its status, for those that have ended, by the ledger as it was read."""
        found: dict[str, str] = {}
        for _, record in self.capture.seen_at:
            scope, _, part = (record.key or b"").decode().partition("|")
            if record.topic != self.naming.ledger or part != "@job" or record.value is None:
                continue
            if (status := head(record.value).status) in ENDED:
                found[scope] = status
        return found

    async def lag(self, groups: tuple[str, ...]) -> dict[TopicPartition, int]:
        """How far the groups are behind, where they are."""
        found: dict[TopicPartition, int] = {}
        for group in groups:
            positions = await self.log.positions(group)
            marks = await self.log.watermarks(positions)
            for place, position in positions.items():
                behind = marks[place].high - position.offset
                if behind > 0:
                    found[place] = behind
        return found

    async def close(self) -> None:
        """No process of it is left, nothing is open."""
        await asyncio.gather(*self._cease(), return_exceptions=True)
        await self.driver.stop()
        self.site.close()
        await self.capture.close()
        with suppress(LogError):
            await self._delete_topics()
            if self.tidy:
                await self._delete_groups()
        if self._sender is not None:
            await self._sender.close()
        await self.log.close()

    def _cease(self) -> list[asyncio.Task[None]]:
        """No jobs come, nobody is started again; what is left of both ends soon."""
        self._stop.set()
        tasks = [task for task in (self._feeding, self._supervising) if task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    async def _delete_topics(self) -> None:
        mine = f"{self.naming.prefix}."
        await self.log.delete_topics(
            [name for name in await self.log.topics() if name.startswith(mine)]
        )

    async def _delete_groups(self) -> None:
        groups = [self.naming.keeper_group]
        groups += [self.naming.pool_group(pool) for pool in {p.pool for p in self.plan().parts}]
        until = self.clock.monotonic() + SEATS
        for group in groups:
            # A killed member keeps its seat until its session ends.
            while await self.log.members(group) and self.clock.monotonic() < until:
                await self.clock.sleep(0.2)
            await self.log.delete_groups([group])


@asynccontextmanager
async def trial(
    folder: Path,
    bootstrap: str,
    namespace: str,
    *,
    topology: str = BASE,
    direct: str = "",
    rate: float = RATE,
    options: Options = MappingProxyType({}),
    tidy: bool = True,
) -> AsyncIterator[Trial]:
    """A trial in a folder of its own. `direct`: where the judge reads, past any proxy. Its
    topics are gone in the end; `tidy`: its groups, too, for which killed workers must be missed."""
    made = Trial(
        folder,
        bootstrap,
        namespace,
        topology=topology,
        direct=direct or bootstrap,
        rate=rate,
        options=options,
        tidy=tidy,
    )
    try:
        yield made
    finally:
        await made.close()
