"""A pipeline from outside: submit, signal, look.

Whatever changes something is an event in a pipeline's intake topic; whatever is shown is read from
the log and merged by the same pure functions that the keeper uses. A client never writes a row, so
it can be wrong about nothing but the moment it looked.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import aclosing
from difflib import get_close_matches
from heapq import nlargest
from pathlib import Path
from typing import Any, Literal

import msgspec

from streams.blobs import BlobStore
from streams.broker.port import Log, Outgoing, Record, TopicPartition, Watermarks
from streams.clock import Clock, SystemClock
from streams.codec import kafka
from streams.engine import rows as ledger_rows
from streams.engine.messages import SIGNAL, SUBMIT, SignalData, SubmitData
from streams.engine.payload import INLINE_LIMIT, reference
from streams.engine.priority import NORMAL, Priority
from streams.engine.rows import NULL, Address, AnyRow
from streams.engine.view import JobView
from streams.errors import NotFoundError, UserError
from streams.event import Event, submission_job_id
from streams.event_rules import AttributeValue, timestamp
from streams.inspection.deadletters import (
    DISCARDED,
    DeadLetter,
    by_job,
    has_job,
    read_dead_letters,
)
from streams.inspection.decoding import Decoder
from streams.inspection.foreign_writing import foreign_records
from streams.inspection.history import Happening, read_history
from streams.inspection.jobs import Job, all_jobs, job_of, ledger_place, rows_of, untaken
from streams.inspection.originals import Originals
from streams.inspection.pipelines import PipelineInfo, pipeline_names, read_pipeline
from streams.inspection.scan import caught_up, fold
from streams.topology.plan import Naming, SourceTopic

SOURCE = "/streams/cli"
JOB_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
ENDED: frozenset[str] = frozenset({"succeeded", "skipped", "failed", "cancelled"})
BATCH = 500

EXPLANATIONS: dict[str, str] = {
    "C101": """\
**Several jobs begin with that id.** A job may be named by any prefix that fits only one job.
Next: give more characters, or `--pipeline P` if the same id lives in two pipelines.""",
    "C102": """\
**A job id has letters, digits and `._:@-`, at most 128 of them.** It becomes the key of all the
job's records and part of file names, so nothing else is let in.
Next: choose another id, or leave it out and one is made.""",
    "C103": """\
**The parameters of a job must stay small (48 KiB together).** They travel with every event.
Next: give the large part with `--data FILE`; it goes to the blob store, and a reference travels.""",
    "C104": """\
**Large data needs a blob store, and this client has none.** Data over 48 KiB never stands in the
log itself. Next: set `blobs` in `streams.yaml`, or submit less.""",
    "C105": """\
**No such job.** Looked for among the rows of the ledger and among the submissions that no worker
has taken up yet. Finished jobs leave the ledger after `retention.jobs` (7 days by default).
Next: `streams list`.""",
    "C106": """\
**No such pipeline.** A pipeline exists in a log once `streams dev` or `streams worker` has started
it there. Next: start one of them with the pipeline's file, or correct the name.""",
    "C107": """\
**No such topic in this log.** Next: name a pipeline instead, `streams tail PIPELINE`.""",
}


class Submission(msgspec.Struct, frozen=True):
    """One job to be."""

    params: Mapping[str, Any] = {}
    data: Any = None
    file: Path | None = None
    """Data that goes to the blob store as it is, without being read into memory."""
    content_type: str = "application/json"
    id: str | None = None
    """The job's id; without one it follows from (source, event id)."""
    deadline: int | None = None
    """Absolute, ms; past it the job is cancelled."""
    priority: Priority = NORMAL
    """Before whom its stages are run; it stays with the job through every retry."""


class Change(msgspec.Struct, frozen=True):
    """A ledger row as it was just written."""

    pipeline: str
    job: str
    part: str
    row: AnyRow
    at: int


class Filter(msgspec.Struct, frozen=True):
    """Which jobs; None is any."""

    pipeline: str | None = None
    status: str | None = None
    stage: str | None = None
    limit: int | None = None

    def fits(self, view: JobView) -> bool:
        return (self.status is None or view.status == self.status) and (
            self.stage is None or view.current_stage == self.stage
        )


