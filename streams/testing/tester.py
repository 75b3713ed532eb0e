"""A pipeline under test: whole, deterministic, in virtual time, and asked synchronously.

    with TopologyTester("ingest.yaml") as t:
        t.submit(id="doc-1", params={"title": "Salt"})
        t.run_until_idle()
        assert t.held("review") == ["doc-1"]
        t.fact("doc-1", reviewed=True)
        t.run_until_idle()
        assert t.job("doc-1").status == "succeeded"

Two workers with several partitions run production's code on a log in memory. Nothing happens
unless a method runs the world: `run_until_idle` and `advance`. Wall-clock time passes only while
stages work, and when `advance` says so.
"""

from __future__ import annotations

import weakref
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import msgspec

from streams.client import Submission
from streams.codec.structured import from_json
from streams.engine.messages import SIGNAL, SignalData
from streams.engine.priority import NORMAL, Priority
from streams.engine.rows import AnyRow
from streams.engine.view import JobView
from streams.errors import NotFoundError, UserError
from streams.event import Event
from streams.inspection.jobs import Job, all_jobs
from streams.inspection.pipelines import PipelineInfo
from streams.registry import StageRegistry
from streams.testing.tester_execution import Error
from streams.testing.tester_reading import (
    DeadLetter,
    Held,
    events_of,
    held_of,
    letter_of,
    output_of,
    rows_of_all,
    standing_of,
)
from streams.testing.tester_sources import Given, read_sources
from streams.testing.tester_world import Crash, World
from streams.testing.virtual_time import START
from streams.topology.durations import spell
from streams.topology.findings import did_you_mean
from streams.topology.plan import USER_CODE, Part, Plan

T = TypeVar("T")

BY = "the test"
"""Who the signals of a test come from."""
SIDE_TOPICS = ("intake", "hold", "done", "dead")

EXPLANATIONS: dict[str, str] = {
    "U004": """\
**No such stage or gate.** The pipelines of this test have others; the message names the nearest.
Next: use the id as it stands in the topology.""",
    "U005": """\
**Which pipeline?** The test has several and nothing says which is meant: neither `pipeline=` nor,
for an event, its type. Next: give `pipeline="name"`.""",
    "U006": """\
**No such job.** It was never submitted, became a dead letter at the intake, or has ended and was
purged when the pipeline's `retention.jobs` (7 days by default) was over.
Next: look at `t.dlq`; raise the retention to look at jobs after long times.""",
    "U007": """\
**A secret of the pipeline is missing.** A test reads none from the environment.
Next: `TopologyTester(…, secrets={"name": "a value for the test"})`.""",
    "U008": """\
**Time goes forward.** `advance` takes days, hours, minutes and seconds that add up to more than 0.
Next: give a positive length of time.""",
    "U010": """\
**A stand-in for a type that no stage has.** `stages=` takes stage types, which need not be the
stages' ids. Next: the type that the message proposes.""",
    "U009": """\
**No such pipeline or topic in this test.** Next: one of those that the message names.""",
}


