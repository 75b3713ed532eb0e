"""The answer to "why does this job stand where it stands", made from its rows and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.cli.output import paint
from streams.cli.wording import ago, compact, count, moment, span
from streams.engine.priority import NORMAL
from streams.engine.view import Explanation, JobView
from streams.inspection.jobs import Job

_OUTCOMES = {
    "fail": "the job fails",
    "skip": "the gate is skipped and the job goes on",
    "continue": "the job goes on",
    "route": "the job goes on by the gate's other way",
}
LOG_LINES = 6
"""So much of a failed attempt's log; `get -o json` has all of it."""


class Line(msgspec.Struct, frozen=True):
    """One thing to know."""

    label: str
    text: str


class Reason(msgspec.Struct, frozen=True):
    """The whole answer."""

    headline: str
    lines: list[Line]
    commands: dict[str, str]
    """What it does → the exact command."""


def reason_of(job: Job, now: int) -> Reason:
    """Where the job stands, what it waits for, and what would move it."""
    view = job.view
    if view.status in ("succeeded", "skipped", "failed", "cancelled"):
        headline, lines, commands = _ended(job, now)
    else:
        headline, lines, commands = _open(job, now)
    if view.last_signal:
        lines.append(Line("last signal", view.last_signal))
    if view.priority != NORMAL:
        lines.append(Line("priority", view.priority))
    if view.epoch > 1:
        lines.append(Line("run", f"{view.epoch} (retried {count(view.epoch - 1, 'time')})"))
    return Reason(headline, lines, commands)


def as_text(reason: Reason) -> str:
    """One screen."""
    width = max([len(line.label) for line in reason.lines], default=0)
    body = [f"  {line.label.ljust(width)}  {line.text}".rstrip() for line in reason.lines]
    for what, command in reason.commands.items():
        body += ["", f"  {what}:", f"    {paint(command, 'bold')}"]
    return "\n".join([paint(reason.headline, "bold"), *([""] if body else []), *body])


def as_object(job: Job, now: int) -> dict[str, Any]:
    """The same for programs."""
    view, info = job.view, job.pipeline
    reason = reason_of(job, now)
    held = info.pause_of(view.current_stage)
    return {
        "id": view.id,
        "pipeline": view.pipeline,
        "status": view.status,
        "priority": view.priority,
        "current_stage": view.current_stage,
        "summary": reason.headline,
        "waits": [
            {
                "stage": wait.stage,
                "kind": wait.kind,
                "gate": wait.gate,
                "since": wait.since,
                "deadline": wait.due,
                "on_timeout": wait.on_timeout,
                "clauses": msgspec.to_builtins(wait.clauses),
                "arrived": list(wait.arrived),
                "missing": list(wait.missing),
            }
            for wait in job.waits()
        ],
        "paused": msgspec.to_builtins(held) if held else None,
        "live_workers": len(info.workers),
        "error": msgspec.to_builtins(view.error) if view.error else None,
        "details": _details(reason),
        "commands": list(reason.commands.values()),
    }


def _details(reason: Reason) -> dict[str, str]:
    """Label → text; lines under one label are joined."""
    told: dict[str, str] = {}
    label = ""
    for line in reason.lines:
        label = line.label or label
        told[label] = f"{told[label]}\n{line.text}" if label in told else line.text
    return told


def _ended(job: Job, now: int) -> tuple[str, list[Line], dict[str, str]]:
    view = job.view
    when = f"{ago(view.completed_at, now)} ago"
    took = f", after {span(view.duration_ms)}" if view.duration_ms is not None else ""
    if view.status == "failed":
        return _failed(job, when)
    if view.status == "cancelled":
        lines = [Line("when", moment(view.completed_at)), Line("stood at", _stage_names(view))]
        if view.reason:
            lines.insert(0, Line("reason", view.reason))
        again = {"run it again": f"streams retry {view.id}"}
        return f"{view.id} ({view.pipeline}) was cancelled {when}{took}", lines, again
    lines = [Line("when", moment(view.completed_at))]
    verb = "succeeded" if view.status == "succeeded" else "had every stage skipped,"
    if view.reason:
        lines.append(Line("reason", view.reason))
    return f"{view.id} ({view.pipeline}) {verb} {when}{took}: nothing holds it", lines, {}


def _failed(job: Job, when: str) -> tuple[str, list[Line], dict[str, str]]:
    view = job.view
    stage = view.current_stage
    shown = view.stages.get(stage) if stage else None
    error = (shown.error if shown else None) or view.error
    lines = [Line("when", moment(view.completed_at))]
    if error is not None:
        lines.insert(0, Line("error", f"{error.code}: {error.message}"))
    elif view.reason:
        lines.insert(0, Line("error", view.reason))
    if shown is not None and shown.attempts:
        lines.append(Line("attempts", str(shown.attempts)))
    if shown is not None and shown.worker:
        lines.append(Line("worker", shown.worker))
    if error is not None and error.log:
        told = [line for line in error.log.splitlines() if line.strip("^ ")][-LOG_LINES:]
        lines += [Line("" if number else "log", line) for number, line in enumerate(told)]
    at = f" in stage {stage}" if stage else ""
    commands = {"run it again from there": f"streams retry {view.id}"}
    return f"{view.id} ({view.pipeline}) failed{at} {when}", lines, commands


