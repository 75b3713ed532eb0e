"""What `dev` does: pipelines run in this process, changes scroll by, edits are taken at once."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from streams.app import App
from streams.blobs import BlobStore
from streams.broker.opening import open_log
from streams.cli.dev_log import forget, open_patient, settings_for
from streams.cli.failing import described
from streams.cli.live import LiveView
from streams.cli.output import give, paint, say
from streams.cli.project import topology_files
from streams.cli.session import shown, target
from streams.cli.submitting import read_jobs
from streams.cli.wording import count, time_of_day
from streams.cli.working import stopping
from streams.client import Change, Client, Filter
from streams.clock import SystemClock
from streams.errors import Fenced, StreamsError, UserError
from streams.observe import logs
from streams.plugins import unload_project_modules
from streams.settings import Settings, environment

SAMPLES = "jobs.jsonl"
RELOAD_GRACE = 1.0
"""Seconds that running stages get at a reload; what has not ended by then runs again."""
QUIET = 0.3
"""Seconds without a change after which it is said who waits at which gate."""


async def develop(
    given: Sequence[Path], *, fresh: bool, debug: bool, kafka: str | None = None
) -> None:
    """Runs until Ctrl-C; afterwards everything is kept in the state dir, or on the cluster."""
    settings = _quiet(settings_for(kafka))
    logs.configure(settings)
    files = topology_files(given, Path.cwd())
    if debug:
        _keep_signals()
    app = _load(files, settings, debug=debug)
    if fresh:
        await forget(settings)
    with stopping() as stop:
        session = Development(files, settings, debug=debug)
        await session.run(app, stop)


def _quiet(settings: Settings) -> Settings:
    """As for a worker, but the log lines stay quiet: what happens is shown in its own way."""
    # The port is for machines that watch a worker; what `dev` shows, it shows here.
    quiet = msgspec.structs.replace(settings.worker, port=None)
    settings = msgspec.structs.replace(settings, worker=quiet)
    if "log_level" in settings.sources:
        return settings
    return msgspec.structs.replace(settings, log_level="warning")


def _keep_signals() -> None:
    """Ctrl-C still stops `dev` after a breakpoint: the debugger would take the signal over."""
    if sys.breakpointhook is not sys.__breakpointhook__:
        return

    def hook(*_: object, **__: object) -> None:
        import pdb  # noqa: T100 - this is where a breakpoint() of a stage ends up

        pdb.Pdb(nosigint=True).set_trace(inspect.stack(0)[1].frame)

    if not environment().get("PYTHONBREAKPOINT"):
        sys.breakpointhook = hook


def _load(files: Sequence[Path], settings: Settings, *, debug: bool) -> App:
    log = open_patient(settings, SystemClock()) if debug else None
    app = App.from_files(*files, settings=settings, log=log)
    app.require_secrets()
    return app


class Development:
    """One `dev`: apps come and go with each edit, the lines go on."""

    def __init__(self, files: Sequence[Path], settings: Settings, *, debug: bool) -> None:
        self._files = list(files)
        self._settings = settings
        self._debug = debug
        self._folders = sorted({path.resolve().parent for path in files})
        self._clock = SystemClock()

    @property
    def _place(self) -> str:
        if self._settings.kafka.bootstrap:
            return f"on {target(self._settings)}"
        return f"in {shown(self._settings.state_dir)}/"

    async def run(self, app: App, stop: asyncio.Event) -> None:
        """Runs the app, and after each edit that loads the one it gives."""
        edits: asyncio.Queue[App] = asyncio.Queue(1)
        watching = asyncio.create_task(self._watch(edits))
        names = ", ".join(topology.plan.pipeline for topology in app.topologies)
        say(f"pipeline {names}, kept {self._place} — Ctrl-C stops")
        try:
            current: App | None = app
            while current is not None:
                current = await self._generation(current, edits, stop)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _generation(
        self, app: App, edits: asyncio.Queue[App], stop: asyncio.Event
    ) -> App | None:
        """Runs this app until an edit gives another, which it returns, or until the end."""
        await app.apply()
        leave = asyncio.Event()
        async with self._client() as client:
            printing = asyncio.create_task(self._print(client, app))
            await self._submit_samples(client, app)
            running = asyncio.create_task(app.run(leave, debug=self._debug, echo=_echo))
            edited = asyncio.create_task(edits.get())
            stopped = asyncio.create_task(stop.wait())
            others = {printing, edited, stopped}
            try:
                await asyncio.wait({running, *others}, return_when=asyncio.FIRST_COMPLETED)
                leave.set()
                if edited.done():
                    await _end(running, RELOAD_GRACE)
                    return edited.result()
                if printing.done():
                    printing.result()
                if stopped.done():
                    say("\nstopping: running stages may end first (Ctrl-C again: at once)")
                with suppress(Fenced):
                    await running
                    return None
                say("the log took this worker for dead (a long stop at a breakpoint?): going on")
                return _load(self._files, self._settings, debug=self._debug)
            finally:
                for task in (*others, running):
                    task.cancel()
                await asyncio.gather(*others, running, return_exceptions=True)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        log = open_log(self._settings, self._clock)
        try:
            yield Client(
                log,
                self._settings.namespace,
                blobs=BlobStore(self._settings.blobs),
                clock=self._clock,
            )
        finally:
            await log.close()

    async def _submit_samples(self, client: Client, app: App) -> None:
        """The jobs of `jobs.jsonl` are submitted once: while the pipeline has none at all."""
        for topology in app.topologies:
            samples = topology.path.parent / SAMPLES
            if len(app.topologies) > 1 or not samples.is_file():
                continue
            info = await client.pipeline(topology.plan.pipeline)
            if await client.jobs(Filter(info.name, limit=1)):
                continue
            try:
                jobs = list(read_jobs(samples, topology.plan))
            except UserError as error:
                say(described(error))
                continue
            ids = [job async for job in client.submit_many(info, jobs)]
            say(f"submitted {count(len(ids), 'job')} from {SAMPLES}: {' '.join(ids[:5])}")

    async def _print(self, client: Client, app: App) -> None:
        names = [topology.plan.pipeline for topology in app.topologies]
        plans = {topology.plan.digest: topology.plan for topology in app.topologies}
        for name in names:
            plans.update((await client.pipeline(name)).plans)

        def gate_of(digest: str, part: str) -> str | None:
            plan = plans.get(digest)
            found = plan.by_path.get(part) if plan else None
            return found.gate.name if found and found.gate else None

        queue: asyncio.Queue[Change] = asyncio.Queue(1000)
        changes = await client.follow(names)
        view = LiveView(gate_of, [j for name in names for j in await client.waiting(name)])
        reading = asyncio.create_task(_fill(queue, changes))
        try:
            while not reading.done():
                try:
                    change = await asyncio.wait_for(queue.get(), QUIET)
                except TimeoutError:
                    for line in view.gate_lines():
                        give(line)
                else:
                    for line in view.lines_of(change):
                        give(line)
            reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _watch(self, edits: asyncio.Queue[App]) -> None:
        """Each edit of YAML or Python that loads becomes an app; one that does not is told."""
        from watchfiles import PythonFilter, awatch

        wanted = PythonFilter(extra_extensions=(".yaml", ".yml"))
        async for changes in awatch(*self._folders, watch_filter=wanted, debounce=200, step=50):
            names = sorted({Path(path).name for _, path in changes})
            try:
                unload_project_modules(self._folders)
                app = _load(self._files, self._settings, debug=self._debug)
            except StreamsError as error:
                say(described(error))
                say(f"{', '.join(names)} cannot be loaded: the version before keeps running")
                continue
            say(f"{', '.join(names)} changed: reloaded")
            await edits.put(app)


async def _fill(queue: asyncio.Queue[Change], changes: AsyncIterator[Change]) -> None:
    async for change in changes:
        await queue.put(change)


async def _end(running: asyncio.Task[None], grace: float) -> None:
    """The app has left; what does not end in time is given up, and runs again later."""
    done, _ = await asyncio.wait({running}, timeout=grace)
    if not done:
        running.cancel()
    with suppress(asyncio.CancelledError, Fenced):
        await running


def _echo(job: str, stage: str, text: str) -> None:
    now = time_of_day(SystemClock().now())
    give(f"{now}  {job}  {stage}  {paint('says', 'dim')}  {text}")
