"""A pipeline's stages as agents of an existing Faust app, its ledger as a Faust table.

At least once, in the way of Faust: see docs/faust.md. Needs the extra `faust`.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from streams.app import App
from streams.faust import faults
from streams.settings import Settings
from streams.topology.plan import USER_CODE, Naming, Part

if TYPE_CHECKING:
    import faust

    from streams.faust.stages import FaustStages

__all__ = ["attach"]


def attach(
    app: faust.App,
    file: str | Path,
    *,
    pools: Collection[str] | None = None,
    stages: Collection[str] | None = None,
    settings: Settings | None = None,
) -> FaustStages:
    """The file's stages run in this app: those of `pools`, only `stages`, or all of them. Gates,
    joins, timers and everything else without user code stay with a keeper (`streams worker`).

    Call it where agents are declared, after the app was configured. Topics and the plan are set up
    when the app starts. Raises `UserError` where app and file do not fit together.
    """
    _require_extra()
    from streams.faust.consuming import CommittedTransport
    from streams.faust.stages import FaustStages

    _check(app)
    pipeline = App.from_files(
        file,
        settings=_located(settings or Settings.load(), app),
        pools=None if pools is None else tuple(pools),
        stages=None if stages is None else frozenset(stages),
    )
    names = sorted({each.plan.pipeline for each in pipeline.topologies})
    if len(names) > 1:
        raise faults.nothing_to_run(f"{file} holds several pipelines: {', '.join(names)}")

    def served(part: Part) -> bool:
        return (pools is None or part.pool in pools) and (stages is None or part.path in stages)

    parts = (part for each in pipeline.topologies for part in each.plan.parts)
    if not any(part.kind in USER_CODE and served(part) for part in parts):
        raise faults.nothing_to_run(f"{file} has no stage with user code that was asked for")
    if not isinstance(app.transport, CommittedTransport):
        app.transport = CommittedTransport(app.conf.broker_consumer, app)
    naming = Naming(pipeline.settings.namespace, names[0])
    return FaustStages(app, pipeline, naming, served)


def _require_extra() -> None:
    """What is missing is named before anything is done."""
    try:
        import faust  # noqa: F401 - looked for, not used
    except ImportError as error:
        raise faults.not_installed(error.name or "faust") from None
    # cramjam is how aiokafka reads lz4, by which keepers and workers compress what they write.
    for package in ("aiokafka", "cramjam"):
        if find_spec(package) is None:
            raise faults.not_installed(package)


def _check(app: faust.App) -> None:
    """Refuses what Faust cannot keep, or would pass over."""
    from faust.transport.drivers.aiokafka import Transport
    from faust.types.enums import ProcessingGuarantee

    conf: Any = app.conf
    if conf.processing_guarantee == ProcessingGuarantee.EXACTLY_ONCE:
        raise faults.exactly_once()
    if not isinstance(app.transport, Transport):
        raise faults.unfit("broker", conf.broker_consumer[0], "aiokafka://HOST:PORT")
    if conf.consumer_auto_offset_reset != "earliest":
        reset = conf.consumer_auto_offset_reset
        raise faults.unfit("consumer_auto_offset_reset", reset, "earliest")


def _located(settings: Settings, app: Any) -> Settings:
    """The app's brokers, unless the settings name some."""
    kafka = settings.kafka
    if kafka.bootstrap:
        return settings
    found = ",".join(f"{url.host}:{url.port or 9092}" for url in app.conf.broker_consumer)
    return msgspec.structs.replace(settings, kafka=msgspec.structs.replace(kafka, bootstrap=found))
