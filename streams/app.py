"""The composition root: settings and topology files to wired objects, and their life."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from streams.clock import Clock, SystemClock
from streams.errors import LogUnavailable, NotFoundError
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.blobs import BlobStore
    from streams.broker.port import Log
    from streams.registry import StageRegistry
    from streams.runtime.execution import Execution
    from streams.runtime.worker import Worker
    from streams.secrets import Secrets
    from streams.topology.load import Topology

Echo = Callable[[str, str, str], None]


class App:
    """Pipelines and what runs them. `run` works until its stop event is set."""

    def __init__(
        self,
        topologies: Sequence[Topology],
        registry: StageRegistry,
        settings: Settings,
        *,
        clock: Clock | None = None,
        log: Log | None = None,
    ) -> None:
        self.topologies = list(topologies)
        self.registry = registry
        self.settings = settings
        self.clock = clock or SystemClock()
        self._log = log
        self.workers: list[Worker] = []
        self.ready = asyncio.Event()
        """Set once every pipeline's topics stand and its worker is under way."""

    @classmethod
    def from_files(
        cls,
        *patterns: str | Path,
        settings: Settings | None = None,
        clock: Clock | None = None,
        log: Log | None = None,
    ) -> App:
        """Loads and checks every file; raises `TopologyError` with all faults of all files."""
        from streams.plugins import discover, load_plugins
        from streams.registry import StageRegistry
        from streams.topology.load import load_files, plugin_callables

        chosen = settings or Settings.load()
        paths = [Path(found) for pattern in patterns for found in _expand(pattern)]
        registry = StageRegistry()
        discover(registry)
        roots = sorted({path.resolve().parent for path in paths})
        load_plugins(registry, plugin_callables(paths), roots=roots)
        topologies = load_files(paths, registry)
        return cls(topologies, registry, chosen, clock=clock, log=log)

    def require_secrets(self) -> None:
        """Raises `UserError` if a secret that a pipeline names is not set."""
        self.secrets.only(_secret_names(self.topologies))

    @cached_property
    def secrets(self) -> Secrets:
        """What `${{ secrets.x }}` may name; its values are kept out of every log line."""
        from streams.secrets import Secrets
        from streams.settings import environment

        return Secrets.load(environment(), self.settings.secrets_dir)

    def open_log(self) -> Log:
        """The log these settings name; opened once."""
        if self._log is None:
            from streams.broker.local import LocalLog

            self.settings.log.parent.mkdir(parents=True, exist_ok=True)
            self._log = LocalLog.open(self.settings.log, clock=self.clock)
        return self._log

    async def apply(self, log: Log | None = None) -> None:
        """Creates what the pipelines need, and makes their plans the active ones."""
        from streams.runtime.setup import apply
        from streams.topology.plan import Naming

        for topology in self.topologies:
            naming = Naming(self.settings.namespace, topology.plan.pipeline)
            await apply(
                log or self.open_log(), naming, topology.plan, self.clock, self.settings.partitions
            )

    async def run(
        self,
        stop: asyncio.Event | None = None,
        *,
        pools: Sequence[str] | None = None,
        stages: frozenset[str] | None = None,
        keeper: bool = True,
        agents: bool = True,
        name: str = "",
        debug: bool = False,
        echo: Echo | None = None,
    ) -> None:
        """Applies the pipelines and works until `stop` is set, then drains."""
        from streams.observe import logs

        self.require_secrets()
        log = self.open_log()
        await self.apply(log)
        logs.add_redactor(self.secrets.redact)
        execution, blobs = self._execution(debug)
        wanted = pools if agents else ()
        self.workers = [
            await self._worker(log, topology, execution, blobs, wanted, stages, keeper, name, echo)
            # One worker runs all versions of a pipeline; two of a name would fence each other.
            for topology in {each.plan.pipeline: each for each in self.topologies}.values()
        ]
        running = {asyncio.create_task(worker.run()) for worker in self.workers}
        upkeep = asyncio.create_task(self._keep_up(log))
        ending = asyncio.create_task((stop or asyncio.Event()).wait())
        self.ready.set()
        try:
            await asyncio.wait({*running, ending}, return_when=asyncio.FIRST_COMPLETED)
            for worker in self.workers:
                worker.leave()
            # All of them, also when one has failed: the others leave in order.
            await asyncio.gather(*running, return_exceptions=True)
            await asyncio.gather(*running)
        finally:
            for task in (upkeep, ending, *running):
                task.cancel()
            await asyncio.gather(upkeep, ending, *running, return_exceptions=True)
            await execution.close()
            await log.close()
            self._log = None
            logs.remove_redactor(self.secrets.redact)

    def _execution(self, debug: bool) -> tuple[Execution, BlobStore]:
        from streams.blobs import BlobStore
        from streams.runtime.execution import Execution

        blobs = BlobStore(self.settings.blobs)
        execution = Execution(
            self.registry,
            blobs,
            self.secrets,
            self.clock,
            namespace=self.settings.namespace,
            threads=self.settings.worker.concurrency,
            debug=debug,
        )
        return execution, blobs

    async def _worker(
        self,
        log: Log,
        topology: Topology,
        execution: Execution,
        blobs: BlobStore,
        pools: Sequence[str] | None,
        stages: frozenset[str] | None,
        keeper: bool,
        name: str,
        echo: Echo | None,
    ) -> Worker:
        from streams.runtime.setup import require_layout
        from streams.runtime.worker import Worker
        from streams.topology.plan import Naming

        naming = Naming(self.settings.namespace, topology.plan.pipeline)
        layout = await require_layout(log, naming)
        return Worker(
            log,
            naming,
            execution,
            blobs,
            self.clock,
            name=name or worker_name(),
            partitions=layout.partitions,
            pools=pools,
            stages=stages,
            keeper=keeper,
            snapshots=self.settings.state_dir / "snapshots",
            drain_seconds=self.settings.worker.drain_seconds,
            echo=echo,
        )

    async def _keep_up(self, log: Log) -> None:
        """Compaction and retention of an embedded log, in idle time."""
        from streams.observe import logs

        maintain = getattr(log, "maintain", None)
        while maintain is not None:
            await self.clock.sleep(30)
            try:
                await maintain()
            except LogUnavailable as error:
                logs.get_logger(__name__).warning("log.upkeep_waits", reason=str(error))


def worker_name() -> str:
    """A name for this process among the members of its groups."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _expand(pattern: str | Path) -> list[str]:
    text = str(pattern)
    if not any(sign in text for sign in "*?["):
        return [text]
    path = Path(pattern)
    fixed = Path(path.anchor) if path.is_absolute() else Path()
    found = sorted(map(str, fixed.glob(str(path.relative_to(fixed)))))
    if not found:
        raise NotFoundError(f"no file matches {text}")
    return found


def _secret_names(topologies: Sequence[Topology]) -> list[str]:
    return sorted({name for topology in topologies for name in topology.plan.secrets})
