"""The stages of a plan and its runs in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from streams.authoring.context import ContextSnapshot
from streams.clock import Clock
from streams.engine.intake import check_job_id
from streams.errors import UserError
from streams.registry import StageRegistry
from streams.runtime.call_preparation import Prepared, prepare
from streams.runtime.inprocess import Ended, InProcess
from streams.runtime.inprocess_stages import (
    NAMESPACE,
    LocalExecution,
    MemoryBlobs,
    leaves_something,
)
from streams.secrets import Secrets
from streams.topology.plan import KEEPER_RUN, USER_CODE, Naming, Plan


class Host:
    """The stages of a plan, built once and shared by all runs of it.

    They are opened for the first run and closed after the last one that is under way; somebody who
    runs often holds the host open meanwhile. Stages that need no opening, no closing and no thread
    cost nothing between runs. A host belongs to one event loop at a time.
    """

    def __init__(
        self, plan: Plan, registry: StageRegistry, clock: Clock, secrets: Secrets | None = None
    ) -> None:
        self.plan = plan
        self.naming = Naming(NAMESPACE, plan.pipeline)
        self.quiet = frozenset(part.path for part in plan.parts if part.kind not in KEEPER_RUN)
        self.clock = clock
        self.blobs = MemoryBlobs()
        self._registry = registry
        self._secrets = secrets or Secrets()
        self._ready: dict[tuple[str, str], Prepared] | None = None
        self._leaves_something = True
        self._execution: LocalExecution | None = None
        self._users = 0
        self._jobs: set[str] = set()
        self._interrupted = False
        self._closing: asyncio.Task[None] | None = None

    async def run(
        self,
        params: Mapping[str, Any],
        data: Any,
        *,
        facts: Mapping[str, Any] | None = None,
        deadline: int | None = None,
        job: str | None = None,
        snapshot: Callable[[], ContextSnapshot] | None = None,
    ) -> Ended:
        """A job of the plan, to its end. See `InProcess.run`."""
        if job is None:
            job = self.clock.new_id()
        else:
            check_job_id(job)
        if job in self._jobs:
            raise UserError(f"job {job} is being run by this graph", code="J105")
        self._jobs.add(job)
        stopped = False
        try:
            execution = await self.enter()
            try:
                if snapshot is not None:
                    execution.snapshots[job] = snapshot
                run = InProcess(self, execution, job)
                try:
                    return await run.run(params, data, facts=facts, deadline=deadline)
                finally:
                    stopped = run.stopped
            finally:
                execution.snapshots.pop(job, None)
                await self.leave(stopped=stopped)
        finally:
            self._jobs.discard(job)

    async def enter(self) -> LocalExecution:
        """What runs the stages; to be followed by `leave`."""
        while self._closing is not None:
            await asyncio.shield(self._closing)
        self._users += 1
        if self._execution is None:
            self._execution = LocalExecution(
                self._registry, self.blobs, self._secrets, self.clock, self._stages()
            )
        return self._execution

    async def leave(self, *, stopped: bool = False) -> None:
        """Closes the stages and ends their threads, if nobody else is using them. `stopped`: calls
        were interrupted, which takes a timer."""
        self._users -= 1
        self._interrupted |= stopped
        if self._users or self._execution is None:
            return
        if not (self._leaves_something or self._interrupted):
            return
        self._interrupted = False
        closing = asyncio.create_task(self._execution.close(), name="graph.close")
        self._execution, self._closing = None, closing
        closing.add_done_callback(self._closed)
        await asyncio.shield(closing)

    def _closed(self, _: asyncio.Task[None]) -> None:
        self._closing = None

    def _stages(self) -> Mapping[tuple[str, str], Prepared]:
        """Built in the calling thread: what takes long belongs into a stage's `open`. One that
        cannot be built is left to the execution, which makes a failed stage of it."""
        if self._ready is None:
            parts = [part for part in self.plan.parts if part.kind in USER_CODE]
            self._ready = {}
            for part in parts:
                with contextlib.suppress(Exception):
                    self._ready[self.plan.digest, part.path] = prepare(
                        self.plan, part, self._registry, self._secrets
                    )
            self._leaves_something = len(self._ready) < len(parts) or any(
                map(leaves_something, self._ready.values())
            )
        return {key: replace(prepared) for key, prepared in self._ready.items()}
