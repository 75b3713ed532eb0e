"""What `submit` does: reads the order, checks it against the plan, sends it, and stays to watch."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from streams.cli.failing import FAILED, TIMED_OUT
from streams.cli.output import Form, as_json, as_yaml, give, paint, say
from streams.cli.rendering import job_object
from streams.cli.session import connected
from streams.cli.wording import assignments, count, guess, span
from streams.client import ENDED, Client, Submission, check_job_id
from streams.engine.payload import INLINE_LIMIT
from streams.engine.priority import NORMAL, Priority
from streams.engine.view import JobView
from streams.errors import NotFoundError, UserError
from streams.event import Event
from streams.inspection.pipelines import PipelineInfo
from streams.topology.plan import Plan

TEXTUAL = frozenset({"string", "choice", "date", "datetime", "decimal"})
EVENT_KEYS = frozenset({"specversion", "id", "source", "type"})

EXPLANATIONS: dict[str, str] = {
    "C109": """\
**A line of a jobs file is not a job.** Each line is one JSON object with any of `id`, `params`,
`data`, `deadline` (ms since 1970), `priority`. Nothing from that line on was submitted; ids make it safe to
submit the whole file again: a job that is there is not made twice.
Next: mend the line named.""",
    "C110": """\
**The data is no JSON.** A file called `.json`, and standard input, must hold one JSON value. Any
other file is taken as it is: small text as a string, everything else by reference.
Next: mend the file, or give it another name.""",
}


class Order(msgspec.Struct, frozen=True):
    """What was asked for."""

    pipeline: str
    id: str | None
    params: tuple[str, ...]
    data: str | None
    jobs: Path | None
    deadline_ms: int | None
    priority: Priority
    watch: bool
    timeout_ms: int | None
    form: Form
    dry_run: bool


async def submit_all(order: Order) -> int:
    """Submits and, if asked, watches; returns the exit code."""
    async with connected() as client:
        info = await client.pipeline(order.pipeline)
        due = client.clock.now() + order.deadline_ms if order.deadline_ms else None
        would = "would submit" if order.dry_run else "submitting"
        say(f"{would} to pipeline {info.name} of namespace {client.namespace}")
        if order.dry_run:
            number = sum(1 for _ in _submissions(order, info.plan, due))
            say(f"{count(number, 'job')} would be submitted")
            return 0
        event = _event_in(order)
        if event is not None:
            if order.priority != NORMAL:
                event = event.with_extensions(priority=order.priority)
            ids = [await client.submit_event(info, event, order.id)]
            _print_ids(order, ids)
        else:
            ids = []
            async for job in client.submit_many(info, _submissions(order, info.plan, due)):
                ids.append(job)
                if order.form is Form.TABLE or order.form is Form.NAME:
                    give(job)
            _print_ids(order, ids, printed=True)
        if not info.keeper_alive:
            say("no worker is running: the job is taken up when one starts (streams dev)")
        return await _watch(client, info, ids, order) if order.watch else 0


def _print_ids(order: Order, ids: list[str], *, printed: bool = False) -> None:
    if order.form in (Form.TABLE, Form.NAME):
        for job in [] if printed else ids:
            give(job)
    elif not order.watch:
        found = [{"id": job, "pipeline": order.pipeline} for job in ids]
        give(as_json(found) if order.form is Form.JSON else as_yaml(found))


def _submissions(order: Order, plan: Plan, due: int | None) -> Iterator[Submission]:
    """The jobs asked for, each checked against the pipeline's parameters before it is sent."""
    if order.jobs is not None:
        yield from read_jobs(order.jobs, plan, due, order.priority)
        return
    if order.id is not None:
        check_job_id(order.id)
    params = {
        name: _typed(plan, name, text)
        for name, text in assignments(order.params, flag="--param").items()
    }
    value, file, content_type = _data(order.data)
    yield _checked(
        plan, Submission(params, value, file, content_type, order.id, due, order.priority)
    )


def read_jobs(
    path: Path, plan: Plan, due: int | None = None, priority: Priority = NORMAL
) -> Iterator[Submission]:
    """The jobs of a file, one a line, each checked against the pipeline's parameters. `due` and
    `priority` are for lines that say nothing of their own."""
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            yield _checked(plan, _of_line(path, number, line, due, priority))


def _typed(plan: Plan, name: str, text: str) -> Any:
    """Text as the parameter's declared type wants it; undeclared, whatever JSON makes of it."""
    declared = {param.name: param.type for param in plan.params or ()}
    return text if declared.get(name) in TEXTUAL else guess(text)


def _checked(plan: Plan, submission: Submission) -> Submission:
    """The submission, if the pipeline will take its parameters; the keeper checks again."""
    from streams.topology.params import bind_params

    bind_params(plan, dict(submission.params))
    return submission


