"""Verbs about jobs: submit, get, list, why, history, cancel, retry; and events: publish, tail."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.output import (
    DryRunOption,
    Form,
    FormOption,
    PipelineOption,
    ReasonOption,
    give,
    say,
    show,
    show_one,
)
from streams.cli.session import on_log

if TYPE_CHECKING:
    from collections.abc import Collection

    from streams.client import Client
    from streams.engine.messages import SignalData
    from streams.engine.view import JobView
    from streams.inspection.jobs import Job

app = typer.Typer()

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job's id, or any prefix that fits only one.")
]
JobsArgument = Annotated[list[str], typer.Argument(metavar="JOB…", help="Ids or unique prefixes.")]


class Status(StrEnum):
    """The one closed set."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Urgency(StrEnum):
    """How a job stands to others."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@app.command()
@on_log
def submit(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE")],
    id: Annotated[str | None, typer.Option("--id", help="The job's id.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="K=V", help="A parameter; may repeat.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILE|-",
            help="The job's data: JSON, text, a CloudEvent, or any file.",
        ),
    ] = None,
    jobs: Annotated[
        Path | None,
        typer.Option(
            "--jobs", metavar="FILE.jsonl", help='One job a line: {"id", "params", "data"}.'
        ),
    ] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", metavar="2h", help="Cancel the job after this long.")
    ] = None,
    priority: Annotated[
        Urgency, typer.Option("--priority", help="Before whom its stages are run.")
    ] = Urgency.NORMAL,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="T", help="With --watch: at most this long.")
    ] = None,
    output: FormOption = Form.TABLE,
    dry_run: DryRunOption = False,
) -> None:
    """Submits one job, or one a line of a file, and prints the ids.

    With --watch the exit code is the outcome: 0 succeeded or skipped, 1 failed or cancelled,
    7 still open at the time-out. Ctrl-C leaves the job running.
    """
    from streams.cli.session import run
    from streams.cli.submitting import Order, submit_all
    from streams.cli.wording import milliseconds

    if jobs is not None and (id or param or data):
        raise typer.BadParameter("takes the place of --id, --param and --data", param_hint="--jobs")
    if timeout is not None and not watch:
        raise typer.BadParameter("only with --watch", param_hint="--timeout")
    order = Order(
        pipeline=pipeline,
        id=id,
        params=tuple(param or ()),
        data=data,
        jobs=jobs,
        deadline_ms=milliseconds(deadline, flag="--deadline") if deadline else None,
        priority=priority.value,
        watch=watch,
        timeout_ms=milliseconds(timeout, flag="--timeout") if timeout else None,
        form=output,
        dry_run=dry_run,
    )
    code = run(submit_all(order))
    if code:
        raise typer.Exit(code)


@app.command()
@on_log
def get(
    job: JobArgument,
    tree: Annotated[bool, typer.Option("--tree", help="Stages as the pipeline has them.")] = False,
    pipeline: PipelineOption = None,
    output: FormOption = Form.TABLE,
) -> None:
    """Shows one job: its status, its stages, its facts."""
    from streams.cli.rendering import job_object, job_text, tree_text
    from streams.cli.session import connected, run

    async def work() -> None:
        async with connected() as client:
            found = await client.find(job, pipeline)
            now = client.clock.now()
        show_one(
            found.view,
            output,
            text=lambda: tree_text(found) if tree else job_text(found, now),
            name=lambda view: view.id,
            plain=job_object,
        )

    run(work())


@app.command("list")
@on_log
def list_jobs(
    pipeline: PipelineOption = None,
    status: Annotated[Status | None, typer.Option("--status", metavar="S")] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="ST", help="Jobs that stand there.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Print how many, nothing else.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="At most so many; a table shows 50."),
    ] = None,
    output: FormOption = Form.TABLE,
) -> None:
    """Lists jobs, newest first."""
    from streams.cli.rendering import job_columns, job_object
    from streams.cli.session import connected, run
    from streams.client import Filter

    async def work() -> None:
        async with connected() as client:
            wanted = Filter(pipeline, status.value if status else None, stage)
            found = await client.jobs(wanted)
            now = client.clock.now()
        if count:
            give(str(len(found)))
            return
        most = limit or (50 if output is Form.TABLE else len(found))
        show(
            found[:most],
            output,
            columns=job_columns(now),
            name=lambda view: view.id,
            plain=job_object,
            empty="no jobs",
        )
        if len(found) > most:
            say(f"… and {len(found) - most} more: --limit {len(found)} shows all")

    run(work())


@app.command()
@on_log
def why(job: JobArgument, pipeline: PipelineOption = None, output: FormOption = Form.TABLE) -> None:
    """Says where a job stands, what it waits for, and the command that moves it."""
    from streams.cli import why as answer
    from streams.cli.session import connected, run

    async def work() -> None:
        async with connected() as client:
            found = await client.find(job, pipeline)
            now = client.clock.now()
        show_one(
            found,
            output,
            text=lambda: answer.as_text(answer.reason_of(found, now)),
            name=lambda each: each.view.id,
            plain=lambda each: answer.as_object(each, now),
        )

    run(work())


@app.command()
@on_log
def history(
    job: JobArgument, pipeline: PipelineOption = None, output: FormOption = Form.TABLE
) -> None:
    """Shows a job's past, oldest first."""
    from streams.cli.rendering import history_columns
    from streams.cli.session import connected, run

    async def work() -> None:
        async with connected() as client:
            happenings = await client.history(job, pipeline)
        first = happenings[0].at if happenings else 0
        show(happenings, output, columns=history_columns(first), name=lambda each: each.stage)

    run(work())


