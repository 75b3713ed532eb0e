"""Signals: facts and acts from outside, each carried out at most once."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from streams.engine import completion, gates, restarting
from streams.engine.actions import PutControl
from streams.engine.messages import SignalData
from streams.engine.rows import FactRow, JobRow, Parked, Row, Wait
from streams.engine.turn import Turn
from streams.engine.view import ScopeRows
from streams.errors import EventError
from streams.event import Event
from streams.event_rules import timestamp

EARLY_MS = 3_600_000
"""How long a signal waits for a job that is not here yet."""
EARLY_MOST = 100
KEPT_IDS = 32
SIGNAL_LIMIT = 48 * 1024
FACTS_LIMIT = 128 * 1024
"""Bytes of one signal, and of all facts of a job together."""
FACT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
KINDS = ("fact", "cancel", "release", "reject", "retry", "discard", "pause", "resume")

_decoder = msgspec.json.Decoder(SignalData)


def read_signal(event: Event) -> SignalData:
    """The signal in an event. Raises `EventError`."""
    _refuse_large(len(event.data or b""), SIGNAL_LIMIT)
    try:
        data = _decoder.decode(event.data or b"")
    except msgspec.MsgspecError as error:
        raise EventError(f"not a signal: {error}", code="V043", field="data") from None
    if data.kind not in KINDS:
        raise EventError(
            f"unknown kind of signal {data.kind!r}", code="V043", field="data.kind",
            help=f"One of {', '.join(KINDS)}.",
        )  # fmt: skip
    for name in data.facts:
        if not FACT_NAME.fullmatch(name):
            raise EventError(f"{name!r} is no name for a fact", code="V043", field="data.facts")
    return data


def _refuse_large(size: int, limit: int) -> None:
    """What a signal sets is in the job's view, which travels with events (`@ledger`)."""
    if size > limit:
        raise EventError(
            f"{size:,} bytes of facts, more than {limit:,}",
            code="V060",
            field="data.facts",
            help="Keep large values elsewhere, and set their address as the fact.",
        )


def scope_of_jobless(event: Event) -> str:
    """The state that a signal without a job belongs to."""
    data = read_signal(event)
    if data.kind in ("pause", "resume"):
        return f"@pause/{data.stage or '*'}"
    if data.kind == "fact" and data.facts:
        return f"@global/{min(data.facts)}"
    raise EventError("the signal names no job", code="V044", field="job")


def apply_shared(turn: Turn, event: Event) -> None:
    """A shared fact, a pause or a resume: a record of the control topic."""
    data = read_signal(event)
    who = {"at": turn.now, "by": data.by, "reason": data.reason}
    if data.kind == "pause":
        turn.do(PutControl(f"pause/{data.stage or '*'}", msgspec.json.encode(who)))
    elif data.kind == "resume":
        turn.do(PutControl(f"pause/{data.stage or '*'}", None))
    else:
        for name, value in data.facts.items():
            turn.do(PutControl(f"fact/{name}", msgspec.json.encode({"value": value, **who})))


def apply(turn: Turn, event: Event, job_id: str) -> None:
    """Carries a signal out, or answers in the job's `last_signal` why not."""
    data = read_signal(event)
    rows = turn.read(job_id)
    job = rows.job
    if job is None:
        _keep_early(turn, event, job_id)
        return
    if event.id in job.signals:
        return
    answer = _act(turn, data, job_id, job, rows)
    now = turn.read(job_id).job
    assert now is not None
    kept = (*now.signals, event.id)[-KEPT_IDS:]
    said = f"{timestamp(turn.now)} {data.kind}: {answer}" if answer else ""
    turn.put(
        job_id,
        "@job",
        msgspec.structs.replace(now, signals=kept, last_signal=said, updated=turn.now, n=now.n + 1),
    )


def _act(turn: Turn, data: SignalData, job_id: str, job: JobRow, rows: ScopeRows) -> str:
    if data.epoch is not None and data.epoch != job.epoch:
        return f"meant for epoch {data.epoch}, the job is at {job.epoch}"
    if data.kind == "fact":
        return _set_facts(turn, data, job_id, rows)
    if data.kind == "retry":
        return restarting.restart(turn, job_id, data.start)
    if data.kind == "discard":
        return _discard(turn, data, job_id, rows)
    if data.kind == "cancel" and job.status == "CANCELLED":
        return ""
    if job.ended:
        return "the job has ended"
    if data.kind == "cancel":
        reason = data.reason or "cancelled"
        completion.stop(
            turn, job_id, "CANCELLED", reason=f"{reason} (by {data.by})" if data.by else reason
        )
        return ""
    return _let_go(turn, data, job_id, rows)