def _open(job: Job, now: int) -> tuple[str, list[Line], dict[str, str]]:
    view = job.view
    who = f"{view.id} ({view.pipeline})"
    lines: list[Line] = []
    commands: dict[str, str] = {}
    waits = job.waits()
    running = [path for path, stage in view.stages.items() if stage.status == "running"]
    headline = f"{who} is {view.status}"
    if running:
        headline = f"{who} is running stage {', '.join(running)}"
        for path in running:
            lines += _running(view, path, now)
    elif waits:
        headline = f"{who} {_headline(waits[0], now)}"
    elif job.untaken:
        headline = f"{who} is queued: no worker has taken it up yet"
        lines.append(Line("since", _since(view.created_at, now)))
    elif view.current_stage:
        headline = f"{who} is queued for stage {view.current_stage}"
        lines.append(Line("since", _since(view.updated_at, now)))
    for wait in waits:
        if running or wait is not waits[0]:
            lines.append(Line("also", _headline(wait, now)))
        more, steps = _wait(job, wait, now)
        lines += more
        commands.update(steps)
    lines += _obstacles(job, commands)
    if view.deadline is not None:
        lines.append(Line("job deadline", _until(view.deadline, now) + ": then it is cancelled"))
    return headline, lines, commands


def _running(view: JobView, path: str, now: int) -> list[Line]:
    stage = view.stages[path]
    lines = [Line("since", _since(stage.started_at, now))]
    if stage.worker:
        lines.append(Line("worker", stage.worker))
    if stage.attempts > 1:
        lines.append(Line("attempt", str(stage.attempts)))
    return lines


def _headline(wait: Explanation, now: int) -> str:
    since = span(now - wait.since)
    if wait.kind == "gate":
        return f"waits at gate {wait.gate}, for {since}"
    if wait.kind == "retry":
        return f"will try stage {wait.stage} again {_in(wait.due, now)}"
    if wait.kind == "join":
        return f"waits at {wait.stage} for {' and '.join(wait.missing) or 'other stages'}"
    return f"sleeps at {wait.stage}, for {since}"


def _wait(job: Job, wait: Explanation, now: int) -> tuple[list[Line], dict[str, str]]:
    view = job.view
    if wait.kind == "gate":
        return _gate(view.id, wait, now)
    if wait.kind == "retry":
        stage = view.stages[wait.stage]
        tried = stage.tries[-1].error if stage.tries else ""
        said = stage.error.message if stage.error else tried
        lines = [Line("due", _until(wait.due, now)), Line("attempts", str(stage.attempts))]
        if said or stage.reason:
            lines.insert(0, Line("last error", said or stage.reason))
        return lines, {}
    if wait.kind == "join":
        here = ", ".join(wait.arrived) or "nothing yet"
        return [Line("arrived", here), Line("since", _since(wait.since, now))], {}
    return [Line("until", _until(wait.due, now))], {}


def _gate(job: str, wait: Explanation, now: int) -> tuple[list[Line], dict[str, str]]:
    lines: list[Line] = []
    for clause in wait.clauses:
        mark = paint("holds", "ok") if clause.passed else paint("does not hold yet", "waiting")
        lines.append(Line("until", f"{clause.text}   {mark}"))
        if clause.actual:
            lines += [Line("now", f"{k} = {compact(v)}") for k, v in clause.actual.items()]
        elif not clause.passed:
            lines.append(Line("now", clause.error or "not set"))
    lines.append(Line("since", _since(wait.since, now)))
    if wait.due is None:
        lines.append(Line("times out", "never"))
    else:
        outcome = _OUTCOMES.get(wait.on_timeout or "fail", wait.on_timeout)
        lines.append(Line("times out", f"{_until(wait.due, now)}: then {outcome}"))
    lines.append(Line("who", "anyone who can write to this log; name and reason are kept"))
    return lines, {"let it go on": f"streams gate release {wait.gate} {job}"}


def _obstacles(job: Job, commands: dict[str, str]) -> list[Line]:
    """What keeps the job from moving that is no condition of its own."""
    view, info = job.view, job.pipeline
    lines: list[Line] = []
    held = info.pause_of(view.current_stage)
    if held is not None:
        by = f" by {held.by}" if held.by else ""
        why = f": {held.reason}" if held.reason else ""
        lines.append(Line("paused", f"since {moment(held.at)}{by}{why}"))
        whole = info.pause_of(None) is not None
        what = view.pipeline if whole else f"{view.pipeline}/{view.current_stage}"
        commands["resume"] = f"streams resume {what}"
    part = job.plan.by_path.get(view.current_stage or "")
    if not info.workers:
        lines.append(Line("workers", "none is alive: nothing moves until one starts"))
        commands["start one"] = "streams dev   (or: streams worker FILE)"
    elif not info.keeper_alive:
        lines.append(Line("workers", "none runs the coordinator (--keeper yes)"))
    elif part is not None and view.status == "queued" and not info.pool_alive(part.pool):
        lines.append(Line("workers", f"none serves pool {part.pool}"))
        commands["start one"] = f"streams worker FILE --pool {part.pool}"
    return lines


def _stage_names(view: JobView) -> str:
    return view.current_stage or "-"


def _since(ms: int | None, now: int) -> str:
    return "-" if ms is None else f"{moment(ms)} ({span(now - ms)})"


def _until(ms: int | None, now: int) -> str:
    return "-" if ms is None else f"{moment(ms)} ({_in(ms, now)})"


def _in(ms: int | None, now: int) -> str:
    if ms is None:
        return "later"
    return f"in {span(ms - now)}" if ms > now else "any moment"
