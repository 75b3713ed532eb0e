"""What a test reads: who waits and why, what was given out, what lies among the dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import msgspec

from streams.blobs import BlobStore
from streams.broker.port import Log, TopicPartition
from streams.codec import kafka
from streams.engine.payload import blob_of
from streams.engine.rows import Address, AnyRow, decode, decode_row
from streams.engine.view import Explanation
from streams.errors import EventError
from streams.event import Event
from streams.inspection.deadletters import DeadLetter as KeptLetter
from streams.inspection.jobs import Job
from streams.inspection.pipelines import PipelineInfo
from streams.inspection.scan import fold, scan
from streams.topology.durations import spell

_ENDS = {
    "fail": "then the job fails",
    "skip": "then the gate is skipped",
    "continue": "then the job goes on",
    "route": "then the job goes on by the gate's other way",
}


class Held(str):
    """The id of a job that waits, and everything about its wait: `t.held("review") == ["doc-1"]`
    holds, and so does `t.held("review")[0].due is None`."""

    __slots__ = ("due", "gate", "kind", "since", "stage", "why")

    stage: str
    gate: str | None
    kind: str
    """gate, sleep, retry or join."""
    since: int
    due: int | None
    """When the wait ends by itself (ms); None: never."""
    why: str
    """One sentence: for what it waits, and until when."""

    def __new__(
        cls,
        job: str,
        *,
        stage: str = "",
        gate: str | None = None,
        kind: str = "gate",
        since: int = 0,
        due: int | None = None,
        why: str = "",
    ) -> Self:
        held = super().__new__(cls, job)
        held.stage, held.gate, held.kind = stage, gate, kind
        held.since, held.due, held.why = since, due, why
        return held

    @property
    def job(self) -> str:
        """The plain id."""
        return str.__str__(self)

    def __repr__(self) -> str:
        return f"Held({str.__repr__(self)}, {self.why!r})"


class DeadLetter(msgspec.Struct, frozen=True):
    """What could not be brought to an end, and why."""

    reason: str
    """`stage-failed`, `gate-timeout`, …, or the code of what was wrong with the event."""
    stage: str
    """Empty where the event never became a job."""
    job: str
    error: str
    event: Event | None
    """As it was; None if it cannot be read as an event at all."""
    state: str
    """open, redriven or discarded."""
    pipeline: str
    id: str
    at: int


def held_of(job: Job, where: str | None, now: int) -> list[Held]:
    """The job's waits, or those at a stage or gate."""
    return [
        Held(
            job.view.id,
            stage=wait.stage,
            gate=wait.gate,
            kind=wait.kind,
            since=wait.since,
            due=wait.due,
            why=why(job, wait, now),
        )
        for wait in job.waits()
        if where is None or where in (wait.stage, wait.gate)
    ]


def why(job: Job, wait: Explanation, now: int) -> str:
    """Why a job waits, in one sentence."""
    ends = _until(wait.due, now)
    if wait.kind == "gate":
        said = "; ".join(_clause(c.text, c.passed, c.actual, c.error) for c in wait.clauses)
        then = f", {_ENDS.get(wait.on_timeout or 'fail', wait.on_timeout)}" if wait.due else ""
        return f"waits at gate {wait.gate} until {said}; {ends}{then}"
    if wait.kind == "retry":
        view = job.view.stages[wait.stage]
        last = view.tries[-1].error if view.tries else ""
        said = view.error.message if view.error else last or view.reason
        return f"tries {wait.stage} again {ends}" + (f"; last error: {said}" if said else "")
    if wait.kind == "join":
        return f"waits at {wait.stage} for {' and '.join(wait.missing) or 'other stages'}"
    return f"sleeps at {wait.stage} {ends}"


def standing_of(job: Job, now: int) -> str:
    """Where a job stands and why, in one line."""
    view = job.view
    waits = [why(job, wait, now) for wait in job.waits()] if not job.untaken else []
    if waits:
        return f"{view.id} {'; '.join(waits)}"
    error = f": {view.error.code} {view.error.message}" if view.error else ""
    reason = error or (f": {view.reason}" if view.reason else "")
    at = f" at {view.current_stage}" if view.current_stage else ""
    taken = " (no worker has taken it up yet: run_until_idle())" if job.untaken else ""
    return f"{view.id} is {view.status}{at}{reason}{taken}"


def _clause(text: str, passed: bool, actual: Mapping[str, Any], error: str) -> str:
    if passed:
        return f"{text} (holds)"
    if actual:
        now = ", ".join(f"{k} = {msgspec.json.encode(v).decode()}" for k, v in actual.items())
        return f"{text} ({now})"
    return f"{text} ({error or 'not set'})"


def _until(due: int | None, now: int) -> str:
    if due is None:
        return "it never times out"
    return f"in {spell(due - now)}" if due > now else "at once"


def output_of(job: Job, stage: str, noted: bytes | None, blobs: BlobStore) -> tuple[bool, Any]:
    """Whether the stage gave something out that counts, and what."""
    row = job.rows.get(stage)
    if row is None or job.view.stages[stage].status != "succeeded":
        return False, None
    kept = decode_row(row).out
    out = bytes(kept) or noted or b"null"
    ref = blob_of(msgspec.Raw(out))
    return True, (msgspec.json.decode(out) if ref is None else blobs.value_now(ref))


def letter_of(letter: KeptLetter) -> DeadLetter:
    """The letter with its event read."""
    try:
        event = kafka.decode(letter.value, letter.headers)
    except EventError:
        event = None
    return DeadLetter(
        letter.reason, letter.stage, letter.job or _job_in(event), letter.error, event,
        letter.state, letter.pipeline, letter.id, letter.at,
    )  # fmt: skip


def _job_in(event: Event | None) -> str:
    return str(event.extensions.get("job", "")) if event is not None else ""


async def rows_of_all(log: Log, info: PipelineInfo) -> dict[str, dict[str, AnyRow]]:
    """Job → part → newest row of a pipeline's whole ledger."""
    found: dict[str, dict[str, bytes]] = {}
    for place in info.places(info.naming.ledger):
        async for record in scan(log, [place]):
            address = Address.of(record.key or b"")
            fold(found.setdefault(address.scope, {}), address.part, record.value)
    return {
        scope: {part: decode(part, data) for part, data in sorted(rows.items())}
        for scope, rows in sorted(found.items())
        if rows
    }


async def events_of(log: Log, topic: str) -> list[Event]:
    """Every event in a topic, in the order of its partitions."""
    spec = (await log.topics())[topic]
    places = [TopicPartition(topic, number) for number in range(spec.partitions)]
    return [
        kafka.decode(record.value, record.headers)
        for place in places
        async for record in scan(log, [place])
    ]
