"""Verbs about gates: who waits, let them go on, or turn them away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.output import (
    DryRunOption,
    Form,
    FormOption,
    PipelineOption,
    ReasonOption,
    say,
    show,
)
from streams.cli.session import on_log

if TYPE_CHECKING:
    from streams.client import Client
    from streams.inspection.jobs import Job

app = typer.Typer(help="Gates: list, release, reject.", no_args_is_help=True)

GateArgument = Annotated[str, typer.Argument(metavar="GATE", help="The gate's name or its stage.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every job that waits there now.")]


@app.command("list")
@on_log
def list_gates(pipeline: PipelineOption = None, output: FormOption = Form.TABLE) -> None:
    """Lists gates that hold jobs, with how many and since when."""
    from streams.cli.session import connected, run
    from streams.cli.wording import ago, moment

    async def work() -> None:
        async with connected() as client:
            jobs = await client.waiting(pipeline)
            now = client.clock.now()
        gates = _grouped(jobs)
        columns = {
            "gate": lambda each: each["gate"],
            "pipeline": lambda each: each["pipeline"],
            "waiting": lambda each: str(each["waiting"]),
            "oldest": lambda each: ago(each["oldest_since"], now),
            "next timeout": lambda each: moment(each["next_deadline"]),
            "jobs": lambda each: " ".join(each["jobs"][:3]) + (" …" if each["waiting"] > 3 else ""),
        }
        show(
            gates,
            output,
            columns=columns,
            name=lambda each: str(each["gate"]),
            empty="no job waits at a gate",
        )

    run(work())


@app.command()
@on_log
def release(
    gate: GateArgument,
    jobs: Annotated[list[str] | None, typer.Argument(metavar="JOB…")] = None,
    all: AllOption = False,
    pipeline: PipelineOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Lets jobs go on that wait at a gate now; who and why is kept with them."""
    _let_go("release", gate, jobs or [], all, pipeline, reason, dry_run, output)


@app.command()
@on_log
def reject(
    gate: GateArgument,
    jobs: Annotated[list[str] | None, typer.Argument(metavar="JOB…")] = None,
    all: AllOption = False,
    pipeline: PipelineOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Ends the wait of jobs at a gate as its time-out would (by default the job fails)."""
    _let_go("reject", gate, jobs or [], all, pipeline, reason, dry_run, output)


def _let_go(
    kind: str,
    gate: str,
    wanted: list[str],
    everyone: bool,
    pipeline: str | None,
    reason: str,
    dry_run: bool,
    form: Form,
) -> None:
    from streams.cli.job import announce, show_sent
    from streams.cli.session import connected, run, user
    from streams.engine.messages import SignalData

    if bool(wanted) == everyone:
        raise typer.BadParameter("name the jobs, or give --all", param_hint="JOB…")

    async def work() -> bool:
        async with connected() as client:
            found = await _standing_at(client, gate, wanted, pipeline)
            held = [(job, stage) for job, stage in found if stage]
            for job, stage in found:
                if not stage:
                    say(f"{job.view.id} does not wait at {gate} ({job.view.status}): nothing sent")
            if everyone and not held:
                say(f"no job waits at {gate}")
            await announce(client, kind, [job for job, _ in held], dry_run=dry_run)
            if not dry_run:
                by = user()
                for job, stage in held:
                    signal = SignalData(
                        kind, gate=gate, part=stage, epoch=job.view.epoch, reason=reason, by=by
                    )
                    await client.signal(job.pipeline, signal, job.view.id)
            show_sent([job for job, _ in held], kind, form, dry_run=dry_run)
            return len(held) == len(found)

    if not run(work()):
        raise typer.Exit(1)


async def _standing_at(
    client: Client, gate: str, wanted: list[str], pipeline: str | None
) -> list[tuple[Job, str]]:
    """Each job with the stage at which it waits at this gate, "" where it does not."""
    if wanted:
        jobs = [await client.find(job, pipeline) for job in wanted]
        return [(job, _stage_of(job, gate)) for job in jobs]
    waiting = await client.waiting(pipeline)
    return [(job, stage) for job in waiting if (stage := _stage_of(job, gate))]


def _stage_of(job: Job, gate: str) -> str:
    for stage, name in _gates(job):
        if gate in (stage, name):
            return stage
    return ""


def _gates(job: Job) -> list[tuple[str, str]]:
    """Stages at which the job waits at a gate, with the gates' names."""
    return [
        (path, declared.name)
        for path, stage in job.view.stages.items()
        if stage.status == "waiting" and (declared := job.plan.by_path[path].gate) is not None
    ]


def _grouped(jobs: list[Job]) -> list[dict[str, Any]]:
    """One object a gate, the oldest wait first."""
    gates: dict[tuple[str, str], dict[str, Any]] = {}
    for job in jobs:
        dues = {wait.stage: wait for wait in job.waits()}
        for stage, name in _gates(job):
            entry = gates.setdefault(
                (job.view.pipeline, name),
                {
                    "gate": name,
                    "pipeline": job.view.pipeline,
                    "stage": stage,
                    "waiting": 0,
                    "oldest_since": None,
                    "next_deadline": None,
                    "jobs": [],
                },
            )
            wait = dues.get(stage)
            entry["waiting"] += 1
            entry["jobs"].append(job.view.id)
            if wait is not None:
                entry["oldest_since"] = _least(entry["oldest_since"], wait.since)
                entry["next_deadline"] = _least(entry["next_deadline"], wait.due)
    return sorted(gates.values(), key=lambda each: each["oldest_since"] or 0)


def _least(one: int | None, other: int | None) -> int | None:
    known = [each for each in (one, other) if each is not None]
    return min(known, default=None)


def gate_line(gate: str, jobs: list[str]) -> str:
    """What `dev` prints when jobs wait: how many, and the command that releases them."""
    which = jobs[0] if len(jobs) == 1 else "--all"
    return f"gate {gate}: {len(jobs)} waiting — streams gate release {gate} {which}"
