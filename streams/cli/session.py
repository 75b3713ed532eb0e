"""One verb's connection to a log: found, opened, closed; and who is speaking."""

from __future__ import annotations

import asyncio
import functools
import getpass
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from streams.errors import LogUnavailable

if TYPE_CHECKING:
    from streams.client import Client
    from streams.settings import Settings

Answer = TypeVar("Answer")

KafkaOption = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        metavar="HOST:PORT",
        help="The Kafka cluster that holds the log. Default: the settings, else the embedded log.",
    ),
]
REACHED_WITHIN = 5.0
"""Seconds for a cluster's first answer; what is wrong then is told instead of waited for."""

_kafka: ContextVar[str | None] = ContextVar("kafka", default=None)

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
    from streams.broker.cluster import cluster_of
    from streams.broker.opening import open_log
    from streams.client import Client
    from streams.clock import SystemClock

    settings = settings_of_verb()
    if not settings.kafka.bootstrap and not settings.log.is_file():
        raise LogUnavailable(
            f"no log here: {shown(settings.log)} does not exist",
            code="C108",
            help="change into the project's folder, or start one: streams dev",
        )
    log = open_log(settings, SystemClock())
    try:
        cluster = cluster_of(log)
        if cluster is not None:
            await cluster.reach(REACHED_WITHIN)
        yield Client(
            log,
            settings.namespace,
            blobs=BlobStore(settings.blobs),
            registry=settings.kafka.registry,
        )
    finally:
        await log.close()


def settings_of_verb(overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings, with what this verb was told about its log; `overrides` are its other flags."""
    from streams.settings import Settings

    return Settings.load({"kafka.bootstrap": _kafka.get(), **(overrides or {})})


def chosen_cluster() -> str | None:
    """What this verb's `--kafka` said."""
    return _kafka.get()


def on_log(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with an option `--kafka`, which says where its log is."""

    @functools.wraps(verb)
    def told(*args: Any, kafka: str | None = None, **options: Any) -> None:
        _kafka.set(kafka)
        verb(*args, **options)

    shape = inspect.signature(verb, eval_str=True)
    option = inspect.Parameter(
        "kafka", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=KafkaOption
    )
    told.__signature__ = shape.replace(  # type: ignore[attr-defined]
        parameters=[*shape.parameters.values(), option]
    )
    told.__annotations__ = {
        **get_type_hints(verb, include_extras=True),
        "kafka": KafkaOption,
    }
    return told


def target(settings: Settings) -> str:
    """What a mutating verb acts on."""
    if settings.kafka.bootstrap:
        return f"the Kafka cluster {settings.kafka.bootstrap}"
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
