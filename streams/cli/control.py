"""Verbs that hold a pipeline back or tell it something: pause, resume, fact set."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.output import DryRunOption, PipelineOption, ReasonOption, give, say
from streams.cli.session import on_log

app = typer.Typer()
facts = typer.Typer(help="Facts: set values that gates and stages can read.", no_args_is_help=True)

TargetArgument = Annotated[
    str, typer.Argument(metavar="PIPELINE[/STAGE]", help="All of it, or one stage.")
]


@app.command()
@on_log
def pause(target: TargetArgument, reason: ReasonOption = "", dry_run: DryRunOption = False) -> None:
    """Lets no new work start in a pipeline or stage until it is resumed, over restarts too."""
    _hold("pause", target, reason, dry_run)


@app.command()
@on_log
def resume(
    target: TargetArgument, reason: ReasonOption = "", dry_run: DryRunOption = False
) -> None:
    """Lets a paused pipeline or stage go on."""
    _hold("resume", target, reason, dry_run)


def _hold(kind: str, target: str, reason: str, dry_run: bool) -> None:
    from streams.cli.session import connected, run, user
    from streams.engine.messages import SignalData
    from streams.errors import NotFoundError

    name, slash, stage = target.partition("/")
    if slash and not stage:
        raise typer.BadParameter("names no stage after the slash", param_hint="PIPELINE[/STAGE]")

    async def work() -> None:
        async with connected() as client:
            info = await client.pipeline(name)
            if stage and stage not in info.plan.by_path:
                known = ", ".join(info.plan.by_path)
                raise NotFoundError(
                    f"pipeline {name} has no stage `{stage}`", help=f"there are: {known}"
                )
            would = "would " if dry_run else ""
            say(f"{would}{kind} {target} in namespace {client.namespace}")
            paused = (stage or "*") in info.pauses
            if paused == (kind == "pause"):
                say(f"{target} is {'paused' if paused else 'not paused'} already")
            if not info.keeper_alive:
                say("no worker is running: it takes effect when one starts")
            if not dry_run:
                signal = SignalData(kind, stage=stage or None, reason=reason, by=user())
                await client.signal(info, signal)
            give(target)

    run(work())


@facts.command("set")
@on_log
def set_facts(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[JOB] K=V…", help="The job, then names and values (JSON or text)."),
    ],
    shared: Annotated[
        bool, typer.Option("--global", help="For all jobs of the pipeline, instead of one.")
    ] = False,
    pipeline: PipelineOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Sets facts of one job, or with --global facts that all jobs of a pipeline share."""
    from streams.cli.session import run
    from streams.cli.wording import assignments, guess

    job, pairs = (None, words) if shared else (words[0], words[1:])
    if job is not None and "=" in job:
        raise typer.BadParameter("name the job first, or give --global", param_hint="JOB")
    if not pairs:
        raise typer.BadParameter("give at least one NAME=VALUE", param_hint="K=V…")
    values = {name: guess(text) for name, text in assignments(pairs, flag="K=V").items()}
    run(_set(job, values, pipeline, reason, dry_run))


async def _set(
    job: str | None, values: dict[str, object], pipeline: str | None, reason: str, dry_run: bool
) -> None:
    from streams.cli.session import connected, user
    from streams.cli.wording import compact
    from streams.engine.messages import SignalData
    from streams.engine.signals import FACT_NAME
    from streams.errors import UserError

    for name in values:
        if not FACT_NAME.fullmatch(name):
            raise UserError(f"`{name}` is no name for a fact", help="letters, digits, _ . - only")
    async with connected() as client:
        if job is None:
            infos = await client.chosen(pipeline)
            if len(infos) != 1:
                names = ", ".join(info.name for info in infos) or "none"
                raise UserError("which pipeline?", help=f"give --pipeline; there are: {names}")
            info, target = infos[0], None
        else:
            found = await client.find(job, pipeline)
            info, target = found.pipeline, found.view.id
        whose = f"job {target}" if target else "all jobs"
        would = "would set" if dry_run else "setting"
        say(f"{would} facts of {whose} in pipeline {info.name} of namespace {client.namespace}")
        if not info.keeper_alive:
            say("no worker is running: it takes effect when one starts")
        if not dry_run:
            # A shared fact belongs to the partition of its name, so each is a signal of its own.
            batches = [values] if target else [{name: value} for name, value in values.items()]
            for batch in batches:
                signal = SignalData(
                    "fact", batch, everywhere=target is None, reason=reason, by=user()
                )
                await client.signal(info, signal, target)
    for name, value in values.items():
        give(f"{name}={compact(value)}")
