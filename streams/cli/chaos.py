"""Verb about faults: chaos."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.output import Form, FormOption, give, say, show, table
from streams.cli.session import chosen_cluster, on_log, settings_of_verb

if TYPE_CHECKING:
    from streams.testing.chaos.rows import FaultRow
    from streams.testing.chaos.run import Order
    from streams.testing.chaos.verdict import Verdict

app = typer.Typer()


@app.command()
@on_log
def chaos(
    row: Annotated[
        list[int] | None,
        typer.Option("--row", metavar="N", help="Only this row of the plan; may repeat."),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", min=1, metavar="K", help="Default: 1; nightly: each row's own."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.1, metavar="M", help="Bound of rows measured in time."),
    ] = None,
    nightly: Annotated[
        bool, typer.Option("--nightly", help="All rows and all repeats: many hours.")
    ] = False,
    slack: Annotated[
        float,
        typer.Option("--slack", min=1.0, metavar="X", help="Times that limits of time are wider."),
    ] = 1.0,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Also writes the table there.")
    ] = None,
    output: FormOption = Form.TABLE,
) -> None:
    """Breaks workers, brokers and the way between them, and judges what the log says afterwards.

    Starts brokers of its own. With --kafka it uses that cluster, only runs rows that touch nothing
    but their own workers and topics, and deletes those at the end. Exit code 1: a rule is broken.
    """
    from streams.cli.session import run
    from streams.testing.chaos.run import Order
    from streams.testing.chaos.verdict import COLUMNS, cells

    rows = _chosen(row)
    with tempfile.TemporaryDirectory(prefix="streams-chaos-") as folder:
        order = Order(
            folder=Path(folder),
            kafka=chosen_cluster(),
            options=settings_of_verb().kafka.options if chosen_cluster() else {},
            nightly=nightly,
            repeats=repeats,
            minutes=minutes,
            slack=slack,
        )
        verdicts = run(_judged(rows, order, lambda found: _written(write, found)))
    if output is Form.TABLE:
        for line in table([cells(each) for each in verdicts], COLUMNS):
            give(line)
    else:
        show(
            verdicts,
            output,
            columns={},
            name=lambda each: f"{each.row} {each.result}",
            plain=lambda each: each.as_object(),
        )
    if any(each.result == "failed" for each in verdicts):
        raise typer.Exit(1)


def _chosen(numbers: list[int] | None) -> list[FaultRow]:
    """The rows of these numbers, or all."""
    from streams.errors import NotFoundError
    from streams.testing.chaos.rows import ROWS

    for number in numbers or ():
        if number not in ROWS:
            there = ", ".join(map(str, ROWS))
            raise NotFoundError(f"there is no row {number}", help=f"rows: {there}")
    return [ROWS[number] for number in numbers or ROWS]


def _written(file: Path | None, verdicts: list[Verdict]) -> None:
    """The table so far stands in the file."""
    from streams.testing.chaos.verdict import markdown

    if file is not None:
        file.write_text(markdown(verdicts), encoding="utf-8")


async def _judged(
    rows: list[FaultRow], order: Order, keep: Callable[[list[Verdict]], None]
) -> list[Verdict]:
    """Each row's verdict, told and kept as soon as it is there."""
    from streams.testing.chaos.run import run

    found = []
    async for verdict in run(rows, order, say):
        say(f"row {verdict.row}: {verdict.result}, {verdict.seconds:.0f} s")
        for what in verdict.violations[:10]:
            say(f"  {what}")
        found.append(verdict)
        keep(found)
    return found
