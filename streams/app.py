"""The composition root: settings and topology files to wired objects, and their life."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from streams.clock import Clock, SystemClock
from streams.errors import LogUnavailable, NotFoundError
from streams.observe import logs
from streams.observe.metrics import Metrics
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

_log = logs.get_logger(__name__)


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
        self.metrics = Metrics()
        self.port = ""
        """Where metrics and health are served while it runs; empty where they are not."""
        self.ready = asyncio.Event()
        """Set once every pipeline's topics stand and its worker is under way."""
        self.keeps_outputs = False
        """Whether outputs that a row is too small for go to the blob store, however small they are:
        for who wants to read all of them afterwards."""

    @classmethod
    def from_files(
        cls,
        *patterns: str | Path,
        settings: Settings | None = None,
        clock: Clock | None = None,
        log: Log | None = None,
        pools: Sequence[str] | None = None,
        stages: frozenset[str] | None = None,
    ) -> App:
        """Loads and checks every file; raises `TopologyError` with all faults of all files. Who
        will serve only some `pools` or `stages` needs the stage types of these only."""
        from streams.plugins import discover, load_plugins
        from streams.registry import StageRegistry
        from streams.topology.load import plugin_callables, read_files
        from streams.topology.partial import load_served

        chosen = settings or Settings.load()
        paths = [Path(found) for pattern in patterns for found in _expand(pattern)]
        registry = StageRegistry()
        discover(registry)
        roots = sorted({path.resolve().parent for path in paths})
        files = read_files(paths)
        load_plugins(registry, plugin_callables(files), roots=roots)
        topologies = load_served(
            files,
            registry,
            lambda part: (
                (pools is None or part.pool in pools) and (stages is None or part.path in stages)
            ),
        )
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
            from streams.broker.opening import open_log

            self._log = open_log(self.settings, self.clock)
        return self._log

    async def apply(self, log: Log | None = None) -> None:
        """Creates what the pipelines need, and makes their plans the active ones; but not where
        stage types are on other machines: that is for those to do. In production mode it creates
        nothing. Raises `LogError` where the log is not fit for them."""
        from streams.runtime.setup import prepare
        from streams.topology.plan import Naming

        for topology in self.topologies:
            naming = Naming(self.settings.namespace, topology.plan.pipeline)
            plan = topology.plan
            await prepare(
                log or self.open_log(),
                naming,
                plan,
                self.clock,
                self.settings.partitions,
                production=self.settings.kafka.production,
                whole=topology.whole,
            )
            if self.settings.kafka.production or not topology.whole:
                continue  # others decide
            _log.info(
                "plan.applied", pipeline=plan.pipeline, version=plan.version, digest=plan.digest
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
        """Applies the pipelines and works until `stop` is set, then drains. `name` is for who knows
        that no other worker has it; by default the settings or the state dir give one."""
        self.require_secrets()
        wanted = pools if agents else ()
        with self._named(name) as own:
            async with self._serving():
                await self._run(stop or asyncio.Event(), wanted, stages, keeper, own, debug, echo)

    def _named(self, name: str) -> AbstractContextManager[str]:
        """The name this worker has while it runs; without one it takes one of its own."""
        from streams.runtime.slots import claimed_name

        if name:
            return nullcontext(name)
        return claimed_name(self.settings.state_dir, self.clock, self.settings.worker.name)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        """The port of the settings is open; raises before anything is begun if it cannot be."""
        where = self.settings.worker
        if where.port is None:
            yield
            return
        from streams.observe.server import Server
        from streams.runtime.pages import Pages

        self.metrics.build.set((_version(), platform.python_version()), 1)
        server = Server(Pages(self.metrics, lambda: self.workers).by_path())
        await server.open(where.host, where.port)
        self.port = server.url
        _log.info("port.opened", url=server.url)
        try:
            yield
        finally:
            self.port = ""
            await server.close()

    async def _run(
        self,
        stop: asyncio.Event,
        wanted: Sequence[str] | None,
        stages: frozenset[str] | None,
        keeper: bool,
        name: str,
        debug: bool,
        echo: Echo | None,
    ) -> None:
        log = self.open_log()
        await self.apply(log)
        logs.add_redactor(self.secrets.redact)
        execution, blobs = self._execution(debug)
        self.workers = [
            await self._worker(log, topology, execution, blobs, wanted, stages, keeper, name, echo)
            # One worker runs all versions of a pipeline; two of a name would fence each other.
            for topology in {each.plan.pipeline: each for each in self.topologies}.values()
        ]
        running = {asyncio.create_task(worker.run()) for worker in self.workers}
        upkeep = asyncio.create_task(self._keep_up(log))
        ending = asyncio.create_task(stop.wait())
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
        from streams.engine.payload import INLINE_LIMIT, ROW_LIMIT
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
            inline=ROW_LIMIT if self.keeps_outputs else INLINE_LIMIT,
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
        from streams.runtime.blob_home import require_same_store
        from streams.runtime.setup import require_layout
        from streams.runtime.source_topics import require_sources
        from streams.runtime.worker import Worker
        from streams.topology.plan import Naming

        naming = Naming(self.settings.namespace, topology.plan.pipeline)
        layout = await require_layout(log, naming)
        await require_same_store(log, naming, blobs, self.clock)
        kafka = self.settings.kafka
        if keeper:
            # Where nobody else has topics, those of others are made: there are no others.
            made = None if kafka.bootstrap else self.settings.partitions
            plan = topology.plan
            await require_sources(log, naming, plan, kafka.registry, partitions=made)
        return Worker(
            log,
            naming,
            execution,
            blobs,
            self.clock,
            name=name,
            partitions=layout.partitions,
            pools=pools,
            stages=stages,
            keeper=keeper,
            snapshots=self.settings.state_dir / "snapshots",
            drain_seconds=self.settings.worker.drain_seconds,
            echo=echo,
            metrics=self.metrics,
            registry=kafka.registry,
        )

    async def _keep_up(self, log: Log) -> None:
        """Compaction and retention of an embedded log, in idle time."""
        maintain = getattr(log, "maintain", None)
        while maintain is not None:
            await self.clock.sleep(30)
            try:
                await maintain()
            except LogUnavailable as error:
                _log.warning("log.upkeep_waits", code=error.code, error=error.message)


def _version() -> str:
    """Of this package; none in a checkout that was never installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("interlock-streams")
    except PackageNotFoundError:
        return ""


def _expand(pattern: str | Path) -> list[str]:
    text = str(pattern)
    if not any(sign in text for sign in "*?["):
        return [text]
    path = Path(pattern)
    fixed = Path(path.anchor) if path.is_absolute() else Path()
    # Tests lie beside the topologies (`ingest.test.yaml`); a pattern does not mean them.
    paths = fixed.glob(str(path.relative_to(fixed)))
    found = sorted(str(each) for each in paths if ".test." not in each.name)
    if not found:
        raise NotFoundError(f"no file matches {text}")
    return found


def _secret_names(topologies: Sequence[Topology]) -> list[str]:
    return sorted({name for topology in topologies for name in topology.plan.secrets})
