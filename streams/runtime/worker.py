"""One worker of one pipeline: its agents and its keeper, from start to drain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streams.blobs import BlobStore
from streams.broker.cluster import cluster_of
from streams.broker.port import Log, TopicPartition
from streams.clock import Clock
from streams.engine.frontier import Frontier
from streams.errors import StreamsError
from streams.observe.logs import bound, get_logger
from streams.observe.metrics import Metrics
from streams.runtime.agent import Agent
from streams.runtime.control import ControlReader
from streams.runtime.execution import Execution
from streams.runtime.figures import Figures
from streams.runtime.gauges import Lag, LagMeter, Looked
from streams.runtime.keeper import Keeper
from streams.runtime.source import Source
from streams.runtime.standing import Reason
from streams.runtime.topic_watch import TopicWatch
from streams.topology.plan import USER_CODE, Naming, Part

log = get_logger(__name__)

Echo = Callable[[str, str, str], None]
"""job, stage, text: what `echo` stages say."""

LOOK_EVERY = 0.5
"""Seconds between looks at new plans and pools."""
TO_SAY_GOOD_BYE = 5.0
"""Seconds for the last commits, beyond those that running work is given."""


class Worker:
    """Runs until `leave`, then drains: takes nothing more, ends what runs, commits, leaves."""

    def __init__(
        self,
        source: Log,
        naming: Naming,
        execution: Execution,
        blobs: BlobStore,
        clock: Clock,
        *,
        name: str,
        partitions: int,
        pools: Sequence[str] | None,
        stages: frozenset[str] | None = None,
        keeper: bool = True,
        snapshots: Path | None = None,
        drain_seconds: float = 30.0,
        echo: Echo | None = None,
        metrics: Metrics | None = None,
        registry: str = "",
    ) -> None:
        self._registry = registry
        self._log = source
        self._figures = Figures(metrics or Metrics(), naming, clock)
        self._lag = LagMeter(source, clock)
        self._naming = naming
        self._execution = execution
        self._blobs = blobs
        self._clock = clock
        self._name = name
        self._partitions = partitions
        self._pools = pools
        self._stages = stages
        self._with_keeper = keeper
        self._snapshots = snapshots
        self._drain_seconds = drain_seconds
        self._echo = echo
        self.control = ControlReader(source, naming, clock)
        self.agents: dict[str, Agent] = {}
        self.keeper: Keeper | None = None
        self.source: Source | None = None
        """Reads topics of others, where the pipeline has such; wherever its keepers are."""
        self._leaving = asyncio.Event()
        self._prepared: set[str] = set()
        self._members: set[asyncio.Task[None]] = set()
        self._opening = True
        """The stages of the newest plan are being made ready, or have not been seen yet."""
        self._not_open: dict[tuple[str, str], str] = {}
        """Plan and stage → code of the fault that kept it from opening."""
        self._was_ready = False

    async def run(self) -> None:
        """Returns after `leave`; a fault of the runtime ends it with that error."""
        with bound(pipeline=self._naming.pipeline, worker=self._name):
            log.info("worker.started", keeper=self._with_keeper)
            try:
                await self._run()
            except StreamsError as error:
                log.error("worker.failed", code=error.code, error=error.message)
                raise
            except Exception:
                log.exception("worker.failed")
                raise
            log.info("worker.stopped")

    async def _run(self) -> None:
        leaving = asyncio.create_task(self._leaving.wait(), name="leaving")
        minding = None
        watching: set[asyncio.Task[None]] = set()
        try:
            await self.control.start()
            assert self.control.following is not None
            if self._with_keeper:
                self.keeper = self._make_keeper()
                self._members.add(asyncio.create_task(self.keeper.run(), name="keeper"))
            minding = asyncio.create_task(self._mind_plans(), name="plans")
            watching = self._watch_topics()
            await self._watch({minding, self.control.following, *watching}, leaving)
            minding.cancel()
            log.info("worker.draining", in_hand=self._in_hand)
            await self._drain(self._members)
        finally:
            ours = [
                task for task in (*self._members, *watching, leaving, minding) if task is not None
            ]
            for task in ours:
                task.cancel()
            await asyncio.gather(*ours, return_exceptions=True)
            await self.control.close()

    def _watch_topics(self) -> set[asyncio.Task[None]]:
        """On a cluster others may delete topics, or add partitions to them."""
        cluster = cluster_of(self._log)
        if cluster is None:
            return set()
        watch = TopicWatch(cluster, self._naming, self.control.table, self._clock, self._partitions)
        return {asyncio.create_task(watch.run(), name="topics")}

    async def _watch(self, beside: set[asyncio.Task[None]], leaving: asyncio.Task[Any]) -> None:
        """Returns when it is time to leave. Whatever else ends before that is a fault, and raises."""
        while not leaving.done():
            look = asyncio.create_task(self._clock.sleep(LOOK_EVERY), name="look")
            working = {*self._members, *beside}
            try:
                await asyncio.wait({*working, leaving, look}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                look.cancel()
            for task in working:
                if task.done():
                    task.result()
            if not leaving.done():
                self._tell_standing()

    @property
    def pipeline(self) -> str:
        return self._naming.pipeline

    @property
    def _in_hand(self) -> int:
        return sum(agent.in_hand for agent in self.agents.values())

    def standing(self) -> list[Reason]:
        """Why it is not ready; nothing if it is."""
        pipeline = self._naming.pipeline
        if self._leaving.is_set():
            return [Reason("draining", pipeline)]
        if self.control.following is None or (self._with_keeper and self.keeper is None):
            return [Reason("starting", pipeline)]
        found = [Reason("opening-stages", pipeline)] if self._opening else []
        found += [
            Reason("stage-not-open", pipeline, detail=f"{path}: {code}")
            for (digest, path), code in self._not_open.items()
            if digest == self.control.table.active and not self._execution.is_open(digest, path)
        ]
        for agent in self.agents.values():
            found += agent.pulse.reasons(pipeline)
        if self.keeper is not None:
            reading = ", ".join(
                f"partition {partition} at {restore.position:,} of {restore.end:,}"
                for partition, restore in self.keeper.restoring.items()
            )
            found += self.keeper.pulse.reasons(pipeline, reading)
        if self.source is not None:
            found += self.source.reasons(pipeline)
        return found

    def _tell_standing(self) -> None:
        reasons = self.standing()
        if self._was_ready == (not reasons):
            return
        self._was_ready = not reasons
        if reasons:
            why = sorted({each.reason for each in reasons})
            log.info("worker.unready", reasons=why)
        else:
            log.info("worker.ready")

    def look(self, looked: Looked) -> None:
        """Adds its figures of this moment."""
        pipeline = self._naming.pipeline
        for agent in self.agents.values():
            looked.in_hand(pipeline, agent.frontiers)
        if self.keeper is not None:
            looked.in_hand(pipeline, self.keeper.frontiers)
            plans = self.control.table.plans.values()
            looked.of_keeper(pipeline, self.keeper, plans, self._clock.monotonic())

    async def lag(self) -> Mapping[TopicPartition, Lag]:
        """How far it is behind, in the partitions it owns; nothing while the log does not say."""
        owned: dict[TopicPartition, Frontier] = {}
        for agent in self.agents.values():
            owned.update(agent.frontiers)
        if self.keeper is not None:
            owned.update(self.keeper.frontiers)
        if self.source is not None:
            owned.update(self.source.frontiers)
        return await self._lag.measure(owned)

    async def _mind_plans(self) -> None:
        """Gets the stages of new plans ready, and starts agents for their pools. Beside everything
        else: a stage may take long to open, or for ever."""
        while True:
            await self._prepare()
            self._members |= self._new_agents() | self._new_source()
            self._opening = False
            await self._clock.sleep(LOOK_EVERY)

    def leave(self) -> None:
        """Begins the drain."""
        self._leaving.set()

    async def _prepare(self) -> None:
        """Builds and opens the stages of plans not seen before, those of this worker's pools."""
        newest = self.control.table.plans.get(self.control.table.active)
        if newest is not None:
            self._execution.policies.follow(newest)
        for digest, plan in list(self.control.table.plans.items()):
            if digest in self._prepared:
                continue
            self._prepared.add(digest)
            self._opening = True
            mine = [part.path for part in plan.parts if self._serves(part)]
            for path, fault in (await self._execution.prepare(plan, mine)).items():
                self._not_open[digest, path] = fault.code
                log.error("stage.not_ready", stage=path, code=fault.code, error=fault.message)

    def _serves(self, part: Part) -> bool:
        return (
            part.kind in USER_CODE
            and (self._pools is None or part.pool in self._pools)
            and (self._stages is None or part.path in self._stages)
        )

    def _make_keeper(self) -> Keeper:
        return Keeper(
            self._log,
            self._naming,
            self.control,
            self._clock,
            worker=self._name,
            partitions=self._partitions,
            blobs=self._blobs,
            snapshots=self._snapshots,
            echo=self._echo,
            figures=self._figures,
        )

    def _new_agents(self) -> set[asyncio.Task[None]]:
        """An agent for every pool of any known plan that this worker serves."""
        wanted = {
            part.pool
            for plan in self.control.table.plans.values()
            for part in plan.parts
            if self._serves(part)
        }
        started: set[asyncio.Task[None]] = set()
        for pool in sorted(wanted - self.agents.keys()):
            agent = self.agents[pool] = Agent(
                self._log,
                self._naming,
                self.control,
                self._execution,
                self._blobs,
                self._clock,
                pool=pool,
                worker=self._name,
                partitions=self._partitions,
                stages=self._stages,
                echo=self._echo,
                figures=self._figures,
            )
            started.add(asyncio.create_task(agent.run(), name=f"agent.{pool}"))
        return started

    def _new_source(self) -> set[asyncio.Task[None]]:
        """The member that reads topics of others, once a plan has such."""
        plan = self.control.table.plans.get(self.control.table.active)
        if self.source is not None or not self._with_keeper or plan is None or not plan.sources:
            return set()
        self.source = Source(
            self._log,
            self._naming,
            self.control,
            self._clock,
            worker=self._name,
            partitions=self._partitions,
            blobs=self._blobs,
            registry=self._registry,
            figures=self._figures,
        )
        return {asyncio.create_task(self.source.run(), name="source")}

    async def _drain(self, tasks: set[asyncio.Task[None]]) -> None:
        """Agents first: what they still write, the keeper may still read."""
        if self.source is not None:
            self.source.leave()
        for agent in self.agents.values():
            agent.leave(self._drain_seconds)
        if self.keeper is not None:
            self.keeper.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_seconds + TO_SAY_GOOD_BYE):
                await asyncio.gather(*tasks)
