"""Jobs, histories and dead letters as tables, texts and plain objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from streams.cli.output import paint, table
from streams.cli.wording import ago, compact, moment, span
from streams.engine.view import JobView, StageView
from streams.inspection.history import Happening
from streams.inspection.jobs import Job

_TRY_FIELDS = ("attempt", "queued_at", "started_at", "ended_at", "status", "error")


def job_object(view: JobView) -> dict[str, Any]:
    """A job for programs: snake_case keys, times in ms, statuses in the words users see."""
    plain: dict[str, Any] = msgspec.to_builtins(view)
    for stage in plain["stages"].values():
        stage["tries"] = [dict(zip(_TRY_FIELDS, each, strict=False)) for each in stage["tries"]]
        for tried in stage["tries"]:
            tried["status"] = _public(tried["status"])
    return plain


def job_columns(now: int) -> dict[str, Callable[[JobView], str]]:
    return {
        "id": lambda view: view.id,
        "pipeline": lambda view: view.pipeline,
        "status": lambda view: view.status,
        "stage": lambda view: view.current_stage or "-",
        "age": lambda view: ago(view.created_at, now),
        "detail": detail_of,
    }


def detail_of(view: JobView) -> str:
    """The one thing most worth knowing, in a few words."""
    if view.error is not None:
        return compact(f"{view.error.code}: {view.error.message}", 62).strip('"')
    waiting = view.waiting_for
    if waiting is not None:
        return f"gate {waiting.gate}" if waiting.gate else waiting.reason or waiting.kind
    return view.reason


def history_columns(first: int) -> dict[str, Callable[[Happening], str]]:
    return {
        "at": lambda each: moment(each.at),
        "after": lambda each: span(each.at - first),
        "stage": lambda each: each.stage,
        "what": lambda each: each.status,
        "attempt": lambda each: str(each.attempt) if each.attempt else "",
        "took": lambda each: "" if each.duration_ms is None else span(each.duration_ms),
        "detail": lambda each: each.detail,
    }


def job_text(job: Job, now: int) -> str:
    """The job on one screen."""
    view = job.view
    facts = {
        "id": view.id,
        "pipeline": f"{view.pipeline} version {view.version}",
        "status": paint(view.status, view.status),
        "stage": view.current_stage or "-",
        "priority": view.priority,
        "created": f"{moment(view.created_at)} ({ago(view.created_at, now)} ago)",
        "ended": moment(view.completed_at),
        "took": "-" if view.duration_ms is None else span(view.duration_ms),
        "params": compact(view.params, 100),
        "facts": compact(view.facts, 100) if view.facts else "-",
        "metadata": compact(view.metadata, 100) if view.metadata else "-",
    }
    if view.error is not None:
        facts["error"] = f"{view.error.code}: {view.error.message}"
    elif view.reason:
        facts["reason"] = view.reason
    lines = [f"{name.ljust(9)} {value}" for name, value in facts.items()]
    rows = [_stage_cells(path, stage) for path, stage in view.stages.items()]
    if rows:
        lines += ["", *table(rows, ["stage", "status", "attempts", "took", "outputs", "detail"])]
    return "\n".join(lines)


def _stage_cells(path: str, stage: StageView) -> list[str]:
    detail = stage.error.message if stage.error else stage.reason
    return [
        path,
        stage.status,
        str(stage.attempts or "-"),
        "-" if stage.duration_ms is None else span(stage.duration_ms),
        "-" if stage.outputs is None else compact(stage.outputs, 40),
        detail,
    ]


def tree_text(job: Job) -> str:
    """The plan's stages below one another, each with where the job stands in it."""
    lines = [f"{job.view.id} {paint(job.view.status, job.view.status)}"]
    seen: set[str] = set()

    def grow(path: str, indent: str, last: bool) -> None:
        stage = job.view.stages.get(path)
        status = stage.status if stage else "-"
        took = f"  {span(stage.duration_ms)}" if stage and stage.duration_ms is not None else ""
        again = "  (above)" if path in seen else took
        lines.append(f"{indent}{'└─ ' if last else '├─ '}{path}  {paint(status, status)}{again}")
        if path in seen:
            return
        seen.add(path)
        after = [edge.to for edge in job.plan.by_path[path].edges]
        for number, to in enumerate(after, 1):
            grow(to, indent + ("   " if last else "│  "), number == len(after))

    for number, root in enumerate(job.plan.roots, 1):
        grow(root, "", number == len(job.plan.roots))
    return "\n".join(lines)


def _public(code: str) -> str:
    from streams.engine.rows import PUBLIC

    return PUBLIC.get(code, code.lower())
