"""Verbs about topology files: init, validate, graph, plan, apply."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.output import DryRunOption, Form, FormOption, give, say, show
from streams.cli.session import on_log

app = typer.Typer()

FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Topology files.")]
DetailedOption = Annotated[
    bool, typer.Option("--detailed-exitcode", help="Exit with 2 where there are changes.")
]


class Picture(StrEnum):
    """Forms of a graph."""

    TEXT = "text"
    MERMAID = "mermaid"
    JSON = "json"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty.")],
    dry_run: DryRunOption = False,
) -> None:
    """Writes a project that works: a pipeline with a gate, its stages, three jobs, a test."""
    from streams.cli.project import write_project

    for path in write_project(folder, dry_run=dry_run):
        give(str(path))
    say(f"next: cd {folder} && streams dev")


@app.command()
def validate(files: FilesArgument, output: FormOption = Form.TABLE) -> None:
    """Checks topology files whole, as `worker` does; exit code 2 and every fault, or 0."""
    from streams.cli.output import builtins
    from streams.cli.project import application
    from streams.topology.findings import TopologyError

    try:
        checked = application(files)
    except TopologyError as error:
        if output is Form.TABLE:
            raise
        show(error.findings, output, columns={}, name=lambda each: each.code, plain=builtins)
        raise typer.Exit(2) from None
    topologies = checked.topologies
    for topology in topologies:
        for warning in topology.warnings:
            say(warning.render())
        missing = checked.secrets.missing(topology.plan.secrets)
        for name in topology.plan.secrets:
            state = "not set here" if name in missing else "set"
            say(f"{topology.path}: needs the secret {name} ({state})")
    if output in (Form.TABLE, Form.NAME):
        for topology in topologies:
            plan = topology.plan
            give(
                f"{topology.path}: {plan.pipeline} version {plan.version} is valid ({plan.digest})"
            )
    else:
        found = [warning for topology in topologies for warning in topology.warnings]
        show(found, output, columns={}, name=lambda each: each.code, plain=builtins)


@app.command()
def graph(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    format: Annotated[
        Picture, typer.Option("--format", metavar="text|mermaid|json")
    ] = Picture.TEXT,
) -> None:
    """Draws the plan of a topology file."""
    from streams.cli.project import load
    from streams.topology.graph import render

    (topology,) = load([file])
    give(render(topology.plan, format.value))


@app.command()
@on_log
def plan(
    files: FilesArgument,
    output: FormOption = Form.TABLE,
    detailed_exitcode: DetailedOption = False,
) -> None:
    """Shows what an apply would change: topics, layout, plans; and what of the log is not right.

    With -o json also everything that is needed on a cluster: topics with their settings, consumer
    groups, transactional ids, ACLs. Exit code 1 if apply would refuse.
    """
    from streams.cli.planning import CHANGED, outlooks, print_plan
    from streams.cli.session import run, settings_of_verb, target

    say(f"plan for {target(settings_of_verb())}")
    found = run(outlooks(files))
    print_plan(found, output)
    if any(each.refused for each in found):
        raise typer.Exit(1)
    if detailed_exitcode and any(each.changes for each in found):
        raise typer.Exit(CHANGED)


@app.command()
@on_log
def apply(
    files: FilesArgument,
    output: FormOption = Form.TABLE,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask, though the target is another machine.")
    ] = False,
    dry_run: DryRunOption = False,
    detailed_exitcode: DetailedOption = False,
) -> None:
    """Makes the topics that are missing, and the files' plans those that new jobs begin with.

    Topics that are there are never altered: what differs is told, with the command that mends it.
    """
    from streams.cli.planning import CHANGED, applied, outlooks, print_applied, print_plan
    from streams.cli.session import run, settings_of_verb, target

    say(f"{'would apply' if dry_run else 'apply'} to {target(settings_of_verb())}")
    if dry_run:
        before = run(outlooks(files))
        print_plan(before, output)
        if any(each.refused for each in before):
            raise typer.Exit(1)
    else:
        before, after = run(applied(files, sure=yes))
        print_applied(before, after, output)
    if detailed_exitcode and any(each.changes for each in before):
        raise typer.Exit(CHANGED)
