"""Submissions: one job for each (source, id), whatever is sent twice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from streams.engine import arrivals, completion, signals
from streams.engine import payload as payloads
from streams.engine.messages import SIGNAL, SUBMIT, SubmitData
from streams.engine.payload import BlobRef, Payload
from streams.engine.priority import NORMAL, PRIORITIES, Priority, priority_of
from streams.engine.rows import InputRow, JobRow
from streams.engine.turn import Turn, origin_of_job
from streams.errors import EventError, UserError
from streams.event import Event, fingerprint, strip_engine_extensions, submission_job_id
from streams.topology.params import bind_params
from streams.topology.plan import Plan

_submit = msgspec.json.Decoder(SubmitData)
JOB_ID = re.compile(r"[A-Za-z0-9._:-][A-Za-z0-9._:@-]{0,127}")


def scope_of(event: Event) -> str:
    """Whose state the event is about: a job, a shared fact, or a pause."""
    job = event.extensions.get("job")
    if job:
        check_job_id(str(job))
        return str(job)
    if event.type == SIGNAL:
        return signals.scope_of_jobless(event)
    return submission_job_id(event.source, event.id)


def check_job_id(job_id: str) -> None:
    """Raises `EventError` for an id that no job may have: keys and addresses are made of it."""
    if not JOB_ID.fullmatch(job_id):
        raise EventError(
            f"{job_id[:140]!r} is no id for a job",
            code="V042",
            field="job",
            help="1 to 128 letters, digits or . _ : @ - ; not beginning with @.",
        )


def submit(turn: Turn, event: Event, job_id: str) -> None:
    """Starts the job, or does nothing if it is there. Raises `EventError` for the dead letters."""
    digest = fingerprint(event)
    there = turn.job(job_id)
    if there is not None:
        if there.digest == digest:
            return
        raise EventError(
            f"job {job_id} exists with another body",
            code="V040",
            field="id",
            help="Give the new work an id of its own.",
        )
    plan = turn.active
    snapshot, deadline = _snapshot(plan, event, turn.blobs)
    tenant = str(event.extensions.get("tenant", ""))
    begin(
        turn, plan, job_id, snapshot, event.id,
        deadline=deadline, digest=digest, tenant=tenant, priority=_priority(event),
    )  # fmt: skip


def begin(
    turn: Turn,
    plan: Plan,
    job_id: str,
    snapshot: InputRow,
    parent: str,
    *,
    deadline: int | None = None,
    digest: str = "",
    tenant: str = "",
    priority: Priority = NORMAL,
) -> None:
    """Starts a job that is not there from what was submitted. `parent`: the submission's id."""
    job = JobRow(
        "RUNNING",
        phase=1,
        plan=plan.digest,
        root=job_id,
        digest=digest,
        source=snapshot.source,
        created=turn.now,
        updated=turn.now,
        deadline=deadline or (turn.now + plan.deadline_ms if plan.deadline_ms else None),
        tenant=tenant,
        priority=priority,
    )
    turn.put(job_id, "@input", snapshot)
    turn.put(job_id, "@job", job)
    _enter(turn, plan, job_id, job, snapshot, parent)
    signals.apply_early(turn, job_id)
    # Mostly the first stage has yet to run: then nothing can follow, and nobody has to look.
    if turn.has_parts(job_id) or not plan.parts:
        completion.follow(turn, job_id)


def _priority(event: Event) -> Priority:
    """As the submission asks. A stranger's attribute of that name may mean something else: what is
    none of our words counts as normal. In an event of our own it is a mistake."""
    word = event.extensions.get("priority")
    if event.type == SUBMIT and word is not None and word not in PRIORITIES:
        raise EventError(
            f"{str(word)[:40]!r} is no priority",
            code="V051",
            field="priority",
            help=f"one of {', '.join(PRIORITIES)}",
        )
    return priority_of(word)


def _snapshot(plan: Plan, event: Event, blobs: Mapping[str, Any]) -> tuple[InputRow, int | None]:
    """What the job starts from: parameters and data, as submitted."""
    if event.type == SUBMIT:
        try:
            body = _submit.decode(event.data or b"{}")
        except msgspec.MsgspecError as error:
            raise EventError(f"not a submission: {error}", code="V041", field="data") from None
        given: dict[str, Any] = dict(body.params)
        data, deadline = body.data, body.deadline
    else:
        data, deadline = foreign_data(event), None
        given = _declared(plan, data, blobs)
    params = bound(plan, given)
    if len(event.data or b"") > payloads.INLINE_LIMIT or payloads.blob_of(data) is not None:
        _refuse_large(params)
    row = InputRow(
        params=params,
        data=data,
        type=event.type,
        source=event.source,
        subject=event.subject or "",
        traceparent=str(event.extensions.get("traceparent", "")),
    )
    return row, deadline


def bound(plan: Plan, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a job of this plan. Raises `EventError` for those that it cannot have."""
    try:
        return bind_params(plan, given)
    except UserError as error:
        raise EventError(error.message, code=error.code, field="params", help=error.help) from None


def _refuse_large(params: dict[str, Any]) -> None:
    """Parameters travel with every event of the job, which must still fit into a record."""
    size = len(msgspec.json.encode(params))
    if size > payloads.INLINE_LIMIT:
        raise EventError(
            f"the parameters take {size:,} bytes, more than {payloads.INLINE_LIMIT:,}",
            code="V050",
            field="params",
            help="Send the large part as data: it goes to the blob store.",
        )


def foreign_data(event: Event) -> msgspec.Raw:
    """The data of anybody's event as a JSON value."""
    ref = event.extensions.get("dataref")
    if ref and event.data is None:
        kind = event.datacontenttype or "application/json"
        return payloads.reference(BlobRef(str(ref), 0, "", kind))
    value = event.value()
    if isinstance(value, bytes):
        return msgspec.Raw(msgspec.json.encode({"$base64": value}))
    return msgspec.Raw(msgspec.json.encode(value))


def _declared(plan: Plan, data: msgspec.Raw, blobs: Mapping[str, Any]) -> dict[str, Any]:
    """Declared parameters that stand at the top of a foreign event's data. Raises `BlobMissing`
    for data that was put away, unless somebody else did (`dataref`)."""
    if not plan.params or not bytes(data).startswith(b"{"):
        return {}
    ref = payloads.blob_of(data)
    if ref is not None and not ref.sha256:
        return {}
    body = payloads.value_of(data, dict(blobs))
    if not isinstance(body, dict):
        return {}
    return {param.name: body[param.name] for param in plan.params if param.name in body}


def _enter(
    turn: Turn, plan: Plan, job_id: str, job: JobRow, snapshot: InputRow, parent: str
) -> None:
    """Enters the first parts."""
    origin = msgspec.structs.replace(origin_of_job(job_id, job), trace=snapshot.traceparent)
    flow = turn.flow(plan, origin)
    payload = Payload(params=snapshot.params, data=snapshot.data)
    for path in plan.roots:
        flow.enter(plan.by_path[path], parent, payload)
        turn.absorb(flow)
    arrivals.drain(turn)


def clean(event: Event) -> Event:
    """The event without what only the engine may say."""
    return strip_engine_extensions(event)
