"""One verb's connection to a log: found, opened, closed; and who is speaking."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from streams.errors import LogUnavailable

if TYPE_CHECKING:
    from streams.client import Client
    from streams.settings import Settings

Answer = TypeVar("Answer")

EXPLANATIONS: dict[str, str] = {
    "C108": """\
**No log here.** A verb looks for the embedded log in `.streams/` of this folder and of its
parents, unless a setting (`log`, `state_dir`) says otherwise.
Next: change into the project's folder, or start one: `streams init demo && cd demo && streams dev`.""",
}


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of the verb's work."""
    return asyncio.run(work)


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """A client of the log that belongs to this folder; it never creates one."""
    from streams.blobs import BlobStore
    from streams.broker.local import LocalLog
    from streams.client import Client
    from streams.clock import SystemClock
    from streams.settings import Settings

    settings = Settings.load()
    if not settings.log.is_file():
        raise LogUnavailable(
            f"no log here: {shown(settings.log)} does not exist",
            code="C108",
            help="change into the project's folder, or start one: streams dev",
        )
    log = LocalLog.open(settings.log, clock=SystemClock())
    try:
        yield Client(log, settings.namespace, blobs=BlobStore(settings.blobs))
    finally:
        await log.close()


def target(settings: Settings) -> str:
    """What a mutating verb acts on."""
    return f"the embedded log {shown(settings.log)}"


def shown(path: Path) -> str:
    """The path as a person here would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def user() -> str:
    """Who is speaking; kept with every signal."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
