"""Verbs about the broker for development: start, status, stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.output import DryRunOption, Form, FormOption, say, show_one, table

if TYPE_CHECKING:
    from streams.broker.devbroker.broker import Broker

app = typer.Typer(
    help="A real Kafka on this machine, for development and tests.", no_args_is_help=True
)

NOT_RUNNING = 3
"""Exit code of `status`: as for anything that is asked for and not there."""


@app.command()
def start(
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65535, metavar="N", help="Default: 9092. 0: any that is free."
        ),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes", min=1, max=9, metavar="N", help="Default: as many as before, at first 1."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget everything kept in it first.")
    ] = False,
    dry_run: DryRunOption = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Starts Kafka, waits until it serves, and prints its HOST:PORT; it runs on by itself.

    It listens on this machine only and keeps its data in .streams/kafka. If it runs already,
    that is said. The first start fetches Kafka (43 MB), by Maven or by the extra `broker`.
    """
    from streams.broker.devbroker.broker import find_broker, start_broker
    from streams.cli.session import shown
    from streams.clock import SystemClock

    folder = _folder()
    before = find_broker(folder)
    if dry_run:
        _say_what_start_would_do(folder, before, port=port, nodes=nodes, fresh=fresh)
        return
    if before is None or not before.whole:
        say(f"starting Kafka in {shown(folder)}")
    clock = SystemClock()
    began = clock.monotonic()
    broker = start_broker(folder, port=port, size=nodes, fresh=fresh, say=say, clock=clock)
    if broker == before:
        say("it runs already")
    else:
        say(f"Kafka {broker.kafka} serves, after {clock.monotonic() - began:.1f} s")
    show_one(
        _as_object(folder, broker),
        output,
        text=lambda: broker.bootstrap,
        name=lambda each: str(each["bootstrap"]),
    )


@app.command()
def status(output: FormOption = Form.TABLE) -> None:
    """Says whether it runs, and where; exit code 3 if no node of it does."""
    from streams.broker.devbroker.broker import find_broker
    from streams.cli.session import shown

    folder = _folder()
    broker = find_broker(folder)
    if broker is None and output in {Form.TABLE, Form.NAME}:
        say(f"no broker runs in {shown(folder)}")
    else:
        show_one(
            _as_object(folder, broker),
            output,
            text=lambda: "\n".join(_table(broker)),
            name=lambda each: str(each["bootstrap"]),
        )
    if broker is None:
        raise typer.Exit(NOT_RUNNING)


@app.command()
def stop(dry_run: DryRunOption = False, output: FormOption = Form.TABLE) -> None:
    """Ends it and waits until it has gone; its data stay for the next start."""
    from streams.broker.devbroker.broker import find_broker, stop_broker
    from streams.cli.session import shown
    from streams.clock import SystemClock

    folder = _folder()
    before = find_broker(folder)
    if dry_run:
        what = f"would stop Kafka at {before.bootstrap}" if before else "nothing to stop"
        say(f"{what}, in {shown(folder)}")
        return
    clock = SystemClock()
    began = clock.monotonic()
    if before is not None:
        say(f"stopping Kafka at {before.bootstrap}, in {shown(folder)}")
    stopped = stop_broker(folder, clock)
    if stopped is None:
        say(f"no broker runs in {shown(folder)}")
    else:
        say(f"it has gone, after {clock.monotonic() - began:.1f} s; its data stay")
    if output in {Form.JSON, Form.YAML}:
        show_one(_as_object(folder, None), output, text=str, name=str)


def _folder() -> Path:
    from streams.settings import Settings

    return Settings.load().state_dir / "kafka"


def _as_object(folder: Path, broker: Broker | None) -> dict[str, Any]:
    """What scripts read; the same keys whether it runs or not."""
    from streams.broker.devbroker.nodes import log_file

    state = "stopped" if broker is None else "running" if broker.whole else "degraded"
    return {
        "state": state,
        "bootstrap": broker.bootstrap if broker else None,
        "kafka": broker.kafka if broker else None,
        "cluster_id": broker.cluster_id if broker else None,
        "node_count": broker.size if broker else None,
        "folder": str(folder),
        "nodes": [
            {
                "id": node.id,
                "address": node.address,
                "pid": node.pid,
                "log": str(log_file(folder, node.id)),
            }
            for node in (broker.nodes if broker else ())
        ],
    }


def _table(broker: Broker | None) -> list[str]:
    """A line a node; one that should be there and is not has its line too."""
    from streams.broker.devbroker.nodes import log_file
    from streams.cli.session import shown

    if broker is None:
        return []
    alive = {node.id: node for node in broker.nodes}
    rows = []
    for number in range(1, broker.size + 1):
        node = alive.get(number)
        log = shown(log_file(broker.folder, number))
        if node is None:
            rows.append([str(number), "stopped", "-", "-", log])
        else:
            rows.append([str(number), "running", node.address, str(node.pid), log])
    return table(rows, ["node", "state", "address", "pid", "log"])


def _say_what_start_would_do(
    folder: Path, before: Broker | None, *, port: int | None, nodes: int | None, fresh: bool
) -> None:
    """Which Java, which jars, which port; a Java that is missing is told as at the start itself."""
    from streams.broker.devbroker import fetching, jars
    from streams.broker.devbroker.broker import DEFAULT_PORT
    from streams.broker.devbroker.java import find_java
    from streams.cli.session import shown
    from streams.settings import environment

    if before is not None and before.whole:
        say(f"it runs already, at {before.bootstrap}")
        return
    around = environment()
    java = find_java(around)
    place = fetching.cache_folder(around) / f"kafka-{jars.VERSION}"
    ways = " or ".join(fetching.fetchers(around)) or "nothing that is here"
    have = f"in {place}" if place.is_dir() else f"to be fetched with {ways} into {place}"
    where = "any free port" if port == 0 else f"port {DEFAULT_PORT if port is None else port}"
    say(f"would start Kafka {jars.VERSION} on {where}, in {shown(folder)}")
    if nodes:
        say(f"   nodes: {nodes}")
    if fresh:
        say("   data:  deleted first")
    say(f"   Java:  {java.version}, from {java.source}")
    say(f"   jars:  {have}")
