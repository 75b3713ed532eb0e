"""What `worker` does: one process at work, or several under one that starts them again."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from streams.app import App
from streams.cli.failing import USAGE
from streams.cli.output import say
from streams.cli.session import settings_of_verb, target
from streams.clock import Clock, SystemClock
from streams.errors import NotFoundError
from streams.observe import logs
from streams.runtime.collecting import calm_collector
from streams.settings import Settings, environment

RESTART_DELAY = 1.0
"""Seconds before a process that died is started again, so that a broken one does not spin."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Duty(msgspec.Struct, frozen=True):
    """What a worker serves."""

    files: tuple[Path, ...]
    pools: tuple[str, ...] | None = None
    stages: frozenset[str] | None = None
    keeper: bool = True
    kafka: str | None = None
    port: int | None = None
    host: str | None = None

    def settings(self) -> Settings:
        """As they are for this duty: what it says itself wins."""
        return settings_of_verb({"worker.port": self.port, "worker.host": self.host})

    def app(self, settings: Settings) -> App:
        """What this duty runs."""
        return App.from_files(*self.files, settings=settings, pools=self.pools, stages=self.stages)

    def of_process(self, number: int, settings: Settings) -> Duty:
        """The duty of one of several processes: each serves a port of its own."""
        port = settings.worker.port
        own = port + number if port else port
        return msgspec.structs.replace(self, port=own, host=settings.worker.host)

    def arguments(self) -> list[str]:
        """The same as words of a command line."""
        words = [str(path) for path in self.files]
        for pool in self.pools or ():
            words += ["--pool", pool]
        if self.stages is not None:
            words += ["--stage", ",".join(sorted(self.stages))]
        if self.kafka is not None:
            words += ["--kafka", self.kafka]
        if self.port is not None:
            words += ["--port", str(self.port)]
        if self.host is not None:
            words += ["--host", self.host]
        return [*words, "--keeper", "yes" if self.keeper else "no"]


@contextmanager
def stopping() -> Iterator[asyncio.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    here = asyncio.current_task()

    def ask() -> None:
        if stop.is_set() and here is not None:
            here.cancel()
        stop.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, ask)
    try:
        yield stop
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def work(duty: Duty) -> int:
    """Works until it is told to stop; everything that ran then has ended or been given back."""
    settings = duty.settings()
    logs.configure(settings)
    app = duty.app(settings)
    _check_names(app, duty)
    names = ", ".join(topology.plan.pipeline for topology in app.topologies)
    say(f"worker of {names} on {target(settings)}")
    calm_collector()
    with stopping() as stop:
        await app.run(stop, pools=duty.pools, stages=duty.stages, keeper=duty.keeper)
    return 0


def _check_names(app: App, duty: Duty) -> None:
    """A pool or stage that no file has would be a worker that does nothing. The pool `default` may
    be empty where others run every stage (another pool, a Faust app): then the keeper is left."""
    parts = [part for topology in app.topologies for part in topology.plan.parts]
    kept = {"default"} if duty.keeper else set()
    for wanted, known, what in (
        (duty.pools or (), {part.pool for part in parts} | kept, "pool"),
        (duty.stages or (), {part.path for part in parts}, "stage"),
    ):
        for name in wanted:
            if name not in known:
                there = ", ".join(sorted(known))
                raise NotFoundError(
                    f"no {what} `{name}` in these files", help=f"there are: {there}"
                )


async def supervise(duty: Duty, processes: int, clock: Clock | None = None) -> int:
    """Keeps so many processes at work; one that dies is started again. Stops them all as one,
    also when one says that what it was asked to do cannot be done; that is the code then."""
    ticker = clock or SystemClock()
    app = duty.app(duty.settings())
    _check_names(app, duty)
    await _apply(app)
    duties = [duty.of_process(number, app.settings) for number in range(processes)]
    with stopping() as stop:
        codes = await asyncio.gather(
            *(
                _keep_up(each, number, app.settings.worker.name, stop, ticker)
                for number, each in enumerate(duties)
            )
        )
    return max(codes)


async def _apply(app: App) -> None:
    """One process sets the topics up, so that the others find them."""
    log = app.open_log()
    try:
        await app.apply(log)
    finally:
        await log.close()


async def _keep_up(duty: Duty, number: int, name: str, stop: asyncio.Event, clock: Clock) -> int:
    command = [sys.executable, "-m", "streams.cli.main", "worker", *duty.arguments()]
    # Without a name of their own they take slots of the folder, and each finds one.
    around = {**environment(), "STREAMS_WORKER__NAME": f"{name}-{number}" if name else ""}
    while not stop.is_set():
        process = await asyncio.create_subprocess_exec(*command, env=around)
        ended = asyncio.create_task(process.wait())
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not ended.done():
            process.terminate()
        code = await ended
        if code == USAGE:
            stop.set()
            return code
        if not stop.is_set():
            say(f"process {number} ended with {code}; it is started again")
            await clock.sleep(RESTART_DELAY)
    return 0