@app.command()
@on_log
def cancel(
    jobs: JobsArgument,
    pipeline: PipelineOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Cancels jobs: running stages are stopped within 10 s, no other starts."""
    from streams.client import ENDED
    from streams.engine.messages import SignalData

    def refusal(view: JobView) -> str:
        return f"has ended ({view.status})" if view.status in ENDED else ""

    def signal(view: JobView, by: str) -> SignalData:
        return SignalData("cancel", epoch=view.epoch, reason=reason, by=by)

    _signal_each(jobs, pipeline, "cancel", refusal, signal, dry_run=dry_run, form=output)


@app.command()
@on_log
def retry(
    jobs: JobsArgument,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run again from there.")
    ] = None,
    pipeline: PipelineOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Runs ended jobs again: from the stages that failed, or from one that is named."""
    from streams.client import ENDED
    from streams.engine.messages import SignalData

    def refusal(view: JobView) -> str:
        if view.status not in ENDED:
            return f"has not ended ({view.status}): cancel it first"
        if start is not None and start not in view.stages:
            return f"has no stage `{start}`; there are {', '.join(view.stages)}"
        return ""

    def signal(view: JobView, by: str) -> SignalData:
        return SignalData("retry", start=start or "", epoch=view.epoch, reason=reason, by=by)

    _signal_each(jobs, pipeline, "retry", refusal, signal, dry_run=dry_run, form=output)


def _signal_each(
    jobs: list[str],
    pipeline: str | None,
    verb: str,
    refusal: Any,
    signal: Any,
    *,
    dry_run: bool,
    form: Form,
) -> None:
    """Sends the signal to every job that can take it; exit code 1 if one could not."""
    from streams.cli.session import connected, run, user

    async def work() -> bool:
        async with connected() as client:
            found = [await client.find(job, pipeline) for job in jobs]
            fit = [each for each in found if not refusal(each.view)]
            for each in found:
                if each not in fit:
                    say(f"{each.view.id} {refusal(each.view)}: nothing sent")
            by = user()
            await announce(client, verb, fit, dry_run=dry_run)
            if not dry_run:
                for each in fit:
                    await client.signal(each.pipeline, signal(each.view, by), each.view.id)
            show_sent(fit, verb, form, dry_run=dry_run)
            return len(fit) == len(found)

    if not run(work()):
        raise typer.Exit(1)


async def announce(client: Client, verb: str, jobs: Collection[Job], *, dry_run: bool) -> None:
    """Says the target before anything is sent, and whether anybody is there to act on it."""
    names = sorted({job.pipeline.name for job in jobs})
    would = "would " if dry_run else ""
    ids = ", ".join(job.view.id for job in list(jobs)[:5]) + (" …" if len(jobs) > 5 else "")
    if not jobs:
        return
    say(f"{would}{verb} {ids} in pipeline {', '.join(names)} of namespace {client.namespace}")
    if not all(job.pipeline.keeper_alive for job in jobs):
        say("no worker is running: it takes effect when one starts")


def show_sent(jobs: Collection[Job], verb: str, form: Form, *, dry_run: bool) -> None:
    """The jobs that were signalled."""
    sent = [
        {"id": job.view.id, "pipeline": job.view.pipeline, "signal": verb, "sent": not dry_run}
        for job in jobs
    ]
    if form is Form.TABLE:
        for each in sent:
            give(str(each["id"]))
    else:
        show(sent, form, columns={}, name=lambda each: str(each["id"]))
