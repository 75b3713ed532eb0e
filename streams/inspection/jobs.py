"""Jobs as their rows in the ledger show them, and as the intake shows those without rows yet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import msgspec

from streams.broker.port import Log, Record, TopicPartition, partition_for
from streams.codec import kafka
from streams.engine import rows as ledger_rows
from streams.engine.messages import SIGNAL, SUBMIT, SubmitData
from streams.engine.priority import Priority, priority_of
from streams.engine.rows import NULL, Address, InputRow, JobRow
from streams.engine.view import Explanation, JobView, explain_waits, job_view
from streams.errors import EventError
from streams.event import submission_job_id
from streams.inspection.pipelines import PipelineInfo
from streams.inspection.scan import fold, scan
from streams.topology.plan import Plan


class Job(msgspec.Struct, frozen=True):
    """A job with everything its view was made from."""

    pipeline: PipelineInfo
    plan: Plan
    rows: Mapping[str, bytes]
    view: JobView
    untaken: bool = False
    """Still in the intake: no worker has seen it."""

    def waits(self) -> list[Explanation]:
        """Every wait of the job, judged on the values of this moment."""
        shared = {name: fact.value for name, fact in self.pipeline.facts.items()}
        return explain_waits(self.view.id, self.plan, self.rows, shared)


def job_of(
    info: PipelineInfo, job: str, rows: Mapping[str, bytes], now: int, *, untaken: bool = False
) -> Job:
    """The job that these rows make."""
    plan = info.plan_of(rows)
    return Job(info, plan, rows, job_view(job, plan, rows, now=now), untaken)


def ledger_place(info: PipelineInfo, job: str) -> TopicPartition:
    """The one partition that may hold rows of the job."""
    return TopicPartition(info.naming.ledger, partition_for(job.encode(), info.partitions))


async def rows_of(log: Log, info: PipelineInfo, job: str) -> dict[str, bytes]:
    """The job's newest rows; nothing else is decoded."""
    rows: dict[str, bytes] = {}
    start = f"{job}|".encode()
    async for record in scan(log, [ledger_place(info, job)]):
        if record.key is not None and record.key.startswith(start):
            fold(rows, Address.of(record.key).part, record.value)
    return rows


async def all_jobs(log: Log, info: PipelineInfo, now: int) -> AsyncGenerator[Job, None]:
    """Every job, those that no worker took up included; one partition's rows in memory at a time."""
    waiting = await untaken(log, info)
    for place in info.places(info.naming.ledger):
        jobs: dict[str, dict[str, bytes]] = {}
        async for record in scan(log, [place]):
            address = Address.of(record.key or b"")
            if "/" not in address.scope:
                fold(jobs.setdefault(address.scope, {}), address.part, record.value)
        for scope, rows in jobs.items():
            if "@job" in rows:
                waiting.pop(scope, None)
                yield job_of(info, scope, rows, now)
    for scope, rows in waiting.items():
        yield job_of(info, scope, rows, now, untaken=True)


async def untaken(log: Log, info: PipelineInfo) -> dict[str, dict[str, bytes]]:
    """Submissions beyond the keeper's position: job id → the rows it is going to have."""
    done = await log.positions(info.naming.keeper_group)
    places = info.places(info.naming.intake)
    starts = {place: done[place].offset for place in places if place in done}
    jobs: dict[str, dict[str, bytes]] = {}
    async for record in scan(log, places, starts):
        submitted = _submitted(record)
        if submitted is not None:
            job, priority, given = submitted
            begun = JobRow(
                "RUNNING",
                plan=info.active,
                root=job,
                created=record.timestamp,
                priority=priority,
            )
            jobs[job] = {"@job": ledger_rows.encode(begun), "@input": ledger_rows.encode(given)}
    return jobs


def _submitted(record: Record) -> tuple[str, Priority, InputRow] | None:
    """Job id, priority and input of a submission; None for a signal and for what the keeper will refuse."""
    try:
        event = kafka.decode(record.value, record.headers)
    except EventError:
        return None
    if event.type == SIGNAL:
        return None
    job = str(event.extensions.get("job") or submission_job_id(event.source, event.id))
    priority = priority_of(event.extensions.get("priority"))
    if event.type != SUBMIT:
        data = msgspec.Raw(event.data) if event.data else NULL
        return job, priority, InputRow({}, data, event.type, event.source)
    try:
        body = msgspec.json.decode(event.data or b"{}", type=SubmitData)
    except msgspec.DecodeError:
        return None
    return job, priority, InputRow(body.params, body.data, event.type, event.source)