class TopologyTester:
    """Runs one or several pipelines. `given`: a topology's file, a folder of them, its text, a
    `Plan`, a `Pipeline` or its graph, or a list of these.

    `stages` puts stand-ins in the place of stage types: a function, a class, an object, or a
    value to be returned. The same `seed` gives the same run, jitter and ids included; `start` is
    the time of day it begins (ms since 1970, or a datetime).
    """

    __test__ = False

    def __init__(
        self,
        given: Given | Sequence[Given],
        *,
        stages: Mapping[str, Any] | None = None,
        registry: StageRegistry | None = None,
        partitions: int = 3,
        seed: int = 0,
        secrets: Mapping[str, str] | None = None,
        start: int | datetime = START,
    ) -> None:
        sources = read_sources(given, stages=stages or {}, registry=registry)
        _require_used(stages or {}, sources.plans)
        _require_secrets([n for p in sources.plans for n in p.secrets], secrets or {})
        begin = round(start.timestamp() * 1000) if isinstance(start, datetime) else start
        self._world = World(
            sources, partitions=partitions, seed=seed, secrets=secrets or {}, start=begin
        )
        self._submitted = 0
        self._close = weakref.finalize(self, self._world.close)
        self._world.go(self._world.begin())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stages are closed and nothing is left running. Forgotten testers close themselves."""
        self._close()

    # -- what comes from outside ------------------------------------------------------------

    def submit(
        self,
        pipeline: str | None = None,
        *,
        id: str | None = None,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        deadline: int | None = None,
        priority: Priority = NORMAL,
    ) -> str:
        """A job stands in the intake; returns its id (`job-1`, `job-2`, … unless given)."""
        self._submitted += 1
        order = Submission(
            params or {},
            data,
            id=id or f"job-{self._submitted}",
            deadline=deadline,
            priority=priority,
        )
        return self._do(self._world.client.submit(self._pipeline(pipeline), order))

    def send(self, event: Event | Mapping[str, Any], pipeline: str | None = None) -> str:
        """A CloudEvent stands in the intake, as anybody's would; returns the id its job has.

        An event may be given as a mapping in the form of CloudEvents' JSON. With several
        pipelines its type says which: `ingest`, or `acme.ingest.uploaded` for `ingest`.
        """
        read = event if isinstance(event, Event) else from_json(msgspec.json.encode(dict(event)))
        info = self._pipeline(pipeline, read.type)
        job = read.extensions.get("job")
        if read.type == SIGNAL:
            return self._do(self._publish(info, read)) or str(job or "")
        return self._do(self._world.client.submit_event(info, read, str(job) if job else None))

    def fact(self, job: str | None, /, *, pipeline: str | None = None, **facts: Any) -> None:
        """The job's facts have these values; without a job (None) every job's of the pipeline."""
        self.set_facts(job, facts, pipeline=pipeline)

    def set_facts(
        self, job: str | None, facts: Mapping[str, Any], *, pipeline: str | None = None
    ) -> None:
        """As `fact`, for names that are no Python names."""
        info = self._pipeline(pipeline, job=job)
        # A shared fact belongs to the partition of its name, so each is a signal of its own.
        batches = [dict(facts)] if job else [{name: value} for name, value in facts.items()]
        for batch in batches:
            self._signal(info, SignalData("fact", batch, everywhere=job is None, by=BY), job)

    def share(self, *, pipeline: str | None = None, **facts: Any) -> None:
        """All jobs of the pipeline share these facts."""
        self.set_facts(None, facts, pipeline=pipeline)

    def release(
        self, job: str, gate: str, *, reason: str = "", pipeline: str | None = None
    ) -> None:
        """The job may pass the gate (its name, or the stage it stands at)."""
        self._let_go("release", job, gate, reason, pipeline)

    def reject(self, job: str, gate: str, *, reason: str = "", pipeline: str | None = None) -> None:
        """The wait at the gate ends as its time-out would."""
        self._let_go("reject", job, gate, reason, pipeline)

    def cancel(self, job: str, *, reason: str = "", pipeline: str | None = None) -> None:
        """The job is to be stopped."""
        signal = SignalData("cancel", reason=reason, by=BY)
        self._signal(self._pipeline(pipeline, job=job), signal, job)

    def retry(
        self, job: str, start: str | None = None, *, reason: str = "", pipeline: str | None = None
    ) -> None:
        """An ended job runs again: from what failed, or from the stage `start`."""
        if start is not None:
            self._part(start)
        signal = SignalData("retry", start=start or "", reason=reason, by=BY)
        self._signal(self._pipeline(pipeline, job=job), signal, job)

    def redrive(self, job: str | None = None, *, reason: str = "") -> int:
        """Open dead letters (of one job, or all) are put back; returns how many."""
        return self._do(self._redrive(job, reason))

    def pause(self, stage: str | None = None, *, pipeline: str | None = None) -> None:
        """The stage (or the whole pipeline) starts nothing more."""
        self._hold_back("pause", stage, pipeline)

    def resume(self, stage: str | None = None, *, pipeline: str | None = None) -> None:
        """It starts work again."""
        self._hold_back("resume", stage, pipeline)

    # -- what goes wrong --------------------------------------------------------------------

    def fail_next(
        self, stage: str, error: Error, times: int = 1, *, pipeline: str | None = None
    ) -> None:
        """The next calls of the stage fail with this instead of running: an exception, its class,
        a verdict such as `StageOutput.retry(30)`, or a text."""
        name, part = self._part(stage, pipeline)
        if part.kind not in USER_CODE:
            raise UserError(
                f"`{stage}` runs no code that could fail: it is of type {part.type}",
                code="U004",
                help="name a stage of your own",
            )
        self._world.faults.add(name, part.path, error, times)

    def crash_before_commit(self, stage: str | None = None, *, pipeline: str | None = None) -> None:
        """The worker that next commits (a row of this stage) dies before its commit reaches the
        log; another comes up in its place."""
        name = pipeline
        if stage is not None:
            name, part = self._part(stage, pipeline)
            stage = part.path
        self._world.crashes.append(Crash(name, stage))

    # -- time -------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Everything has happened that does not wait for a deadline or for somebody outside.
        Short pauses between attempts (up to 2 s) are part of a stage's work."""
        self._world.go(self._world.settle())

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """That much time has passed. It leaps from one deadline to the next and runs until idle at
        each, so time-outs, sleeps, retries and retention come in their order."""
        ms = round((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)
        if ms <= 0:
            raise UserError("time goes forward", code="U008", help="advance(hours=2)")
        self._world.go(self._world.advance(ms))

    @property
    def now(self) -> datetime:
        """The test's time of day."""
        return datetime.fromtimestamp(self._world.clock.now() / 1000, UTC)

    # -- looking ----------------------------------------------------------------------------

    def job(self, id: str, pipeline: str | None = None) -> JobView:
        """The job as `streams get` shows it."""
        return self.look(id, pipeline).view

    def look(self, id: str, pipeline: str | None = None) -> Job:
        """The job with its rows and its plan; any prefix of an id that fits only one will do."""
        try:
            return self._do(self._world.client.find(id, pipeline))
        except NotFoundError as error:
            if error.code != "C105":
                raise
            raise self._no_job(id) from None

    def jobs(self, pipeline: str | None = None) -> list[JobView]:
        """All jobs that are not purged yet, oldest first."""
        return [job.view for job in self._all(pipeline)]

    def why(self, id: str) -> str:
        """Where the job stands and what it waits for, in one line."""
        return standing_of(self.look(id), self._world.clock.now())

    def held(self, where: str | None = None) -> list[Held]:
        """Jobs that wait at a stage or gate (or anywhere), each with its reason, oldest first."""
        if where is not None:
            self._require_place(where)
        now = self._world.clock.now()
        return [each for job in self._all() for each in held_of(job, where, now)]

    def outputs(self, stage: str, pipeline: str | None = None) -> dict[str, Any]:
        """Job → what the stage gave out, of all jobs in which it succeeded."""
        name, part = self._part(stage, pipeline)
        found: dict[str, Any] = {}
        for job in self._all(name):
            noted = self._world.notes.outputs.get((name, job.view.id, part.path))
            there, value = output_of(job, part.path, noted, self._world.blobs)
            if there:
                found[job.view.id] = value
        return found

    @property
    def dlq(self) -> list[DeadLetter]:
        """All dead letters, oldest first."""
        return [letter_of(each) for each in self._do(self._world.client.dead_letters())][::-1]

    @property
    def ledger(self) -> dict[str, dict[str, AnyRow]]:
        """Job → part → row, exactly as the log has them. A job whose id two pipelines have stands
        under `pipeline/id`."""
        tables = {
            name: self._do(rows_of_all(self._world.client.log, self._pipeline(name)))
            for name in self._world.plans
        }
        ids = [id for table in tables.values() for id in table]
        return {
            id if ids.count(id) == 1 else f"{name}/{id}": rows
            for name, table in tables.items()
            for id, rows in table.items()
        }

    @property
    def done(self) -> dict[str, str]:
        """Job → status, of every job that has ended, as the pipelines told the world."""
        events = [each for name in self._world.plans for each in self.events("done", name)]
        told = [msgspec.json.decode(each.data or b"{}") for each in events]
        return {each["job"]: each["status"] for each in told}

    def events(self, topic: str, pipeline: str | None = None) -> list[Event]:
        """The events in a topic: a stage's, or `intake`, `hold`, `done`, `dead`, or its whole
        name."""
        client = self._world.client
        known = self._do(client.log.topics())
        if topic in known:
            return self._do(events_of(client.log, topic))
        naming = self._pipeline(pipeline).naming
        whole = f"{naming.prefix}.{topic}"
        if whole not in known:
            names = [*SIDE_TOPICS, *self._stages([pipeline or naming.pipeline])]
            hint = did_you_mean(topic, names, "topics")
            raise NotFoundError(f"no topic `{topic}`", code="U009", help=hint)
        return self._do(events_of(client.log, whole))

    def stage_id(self, stage: str, pipeline: str | None = None) -> str:
        """The id of a stage that may also be called by its name."""
        return self._part(stage, pipeline)[1].path

    @property
    def calls(self) -> list[tuple[str, str]]:
        """(job, stage) of every call of user code so far, those whose work was lost included."""
        return [(job, stage) for _, job, stage in self._world.notes.calls]

    @property
    def crashes(self) -> int:
        """How many workers have died so far."""
        return len(self._world.died)

    @property
    def unspent(self) -> list[str]:
        """Failures and crashes that were asked for and have not happened."""
        crashes = [f"crash_before_commit({c.stage or ''})" for c in self._world.crashes]
        return [f"fail_next({stage})" for stage in self._world.faults.left] + crashes

    # -- inside -----------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives; the workers do nothing meanwhile."""
        return self._world.run(work)

    def _signal(self, info: PipelineInfo, signal: SignalData, job: str | None = None) -> None:
        self._do(self._world.client.signal(info, signal, job))

    def _let_go(self, kind: str, job: str, gate: str, reason: str, pipeline: str | None) -> None:
        self._require_place(gate)
        signal = SignalData(kind, gate=gate, reason=reason, by=BY)
        self._signal(self._pipeline(pipeline, job=job), signal, job)

    def _hold_back(self, kind: str, stage: str | None, pipeline: str | None) -> None:
        if stage is not None:
            pipeline, part = self._part(stage, pipeline)
            stage = part.path
        self._signal(self._pipeline(pipeline), SignalData(kind, stage=stage, by=BY))

    async def _publish(self, info: PipelineInfo, event: Event) -> str:
        await self._world.client.publish(info.naming.intake, [event])
        return ""

    async def _redrive(self, job: str | None, reason: str) -> int:
        client, count = self._world.client, 0
        for name in self._world.plans:
            info = await client.pipeline(name)
            letters = [
                letter
                for letter in await client.dead_letters(name)
                if letter.state == "open" and job in (None, letter.job)
            ]
            await client.redrive(info, letters, by=BY, reason=reason)
            count += len(letters)
        return count

    def _all(self, pipeline: str | None = None) -> list[Job]:
        """Every job with its rows, oldest first."""

        async def read() -> list[Job]:
            client, now = self._world.client, self._world.clock.now()
            return [
                job
                for info in await client.chosen(pipeline)
                async for job in all_jobs(client.log, info, now)
            ]

        return sorted(self._do(read()), key=lambda job: (job.view.created_at or 0, job.view.id))

    def _pipeline(
        self, name: str | None, type: str = "", *, job: str | None = None
    ) -> PipelineInfo:
        """The pipeline that is meant."""
        known = list(self._world.plans)
        if name is None and len(known) > 1 and job is not None:
            name = self._home_of(job)
        if name is None:
            words = {type, *type.split(".")} if type else set()
            fits = known if len(known) == 1 else [each for each in known if each in words]
            if len(fits) != 1:
                raise UserError(
                    f"which pipeline? there are: {', '.join(known)}",
                    code="U005",
                    help=f'give pipeline="{known[0]}"',
                )
            name = fits[0]
        if name not in known:
            hint = did_you_mean(name, known, "pipelines")
            raise NotFoundError(f"no pipeline `{name}`", code="U009", help=hint)
        return self._do(self._world.client.pipeline(name))

    def _home_of(self, job: str) -> str | None:
        """The only pipeline that has a job of this id."""
        homes = [view.pipeline for view in self.jobs() if view.id == job]
        return homes[0] if len(homes) == 1 else None

    def _stages(self, pipelines: Sequence[str] | None = None) -> dict[str, tuple[str, Part]]:
        """Id → (pipeline, part) of every stage; the newest version wins."""
        return {
            part.path: (name, part)
            for name, plans in self._world.plans.items()
            if pipelines is None or name in pipelines
            for plan in plans
            for part in plan.parts
        }

    def _part(self, stage: str, pipeline: str | None = None) -> tuple[str, Part]:
        """The stage of that id or name."""
        known = self._stages(None if pipeline is None else [pipeline])
        named = {part.name: (name, part) for name, part in known.values() if part.name}
        found = known.get(stage) or named.get(stage)
        if found is None:
            hint = did_you_mean(stage, known, "stages")
            raise NotFoundError(f"no stage `{stage}`", code="U004", help=_all(hint, known))
        if pipeline is None:
            homes = [n for n, plans in self._world.plans.items() if found[1].path in _paths(plans)]
            if len(homes) > 1:
                raise UserError(
                    f"`{stage}` is a stage of {' and of '.join(homes)}",
                    code="U005",
                    help=f'give pipeline="{homes[0]}"',
                )
        return found

    def _require_place(self, where: str) -> None:
        """Raises unless some pipeline has such a stage or gate."""
        known = self._stages()
        gates = [part.gate.name for _, part in known.values() if part.gate is not None]
        names = [part.name for _, part in known.values() if part.name]
        places = [*known, *gates]
        if where not in places and where not in names:
            hint = did_you_mean(where, places, "stages and gates")
            raise NotFoundError(f"no stage or gate `{where}`", code="U004", help=_all(hint, places))

    def _no_job(self, id: str) -> NotFoundError:
        """Why there is no such job, as far as anything is known."""
        for deadlines in self._world.deadlines.values():
            gone = deadlines.ended.get(id)
            if gone is not None:
                kept = spell(max(1, self._world.clock.now() - gone.completed))
                return NotFoundError(
                    f"job `{id}` ended ({gone.status.lower()}) {kept} ago and was purged since",
                    code="U006",
                    help="look before its retention is over, or raise `retention: {jobs: …}`",
                )
        for letter in self.dlq:
            if letter.job == id:
                return NotFoundError(
                    f"job `{id}` never began: {letter.reason} {letter.error}",
                    code="U006",
                    help="its submission is in `dlq`",
                )
        known = [view.id for view in self.jobs()]
        return NotFoundError(
            f"no job `{id}`", code="U006", help=did_you_mean(id, known, "jobs") or "submit it first"
        )


def _paths(plans: Sequence[Any]) -> set[str]:
    return {part.path for plan in plans for part in plan.parts}


def _all(hint: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The nearest name, and all the others."""
    names = ", ".join(list(known)[:30])
    return f"{hint} (there are: {names})" if hint.startswith("did you mean") else hint


def _require_used(stages: Mapping[str, Any], plans: Sequence[Plan]) -> None:
    """A stand-in for a type that nobody uses stands in for nothing, and nobody would notice."""
    types = sorted({part.type for plan in plans for part in plan.parts if part.kind == "stage"})
    for name in stages:
        if name not in types:
            raise NotFoundError(
                f"no stage is of type `{name}`",
                code="U010",
                help=did_you_mean(name, types, "types"),
            )


def _require_secrets(names: Sequence[str], given: Mapping[str, str]) -> None:
    from streams.secrets import Secrets

    missing = sorted(set(Secrets(given).missing(names)))
    if missing:
        raise UserError(
            f"the pipeline needs the secret{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
            code="U007",
            help=f'TopologyTester(…, secrets={{"{missing[0]}": "…"}})',
        )
