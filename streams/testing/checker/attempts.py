"""C9: nobody is tried more often than its policy allows, and nothing comes back before its time,
nor is it parked for longer than whoever failed had planned: by the log's time, whatever the clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from streams.engine.messages import INPUT, RETRY, SIGNAL
from streams.engine.rows import JobRow, Row
from streams.event_rules import milliseconds
from streams.testing.checker.decoding import Version
from streams.testing.checker.evidence import Evidence, Step
from streams.testing.history import Violation

LATE = 2_000
"""How late (ms) a time may be (G10)."""


def check(evidence: Evidence) -> Iterator[Violation]:
    policies = evidence.history.policies
    for version in evidence.versions:
        if version.writer != "agent" or not isinstance(version.row, Row):
            continue
        policy = policies.get(version.part)
        if policy is not None and version.row.attempt > policy.max_attempts:
            what = f"attempt {version.row.attempt} of at most {policy.max_attempts}"
            yield Violation("C9", version.where, what)
    for ran in evidence.history.ran:
        policy = policies.get(ran.part)
        if policy is not None and ran.attempt > policy.max_attempts:
            what = f"is called for attempt {ran.attempt} of at most {policy.max_attempts}"
            yield Violation("C9", f"{ran.scope}|{ran.part}", what)
    for (_, scope, part), versions in evidence.by_row.items():
        if part.endswith("~"):
            for version in versions:
                yield from _parked(evidence, version)
            for before, after in pairwise(versions):
                if after.row is None and isinstance(before.row, Row):
                    yield from _came_back(evidence, scope, part[:-1], before.row, after)


def _parked(evidence: Evidence, version: Version) -> Iterator[Violation]:
    """For as long as planned, counted from the row's append."""
    wait = version.row.wait if isinstance(version.row, Row) else None
    if wait is None or wait.due is None:
        return
    for retry in evidence.by_id.get(wait.event.parent, ()):
        if retry.type != RETRY or not retry.time:
            continue
        planned = retry.due - milliseconds(retry.time)
        parked = wait.due - version.timestamp
        if parked > planned + LATE + evidence.history.skew:
            what = f"is parked for {parked} ms, planned were {planned}"
            yield Violation("C9", version.where, what)


def _came_back(
    evidence: Evidence, scope: str, part: str, parked: Row, gone: Version
) -> Iterator[Violation]:
    """A parked delivery goes: with the next turn when it is due or released, or with its job."""
    step, wait = evidence.step(gone.transaction), parked.wait
    if step is None or wait is None:
        return
    sent = any(
        m.type == INPUT and (m.scope, m.part, m.turn) == (scope, part, parked.turn)
        for m in step.messages
    )
    if not sent:
        if not _is_over(step, scope):
            yield Violation("C1", gone.where, "was parked and is gone, and nothing came of it")
        return
    early = (wait.due or 0) - gone.timestamp
    if early > evidence.history.skew and not _is_released(step, scope):
        yield Violation("C9", gone.where, f"comes back {early} ms before its time")
    yield from _planned(evidence, part, parked)


def _planned(evidence: Evidence, part: str, parked: Row) -> Iterator[Violation]:
    """The delay is that of the policy, give or take its 20 %."""
    wait, policy = parked.wait, evidence.history.policies.get(part)
    if wait is None or wait.due is None or policy is None:
        return
    retries = evidence.by_id.get(wait.event.parent, ())
    for retry in retries:
        spent = _spent(evidence, retry.transaction, retry.scope, part)
        if retry.type != RETRY or spent is None or spent.attempt == parked.attempt:
            continue
        rule = policy.backoff
        grown = {"none": 0.0, "linear": rule.initial * spent.attempt}.get(
            rule.strategy, rule.initial * 2.0 ** min(spent.attempt - 1, 60)
        )
        planned = min(grown, rule.maximum) * 1000
        spread = planned * 0.2 if rule.jitter else 0.0
        if abs(retry.due - spent.at - planned) > spread + 1:
            what = f"is planned in {retry.due - spent.at} ms, its policy says {planned:g}"
            yield Violation("C9", retry.where, what)


def _spent(evidence: Evidence, transaction: int, scope: str, part: str) -> Row | None:
    """The RETRYING row of the attempt that failed."""
    step = evidence.step(transaction)
    return next(
        (
            version.row
            for version in (step.versions if step is not None else ())
            if (version.scope, version.part) == (scope, part)
            and isinstance(version.row, Row)
            and version.row.status == "RETRYING"
        ),
        None,
    )


def _is_over(step: Step, scope: str) -> bool:
    """The step ends or stops the job, or deletes it."""
    return any(
        version.scope == scope
        and version.part == "@job"
        and (
            not isinstance(version.row, JobRow)
            or version.row.ended
            or version.row.stopping is not None
        )
        for version in step.versions
    )


def _is_released(step: Step, scope: str) -> bool:
    return any(
        m.type == SIGNAL and m.scope == scope and signal_kind(m.value) == "release"
        for m in step.finished
    )


class _Signal(msgspec.Struct):
    kind: str = ""


_signal = msgspec.json.Decoder(_Signal)


def signal_kind(value: bytes | None) -> str:
    """What a signal asks for."""
    try:
        return _signal.decode(value or b"{}").kind
    except msgspec.MsgspecError:
        return ""