def _lines(path: Path) -> Iterator[str]:
    if str(path) == "-":
        yield from sys.stdin
        return
    if not path.is_file():
        raise NotFoundError(f"no file {path}", help="name a file of jobs, one JSON object a line")
    with path.open(encoding="utf-8") as file:
        yield from file


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a jobs file."""

    id: str | None = None
    params: dict[str, Any] = {}
    data: Any = None
    deadline: int | None = None
    priority: Priority | None = None


def _of_line(path: Path, number: int, line: str, due: int | None, priority: Priority) -> Submission:
    try:
        read = msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError as error:
        raise UserError(
            f"{path}:{number}: {error}", code="C109", help='write {"id": "…", "params": {…}}'
        ) from None
    return Submission(
        read.params,
        read.data,
        None,
        "application/json",
        read.id,
        read.deadline or due,
        read.priority or priority,
    )


def _data(source: str | None) -> tuple[Any, Path | None, str]:
    """(value, file, content type): small JSON and text as a value, anything else as a file."""
    if source is None:
        return None, None, "application/json"
    if source == "-":
        return _json(sys.stdin.read(), "standard input"), None, "application/json"
    path = Path(source)
    if not path.is_file():
        raise NotFoundError(
            f"no file {path}", help="give an existing file, or - for standard input"
        )
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    is_json = content_type == "application/json" or content_type.endswith("+json")
    if path.stat().st_size > INLINE_LIMIT:
        return None, path, content_type
    if is_json:
        return _json(path.read_text(encoding="utf-8"), str(path)), None, "application/json"
    if content_type.startswith("text/"):
        try:
            return path.read_text(encoding="utf-8"), None, "application/json"
        except UnicodeDecodeError:
            return None, path, content_type
    return None, path, content_type


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{name} is no JSON: {error}", code="C110") from None


def _event_in(order: Order) -> Event | None:
    """The CloudEvent that `--data` names, where it is one."""
    if order.data in (None, "-") or order.params or not str(order.data).endswith(".json"):
        return None
    path = Path(str(order.data))
    if not path.is_file() or path.stat().st_size > INLINE_LIMIT:
        return None
    content = path.read_bytes()
    try:
        value = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None
    if not isinstance(value, dict) or not value.keys() >= EVENT_KEYS:
        return None
    from streams.codec.structured import from_json

    return from_json(content)


async def _watch(client: Client, info: PipelineInfo, ids: list[str], order: Order) -> int:
    """Progress on stderr until all have ended; the exit code is the outcome."""
    last: dict[str, JobView] = {}
    progress = Progress(len(ids))
    seconds = order.timeout_ms / 1000 if order.timeout_ms is not None else None
    late = False
    try:
        async with asyncio.timeout(seconds):
            async for view in client.watch(info, ids):
                progress.show(last.get(view.id), view)
                last[view.id] = view
    except TimeoutError:
        late = True
    except asyncio.CancelledError:
        say("\nleft running: " + " ".join(ids[:3]) + (" …" if len(ids) > 3 else ""))
        raise
    finally:
        progress.end()
    if order.form in (Form.JSON, Form.YAML):
        objects = [job_object(last[job]) for job in ids if job in last]
        give(as_json(objects) if order.form is Form.JSON else as_yaml(objects))
    return outcome(ids, last, late=late)


def outcome(ids: list[str], last: dict[str, JobView], *, late: bool) -> int:
    """Exit code of what was watched; the last line on stderr says why it is not 0."""
    bad = [view for view in last.values() if view.status in ("failed", "cancelled")]
    still = [job for job in ids if job not in last or last[job].status not in ENDED]
    if late and still:
        first = last.get(still[0])
        state = f"{first.status} at {first.current_stage or '-'}" if first else "queued"
        more = f" and {len(still) - 1} more" if len(still) > 1 else ""
        say(f"{still[0]} is still {state}{more}: streams why {still[0]}")
        return TIMED_OUT
    for view in bad[-3:]:
        error = f"{view.error.code}: {view.error.message}" if view.error else view.reason
        say(f"{view.id} {view.status} in stage {view.current_stage or '-'}: {error}")
    return FAILED if bad else 0


class Progress:
    """One line a change; on a terminal the open stage's line is rewritten in place."""

    def __init__(self, jobs: int) -> None:
        self._many = jobs > 1
        self._ended = 0
        self._jobs = jobs
        self._live = sys.stderr.isatty()
        self._drawn = False

    def show(self, before: JobView | None, view: JobView) -> None:
        if self._many:
            if view.status in ENDED and (before is None or before.status not in ENDED):
                self._ended += 1
                self._line(f"{self._ended}/{self._jobs} ended", keep=self._ended == self._jobs)
            return
        for path, stage in view.stages.items():
            was = before.stages[path].status if before and path in before.stages else None
            if stage.status != was and stage.status not in ("queued", "cancelled"):
                took = f"  {span(stage.duration_ms)}" if stage.duration_ms is not None else ""
                mark = paint(stage.status, stage.status, on=self._live)
                settled = stage.status in ("succeeded", "skipped", "failed")
                self._line(f"{path}  {mark}{took}", keep=settled or not self._live)
        waiting = view.waiting_for
        if waiting and waiting.gate and (before is None or before.waiting_for is None):
            self._line(
                f"gate {waiting.gate}: streams gate release {waiting.gate} {view.id}", keep=True
            )

    def end(self) -> None:
        if self._drawn:
            self._drawn = False
            print(file=sys.stderr)

    def _line(self, text: str, *, keep: bool) -> None:
        start = "\r\033[K" if self._drawn else ""
        if self._live and not keep:
            print(f"{start}{text}", end="", file=sys.stderr, flush=True)
            self._drawn = True
        else:
            print(f"{start}{text}", file=sys.stderr, flush=True)
            self._drawn = False
