"""Where `dev` keeps its log: in a file of the folder, or on a Kafka cluster."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import msgspec

from streams.blobs import BlobStore
from streams.broker.cluster import on_this_machine
from streams.broker.local import LocalLog
from streams.broker.opening import open_log
from streams.cli.output import say
from streams.cli.session import REACHED_WITHIN, shown, target
from streams.client import Client
from streams.clock import Clock, SystemClock
from streams.errors import UserError
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.broker.kafka import KafkaLog
    from streams.broker.port import Log

LOCAL = "local"
"""What `--kafka` is told for the broker of this folder."""
DEBUG_MEMBER_MS = 600_000
"""How long a worker may stand at a breakpoint before the log takes it for dead."""

EXPLANATIONS: dict[str, str] = {
    "C113": """\
**A worker is running on this log.** `--fresh` deletes the log; a worker that still writes to it
would lose what it does. On Kafka a worker that was killed counts for six seconds more.
Next: stop the worker (`streams doctor` names it), or leave out `--fresh`.""",
    "C122": """\
**The cluster is not on this machine.** `streams dev --fresh` deletes the pipelines' topics and all
that is in them; on a cluster that others may use it does not.
Next: leave out `--fresh`, choose another `namespace` for yourself, or use `--kafka local`.""",
}


def settings_for(kafka: str | None) -> Settings:
    """As they are for `dev`, with the cluster that it was told. `local`: the broker of this folder
    serves then."""
    if kafka != LOCAL:
        return _for_one_developer(Settings.load({"kafka.bootstrap": kafka}))
    from streams.broker.devbroker.broker import start_broker

    folder = Settings.load().state_dir / "kafka"
    broker = start_broker(folder, say=say, clock=SystemClock())
    say(f"Kafka serves at {broker.bootstrap} and goes on after this: streams broker stop")
    return _for_one_developer(Settings.load({"kafka.bootstrap": broker.bootstrap}))


def _for_one_developer(settings: Settings) -> Settings:
    """Nobody takes over from a `dev` that ended: it keeps no seat, and leaves at once."""
    kafka = settings.kafka
    options: dict[str, Any] = {"streams.static": False, **kafka.options}
    return msgspec.structs.replace(settings, kafka=msgspec.structs.replace(kafka, options=options))


def open_patient(settings: Settings, clock: Clock) -> Log:
    """The log, for a worker that may stand at a breakpoint for long."""
    kafka = settings.kafka
    if kafka.bootstrap:
        options = {**kafka.options, "consumer.max.poll.interval.ms": DEBUG_MEMBER_MS}
        kafka = msgspec.structs.replace(kafka, options=options)
        return open_log(msgspec.structs.replace(settings, kafka=kafka), clock)
    settings.log.parent.mkdir(parents=True, exist_ok=True)
    return LocalLog.open(
        settings.log,
        clock=clock,
        session_ms=DEBUG_MEMBER_MS,
        poll_interval_ms=DEBUG_MEMBER_MS,
    )


async def forget(settings: Settings) -> None:
    """What the namespace has in the log is gone, and what belongs to it here; refused while a
    worker is alive on it."""
    if settings.kafka.bootstrap:
        await _forget_on_kafka(settings)
    elif settings.log.is_file():
        await _forget_file(settings)


async def _forget_file(settings: Settings) -> None:
    log = LocalLog.open(settings.log, clock=SystemClock())
    try:
        await _require_nobody(Client(log, settings.namespace), shown(settings.log))
    finally:
        await log.close()
    for path in settings.log.parent.glob(f"{settings.log.name}*"):
        path.unlink()
    for name in ("blobs", "snapshots"):
        shutil.rmtree(settings.state_dir / name, ignore_errors=True)
    say(f"forgot everything in {shown(settings.state_dir)}/")


async def _forget_on_kafka(settings: Settings) -> None:
    """Topics and groups of all pipelines of the namespace."""
    from streams.broker.kafka import KafkaLog

    kafka = settings.kafka
    if not on_this_machine(kafka.bootstrap):
        raise UserError(
            f"--fresh deletes topics on this machine only, not on {kafka.bootstrap}",
            code="C122",
            help="leave out --fresh, or choose another namespace",
        )
    log = KafkaLog.open(kafka.bootstrap, clock=SystemClock(), options=kafka.options)
    try:
        await log.cluster.reach(REACHED_WITHIN)
        names = await _forget_pipelines(log, settings)
    finally:
        await log.close()
    if not settings.log.is_file():  # else the values may belong to jobs of the embedded log
        blobs = BlobStore(settings.blobs)
        for name in names:
            await blobs.delete_prefix(f"{settings.namespace}/{name}")
    say(f"forgot everything of `{settings.namespace}` on {target(settings)}")


async def _forget_pipelines(log: KafkaLog, settings: Settings) -> list[str]:
    infos = await _require_nobody(Client(log, settings.namespace), target(settings))
    prefixes = tuple(f"{info.naming.prefix}." for info in infos)
    await log.delete_topics([name for name in await log.topics() if name.startswith(prefixes)])
    await log.delete_groups([group for info in infos for group in info.groups])
    return [info.name for info in infos]


async def _require_nobody(client: Client, where: str) -> list[Any]:
    """The pipelines, none of which has a worker."""
    infos = await client.pipelines()
    alive = sorted({worker for info in infos for worker in info.workers})
    if alive:
        raise UserError(
            f"a worker is running on {where}: {', '.join(alive)}",
            code="C113",
            help="stop it first, or leave out --fresh",
        )
    return infos
