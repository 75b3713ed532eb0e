"""What a step wrote, from its row: for an event that came a second time.

At least once means that a crash between the row and the offset's commit brings the event again. Its
row stands already, so the stage is not run again: the same events follow from the row as before,
under the same ids.
"""

from __future__ import annotations

import msgspec

from streams.engine.actions import Action, PutRow
from streams.engine.flow import Flow
from streams.engine.messages import cause_text
from streams.engine.retrying import delay_after
from streams.engine.routing import Answer, Step, park
from streams.engine.rows import Failure, Row
from streams.outcome import Cancel
from streams.runtime.runner import Job
from streams.topology.plan import Policy

ASK_AGAIN = 5.0
"""Seconds, where the row does not say how long the stage asked to be left alone."""


def is_done(row: Row | None, job: Job) -> bool:
    """Whether the delivery ended in this row, or the part went on beyond it."""
    delivery = job.delivery
    return row is not None and row.order >= (delivery.epoch, delivery.turn, 2)


def repeated(flow: Flow, job: Job, row: Row, policy: Policy, *, stopped: bool) -> list[Action]:
    """All that followed from the row but the row itself."""
    delivery, part, event, payload = job.delivery, job.part, job.event, job.payload
    if (row.epoch, row.turn) != (delivery.epoch, delivery.turn):
        return []  # the part has had another turn since: what followed has been read
    if row.status in ("SUCCESS", "SKIPPED"):
        flow.end(
            part, row.status, event.id, payload,
            turn=row.turn, attempt=row.attempt, taken=row.taken, out=row.out,
            times=row.times, meta=row.meta, reason=row.reason,
        )  # fmt: skip
    elif row.status == "FAILED":
        flow.fail(
            part, event, payload, row.err or Failure("S001", ""),
            turn=row.turn, attempt=row.attempt, times=row.times, meta=row.meta,
        )  # fmt: skip
    elif row.status == "RETRYING":
        _later(flow, job, row, policy)
    elif row.status == "CANCELLED" and not stopped:
        answer = Answer(Cancel(row.reason), row.at, row.at)
        Step(flow, part, event, delivery, payload, answer).cancel(Cancel(row.reason))
    return [a for a in flow.actions if not (isinstance(a, PutRow) and a.part == part.path)]


def _later(flow: Flow, job: Job, row: Row, policy: Policy) -> None:
    """The retry again; if the keeper has the first one, it drops this."""
    spent = row.err is not None
    delay = delay_after(policy, row.attempt, retriable=True, jitter=0.5) if spent else ASK_AGAIN
    payload = msgspec.structs.replace(job.payload, tries=row.times)
    park(
        flow, job.part.path, job.event, job.delivery, payload, delay or ASK_AGAIN,
        attempt=row.attempt + spent, cause=cause_text(job.part.path, row.order),
        reason=row.reason,
    )  # fmt: skip
