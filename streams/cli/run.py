"""Verbs that run pipelines: dev, worker."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.session import chosen_cluster, on_log

app = typer.Typer()


class YesNo(StrEnum):
    """A switch that is spelt out, as scripts like it."""

    YES = "yes"
    NO = "no"


@app.command()
def dev(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE…]", help="Default: all of this folder.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget everything kept here first.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="No time limits, so that a breakpoint() in a stage works."),
    ] = False,
    kafka: Annotated[
        str | None,
        typer.Option(
            "--kafka",
            metavar="local|HOST:PORT",
            help="The Kafka that holds the log; `local` starts one of this folder, or finds it. "
            "Default: the settings, else the embedded log.",
        ),
    ] = None,
) -> None:
    """Runs pipelines in this process, shows what happens, and reloads what is edited.

    Everything is kept in .streams/, or on Kafka; Ctrl-C ends what runs and leaves the rest for the
    next start.
    """
    from streams.cli.dev import develop
    from streams.cli.session import run

    run(develop(files or [], fresh=fresh, debug=debug, kafka=kafka))


@app.command()
@on_log
def worker(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Topology files.")],
    pool: Annotated[
        list[str] | None, typer.Option("--pool", metavar="P", help="Only this pool; may repeat.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="A,B", help="Only these stages.")
    ] = None,
    keeper: Annotated[
        YesNo, typer.Option("--keeper", help="Also serve intake, gates, timers and joins.")
    ] = YesNo.YES,
    processes: Annotated[int, typer.Option("--processes", min=1, max=256, metavar="N")] = 1,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            metavar="N",
            help="Serve metrics and health here; 0: any that is free. "
            "Of several processes each takes the next one.",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Where the port is opened. Default: 127.0.0.1.")
    ] = None,
) -> None:
    """Runs pipelines until SIGTERM, then ends what runs, commits and leaves."""
    from streams.cli.session import run
    from streams.cli.working import Duty, supervise, work

    duty = Duty(
        files=tuple(files),
        pools=tuple(pool) if pool else None,
        stages=frozenset(name.strip() for name in stage.split(",")) if stage else None,
        keeper=keeper is YesNo.YES,
        kafka=chosen_cluster(),
        port=port,
        host=host,
    )
    code = run(work(duty) if processes == 1 else supervise(duty, processes))
    if code:
        raise typer.Exit(code)
