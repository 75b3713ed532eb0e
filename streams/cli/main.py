"""The `streams` command. Each verb imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import typer

from streams.cli import (
    broker,
    chaos,
    control,
    deadletter,
    events,
    gate,
    inspect,
    job,
    recover,
    run,
    testing,
    topology,
)
from streams.cli.failing import Verbs

app = typer.Typer(
    name="streams",
    cls=Verbs,
    help="Durable stage pipelines: run them, see where every job stands, and let it go on.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for group in (
    topology.app,
    run.app,
    job.app,
    events.app,
    control.app,
    inspect.app,
    recover.app,
    testing.app,
    chaos.app,
):
    app.registered_commands += group.registered_commands
app.add_typer(gate.app, name="gate")
app.add_typer(control.facts, name="fact")
app.add_typer(deadletter.app, name="dlq")
app.add_typer(inspect.config, name="config")
app.add_typer(broker.app, name="broker")


@app.callback()
def root() -> None:
    """Durable stage pipelines: run them, see where every job stands, and let it go on.

    `--debug` with any verb shows the trace of an error.
    """


def main() -> None:
    """Entry point of the commands `streams` and `interlock-streams`."""
    app(prog_name="streams")


if __name__ == "__main__":
    main()