def _set_facts(turn: Turn, data: SignalData, job_id: str, rows: ScopeRows) -> str:
    before = turn.rows(job_id)
    others = [len(row) for part, row in before.items() if part.startswith("@fact/")]
    if others and sum(others) + len(msgspec.json.encode(data.facts)) > FACTS_LIMIT:
        mine = {f"@fact/{name}" for name in data.facts}
        kept = [len(r) for p, r in before.items() if p.startswith("@fact/") and p not in mine]
        _refuse_large(sum(kept) + len(msgspec.json.encode(data.facts)), FACTS_LIMIT)
    for name, value in data.facts.items():
        part = f"@fact/{name}"
        n = _fact_n(before.get(part))
        turn.put(job_id, part, FactRow(value, turn.now, data.by, n + 1))
    if rows.job is not None and not rows.job.ended:
        completion.follow(turn, job_id)
    return ""


def _fact_n(data: bytes | None) -> int:
    return msgspec.json.decode(memoryview(data)[1:], type=FactRow).n if data else 0


def _discard(turn: Turn, data: SignalData, job_id: str, rows: ScopeRows) -> str:
    found = [path for path in rows.dead if not data.part or path == data.part]
    for path in found:
        turn.drop(job_id, f"{path}~dead")
    return "" if found else "nothing to discard"


def _let_go(turn: Turn, data: SignalData, job_id: str, rows: ScopeRows) -> str:
    path = data.part or _part_of_gate(turn, data.gate, rows)
    if not path:
        return f"the job does not wait at {data.gate}"
    if path in rows.parked and data.kind == "release":
        retry_now(turn, job_id, path)
        return ""
    if data.kind == "release":
        answer = gates.release(turn, job_id, path, by=data.by, reason=data.reason)
    else:
        said = f"rejected by {data.by or 'somebody'}" + (f": {data.reason}" if data.reason else "")
        answer = gates.reject(turn, job_id, path, reason=said)
    completion.follow(turn, job_id)
    return answer


def _part_of_gate(turn: Turn, gate: str, rows: ScopeRows) -> str:
    for path, row in rows.stages.items():
        if row.status != "WAITING":
            continue
        declared = turn.plan(row.plan).by_path[path].gate
        if path == gate or (declared is not None and declared.name == gate):
            return path
    return gate if gate in rows.parked else ""


def retry_now(turn: Turn, scope: str, path: str) -> None:
    """Sends a delayed retry on: due, or released by hand."""
    rows = turn.read(scope)
    parked = rows.parked.get(path)
    if parked is None or parked.wait is None:
        return
    restarting.deliver(turn, scope, path, parked)
    turn.drop(scope, f"{path}~")


def _keep_early(turn: Turn, event: Event, job_id: str) -> None:
    """A signal may overtake the submission it belongs to."""
    early = [part for part in turn.rows(job_id) if part.startswith("@early/")]
    if f"@early/{event.id}" in early:
        return
    if len(early) >= EARLY_MOST:
        raise EventError(f"too many signals for the unknown job {job_id}", code="V045", field="job")
    kept = Parked(parent=event.id, payload=msgspec.Raw(event.data or b"{}"), trace=event.source)
    wait = Wait("early", turn.now, due=turn.now + EARLY_MS, event=kept)
    turn.put(
        job_id,
        f"@early/{event.id}",
        Row("WAITING", phase=0, n=len(early), root=job_id, at=turn.now, wait=wait),
    )


def apply_early(turn: Turn, job_id: str) -> None:
    """Carries out what came before the job did, in the order it came."""
    for event, part in early_signals(turn, job_id):
        turn.drop(job_id, part)
        apply(turn, event, job_id)


def early_signals(turn: Turn, job_id: str) -> list[tuple[Event, str]]:
    """The kept signals of an unknown job, as events again."""
    found: list[tuple[int, Event, str]] = []
    rows = turn.rows(job_id)
    for part in rows:
        if part.startswith("@early/"):
            row: Row = msgspec.json.decode(memoryview(rows[part])[1:], type=Row)
            assert row.wait is not None
            kept = row.wait.event
            found.append((row.n, _event_of(kept, job_id), part))
    return [(event, part) for _, event, part in sorted(found, key=lambda each: each[0])]


def _event_of(kept: Parked, job_id: str) -> Event:
    extensions: dict[str, Any] = {"job": job_id}
    return Event(
        id=kept.parent,
        source=kept.trace,
        type="interlock.signal.v1",
        datacontenttype="application/json",
        data=bytes(kept.payload),
        extensions=extensions,
    )