class Client:
    """Acts on and looks at the pipelines of one namespace in one log."""

    def __init__(
        self,
        log: Log,
        namespace: str,
        *,
        blobs: BlobStore | None = None,
        clock: Clock | None = None,
        source: str = SOURCE,
        registry: str = "",
    ) -> None:
        self.log = log
        self.namespace = namespace
        self.clock = clock or SystemClock()
        self._blobs = blobs
        self._source = source
        self._registry = registry

    # ── Pipelines ───────────────────────────────────────────────────────────────────────────

    async def pipelines(self) -> list[PipelineInfo]:
        """All pipelines that were ever applied here, by name."""
        names = await pipeline_names(self.log, self.namespace)
        found = [await read_pipeline(self.log, Naming(self.namespace, name)) for name in names]
        return [info for info in found if info is not None]

    async def pipeline(self, name: str) -> PipelineInfo:
        """This pipeline; `NotFoundError` names those that look alike."""
        known = await pipeline_names(self.log, self.namespace)
        naming = Naming(self.namespace, name)
        info = await read_pipeline(self.log, naming) if name in known else None
        if info is None:
            others = [each for each in known if each != name]
            hint = _similar(name, others) or "start it: streams dev FILE, or streams worker FILE"
            raise NotFoundError(f"no pipeline `{name}` here", code="C106", help=hint)
        return info

    async def chosen(self, pipeline: str | None) -> list[PipelineInfo]:
        """The one named, or all."""
        return [await self.pipeline(pipeline)] if pipeline else await self.pipelines()

    # ── Saying something ────────────────────────────────────────────────────────────────────

    async def submit(self, info: PipelineInfo, submission: Submission) -> str:
        """The submission stands in the intake; returns the id its job has."""
        async for job in self.submit_many(info, [submission]):
            return job
        raise AssertionError("one submission, no id")

    async def submit_many(
        self, info: PipelineInfo, submissions: Iterable[Submission]
    ) -> AsyncIterator[str]:
        """Ids in order, each once its submission stands in the intake; memory stays flat."""
        jobs: list[str] = []
        records: list[Outgoing] = []
        size = 0
        for submission in submissions:
            job, record = await self._submission(info, submission)
            jobs.append(job)
            records.append(record)
            size += len(record.value or b"")
            if len(records) >= BATCH or size >= 1 << 20:
                await self.log.publish(records)
                for done in jobs:
                    yield done
                jobs, records, size = [], [], 0
        if records:
            await self.log.publish(records)
            for done in jobs:
                yield done

    async def _submission(self, info: PipelineInfo, submission: Submission) -> tuple[str, Outgoing]:
        event_id = self.clock.new_id()
        job = submission.id or submission_job_id(self._source, event_id)
        check_job_id(job)
        params = dict(submission.params)
        size = len(msgspec.json.encode(params))
        if size > INLINE_LIMIT:
            raise UserError(
                f"the parameters of job {job} take {size // 1024} KiB, more than 48",
                code="C103",
                help="give the large part with --data FILE",
            )
        data = await self._data(info, job, submission)
        event = Event.make(
            id=event_id,
            source=self._source,
            type=SUBMIT,
            time=timestamp(self.clock.now()),
            value=SubmitData(params, data, submission.deadline),
            extensions=_asked(job, submission),
        )
        return job, _outgoing(info.naming.intake, job.encode(), event)

    async def _data(self, info: PipelineInfo, job: str, submission: Submission) -> msgspec.Raw:
        """The value as it travels: itself, or a reference to the blob store."""
        content: Path | bytes
        if submission.file is not None:
            content = submission.file
        elif submission.data is None:
            return NULL
        else:
            content = msgspec.json.encode(submission.data)
            if len(content) <= INLINE_LIMIT:
                return msgspec.Raw(content)
        if self._blobs is None:
            raise UserError(
                f"the data of job {job} is too large for an event, and there is no blob store",
                code="C104",
                help="set `blobs` in streams.yaml",
            )
        prefix = f"{self.namespace}/{info.name}/{job}"
        return reference(await self._blobs.put(prefix, content, submission.content_type))

    async def submit_event(self, info: PipelineInfo, event: Event, job: str | None = None) -> str:
        """The user's own CloudEvent stands in the intake as a job; a re-send is the same job."""
        name = job or submission_job_id(event.source, event.id)
        check_job_id(name)
        if job:
            event = event.with_extensions(job=job)
        await self.log.publish([_outgoing(info.naming.intake, name.encode(), event)])
        return name

    async def signal(self, info: PipelineInfo, signal: SignalData, job: str | None = None) -> None:
        """The signal stands in the intake; what comes of it is for the pipeline to decide."""
        await self.log.publish([self._signal(info, signal, job)])

    async def signal_many(
        self, info: PipelineInfo, signals: Iterable[tuple[str, SignalData]]
    ) -> None:
        """The same for many jobs, in few writes."""
        batch: list[Outgoing] = []
        for job, signal in signals:
            batch.append(self._signal(info, signal, job))
            if len(batch) >= BATCH:
                await self.log.publish(batch)
                batch = []
        if batch:
            await self.log.publish(batch)

    def _signal(self, info: PipelineInfo, signal: SignalData, job: str | None) -> Outgoing:
        if job is not None:
            key = job
        elif signal.kind == "fact":
            key = f"@global/{min(signal.facts)}"
        else:
            key = f"@pause/{signal.stage or '*'}"
        event = Event.make(
            id=self.clock.new_id(),
            source=self._source,
            type=SIGNAL,
            time=timestamp(self.clock.now()),
            value=signal,
            extensions={"job": job} if job is not None else {},
        )
        return _outgoing(info.naming.intake, key.encode(), event)

    async def publish(self, topic: str, events: Iterable[Event]) -> int:
        """The events stand in the topic, keyed by their `partitionkey`; returns how many."""
        await self._require_topics([topic])
        count = 0
        batch: list[Outgoing] = []
        for event in events:
            batch.append(_outgoing(topic, kafka.partition_key(event), event))
            count += 1
            if len(batch) >= BATCH:
                await self.log.publish(batch)
                batch = []
        if batch:
            await self.log.publish(batch)
        return count

    async def source_of(self, topic: str) -> SourceTopic | None:
        """How a pipeline reads this topic, if one does and its records are no CloudEvents."""
        for info in await self.pipelines():
            for source in info.plan.sources:
                if source.topic == topic and source.format != "cloudevents":
                    return source
        return None

    async def foreign(
        self, source: SourceTopic, values: Iterable[Any], key: str = ""
    ) -> list[Outgoing]:
        """Records of these values, as the source reads them."""
        return await foreign_records(source, values, key, self._registry)

    async def publish_records(self, records: Iterable[Outgoing]) -> None:
        """They stand in their topics."""
        for some in _batches(records):
            await self.log.publish(some)

    # ── Jobs ────────────────────────────────────────────────────────────────────────────────

    async def job(self, job: str, pipeline: str | None = None) -> JobView:
        """The view of one job; a prefix that fits only one will do."""
        return (await self.find(job, pipeline)).view

    async def find(self, job: str, pipeline: str | None = None) -> Job:
        """The job, and what its view was made from."""
        infos = await self.chosen(pipeline)
        found = [each for info in infos if (each := await self._exactly(info, job)) is not None]
        if not found:
            for info in infos:
                async with aclosing(all_jobs(self.log, info, self.clock.now())) as jobs:
                    found += [each async for each in jobs if each.view.id.startswith(job)]
        if not found:
            raise NotFoundError(f"no job `{job}` here", code="C105", help="streams list")
        if len(found) > 1:
            shown = ", ".join(f"{each.pipeline.name}/{each.view.id}" for each in found[:5])
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise UserError(
                f"`{job}` fits {len(found)} jobs: {shown}{more}",
                code="C101",
                help="give more characters of the id, or --pipeline",
            )
        return found[0]

    async def _exactly(self, info: PipelineInfo, job: str) -> Job | None:
        rows = await rows_of(self.log, info, job)
        if "@job" in rows:
            return job_of(info, job, rows, self.clock.now())
        rows = (await untaken(self.log, info)).get(job, {})
        return job_of(info, job, rows, self.clock.now(), untaken=True) if rows else None

    async def jobs(self, wanted: Filter = Filter()) -> list[JobView]:
        """Jobs that fit, newest first."""
        views = [
            job.view
            for info in await self.chosen(wanted.pipeline)
            async for job in all_jobs(self.log, info, self.clock.now())
            if wanted.fits(job.view)
        ]
        count = len(views) if wanted.limit is None else wanted.limit
        return nlargest(count, views, key=lambda view: (view.created_at or 0, view.id))

    async def waiting(self, pipeline: str | None = None) -> list[Job]:
        """Jobs that have a stage in waiting, oldest first."""
        found = [
            job
            for info in await self.chosen(pipeline)
            async for job in all_jobs(self.log, info, self.clock.now())
            if any(stage.status == "waiting" for stage in job.view.stages.values())
        ]
        return sorted(found, key=lambda job: (job.view.created_at or 0, job.view.id))

    async def history(self, job: str, pipeline: str | None = None) -> list[Happening]:
        """All that the ledger still knows of the job's past, oldest first."""
        return await read_history(self.log, await self.find(job, pipeline))

    async def watch(self, info: PipelineInfo, jobs: Collection[str]) -> AsyncIterator[JobView]:
        """Each new state of these jobs, the present one first; ends when all have ended."""
        rows: dict[str, dict[str, bytes]] = {job: {} for job in jobs}
        marks = await self.log.watermarks({ledger_place(info, job) for job in jobs})
        reader = self.log.reader()
        reader.assign({place: mark.low for place, mark in marks.items()})
        open_jobs, changed = set(rows), set[str]()
        try:
            while open_jobs:
                for record in await reader.poll(BATCH, 0.25):
                    address = Address.of(record.key or b"")
                    known = rows.get(address.scope)
                    if known is not None and fold(known, address.part, record.value):
                        changed.add(address.scope)
                if not caught_up(reader, marks):
                    continue
                for job in sorted(job for job in changed if "@job" in rows[job]):
                    view = job_of(info, job, rows[job], self.clock.now()).view
                    if view.status in ENDED:
                        open_jobs.discard(job)
                    yield view
                changed.clear()
        finally:
            await reader.close()

    async def follow(self, pipelines: Collection[str]) -> AsyncIterator[Change]:
        """Every ledger row of these pipelines that is written after this call; never ends."""
        infos = [await self.pipeline(name) for name in pipelines]
        owner = {info.naming.ledger: info.name for info in infos}
        places = [place for info in infos for place in info.places(info.naming.ledger)]
        records = self._records(await self.log.watermarks(places), "end", follow=True)

        async def changes() -> AsyncIterator[Change]:
            async for record in records:
                if record.key is not None and ledger_rows.is_row(record.value or b""):
                    assert record.value is not None
                    address = Address.of(record.key)
                    row = ledger_rows.decode(address.part, record.value)
                    name = owner[record.topic]
                    yield Change(name, address.scope, address.part, row, record.timestamp)

        return changes()

    # ── Topics ──────────────────────────────────────────────────────────────────────────────

    async def topics_of(self, name: str) -> list[str]:
        """A topic by its own name, or all event topics of a pipeline by the pipeline's."""
        known = await self.log.topics()
        naming = Naming(self.namespace, name)
        if name in known or naming.control not in known:
            await self._require_topics([name])
            return [name]
        tables = {naming.ledger, naming.control, naming.hold}
        return sorted(t for t in known if t.startswith(f"{naming.prefix}.") and t not in tables)

    async def decoder(self) -> Decoder:
        """Reads whatever stands in any topic; to be closed."""
        return Decoder(await self.pipelines(), self._registry)

    async def tail(
        self,
        topics: Collection[str],
        start: Literal["beginning", "end"] | int = "end",
        *,
        follow: bool = True,
    ) -> AsyncIterator[Record]:
        """Records of these topics; with `follow` off it ends at what is there now."""
        await self._require_topics(topics)
        known = await self.log.topics()
        places = [
            TopicPartition(topic, number)
            for topic in topics
            for number in range(known[topic].partitions)
        ]
        marks = await self.log.watermarks(places)
        async for record in self._records(marks, start, follow=follow):
            yield record

    async def _records(
        self,
        marks: Mapping[TopicPartition, Watermarks],
        start: Literal["beginning", "end"] | int,
        *,
        follow: bool,
    ) -> AsyncIterator[Record]:
        reader = self.log.reader()
        reader.assign({place: _start(mark, start) for place, mark in marks.items()})
        try:
            while follow or not caught_up(reader, marks):
                for record in await reader.poll(BATCH, 0.25):
                    if follow or record.offset < marks[record.place].high:
                        yield record
        finally:
            await reader.close()

    async def _require_topics(self, topics: Collection[str]) -> None:
        known = await self.log.topics()
        for topic in topics:
            if topic not in known:
                hint = _similar(topic, sorted(known)) or "name a pipeline, or one of its topics"
                raise NotFoundError(f"no topic or pipeline `{topic}` here", code="C107", help=hint)

    # ── Dead letters ────────────────────────────────────────────────────────────────────────

    async def dead_letters(self, pipeline: str | None = None) -> list[DeadLetter]:
        """All letters still kept, newest first, each with what became of it."""
        letters = [
            letter
            for info in await self.chosen(pipeline)
            for letter in await read_dead_letters(self.log, info)
        ]
        return sorted(letters, key=lambda letter: letter.at, reverse=True)

    async def redrive(
        self, info: PipelineInfo, letters: Collection[DeadLetter], *, by: str, reason: str = ""
    ) -> None:
        """A job's letters are redriven by one retry of the job; others are published again."""
        again = SignalData("retry", by=by, reason=reason or "redrive")
        await self.signal_many(
            info,
            (
                (job, msgspec.structs.replace(again, epoch=max(each.epoch for each in theirs)))
                for job, theirs in by_job(letters).items()
            ),
        )
        loose = [letter for letter in letters if not has_job(letter)]
        async with Originals(self.log, info, self._registry) as originals:
            records = [await originals.submission(letter) for letter in loose]
        await self.publish_records(records)

    async def discard(
        self, info: PipelineInfo, letters: Collection[DeadLetter], *, by: str, reason: str = ""
    ) -> None:
        """The letters count as settled; their records leave with the dead topic's retention."""
        await self.signal_many(
            info,
            (
                (
                    letter.job,
                    SignalData(
                        "discard", part=letter.stage, epoch=letter.epoch, by=by, reason=reason
                    ),
                )
                for letter in letters
                if has_job(letter)
            ),
        )
        for letter in letters:
            if not has_job(letter):
                name = f"{DISCARDED}{letter.id}"
                fact = SignalData("fact", {name: reason or True}, everywhere=True, by=by)
                await self.signal(info, fact)


