"""One worker of one pipeline: its agents and its keeper, from start to drain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from streams.blobs import BlobStore
from streams.broker.port import Log
from streams.clock import Clock
from streams.observe.logs import get_logger
from streams.runtime.agent import Agent
from streams.runtime.control import ControlReader
from streams.runtime.execution import Execution
from streams.runtime.keeper import Keeper
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
    ) -> None:
        self._log = source
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
        self._leaving = asyncio.Event()
        self._prepared: set[str] = set()
        self._members: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Returns after `leave`; a fault of the runtime ends it with that error."""
        leaving = asyncio.create_task(self._leaving.wait(), name="leaving")
        minding = None
        try:
            await self.control.start()
            assert self.control.following is not None
            if self._with_keeper:
                self.keeper = self._make_keeper()
                self._members.add(asyncio.create_task(self.keeper.run(), name="keeper"))
            minding = asyncio.create_task(self._mind_plans(), name="plans")
            await self._watch({minding, self.control.following}, leaving)
            minding.cancel()
            await self._drain(self._members)
        finally:
            ours = [task for task in (*self._members, leaving, minding) if task is not None]
            for task in ours:
                task.cancel()
            await asyncio.gather(*ours, return_exceptions=True)
            await self.control.close()

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

    async def _mind_plans(self) -> None:
        """Gets the stages of new plans ready, and starts agents for their pools. Beside everything
        else: a stage may take long to open, or for ever."""
        while True:
            await self._prepare()
            self._members |= self._new_agents()
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
            mine = [part.path for part in plan.parts if self._serves(part)]
            for path, fault in (await self._execution.prepare(plan, mine)).items():
                log.error("stage.not_ready", stage=path, code=fault.code, reason=fault.message)

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
            )
            started.add(asyncio.create_task(agent.run(), name=f"agent.{pool}"))
        return started

    async def _drain(self, tasks: set[asyncio.Task[None]]) -> None:
        """Agents first: what they still write, the keeper may still read."""
        for agent in self.agents.values():
            agent.leave(self._drain_seconds)
        if self.keeper is not None:
            self.keeper.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_seconds + TO_SAY_GOOD_BYE):
                await asyncio.gather(*tasks)