def _asked(job: str, submission: Submission) -> dict[str, AttributeValue]:
    """Attributes that say what a submission asks for beyond its body."""
    asked: dict[str, AttributeValue] = {"job": job} if submission.id else {}
    return asked if submission.priority == NORMAL else {**asked, "priority": submission.priority}


def check_job_id(job: str) -> None:
    """Returns if this may be a job's id, else raises."""
    if JOB_ID.fullmatch(job) is None:
        raise UserError(
            f"`{job[:140]}` cannot be a job id",
            code="C102",
            help="use letters, digits and ._:@- only, at most 128 of them",
        )


def _batches(records: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    """So many at once that a transaction stays small, at least one."""
    batch: list[Outgoing] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.value or b"")
        if len(batch) >= BATCH or size >= 1 << 20:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _outgoing(topic: str, key: bytes | None, event: Event) -> Outgoing:
    value, headers = kafka.encode(event)
    return Outgoing(topic, key, value, tuple(headers))


def _start(mark: Watermarks, start: Literal["beginning", "end"] | int) -> int:
    if start == "beginning":
        return mark.low
    return mark.high if start == "end" else start


def _similar(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, list(known), 1)
    if close:
        return f"did you mean `{close[0]}`?"
    return "there are: " + ", ".join(sorted(known)[:8]) if known else ""
