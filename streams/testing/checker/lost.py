"""C1: nothing that was accepted is lost, and nothing is done by halves.

Three looks at it. From outside: what was answered `ok` is in the log, what `failed` is not, what is
`unknown` is there or not. Job by job: one end for each epoch, and one `done` event that tells it.
Step by step: what follows from a row (the next event, the comeback, the dead letter) stands in the
row's own transaction; and once all is settled no input is left unfinished.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from streams.engine.messages import ARRIVE, DEAD, INPUT, RETRY
from streams.engine.rows import JobRow, Row
from streams.engine.signals import KINDS
from streams.testing.checker.decoding import Message, Version
from streams.testing.checker.evidence import Evidence, Step
from streams.testing.checker.jobs import (
    Life,
    done_events,
    is_held,
    lives,
    public_status,
    status_in,
)
from streams.testing.history import Asked, Violation

PUBLISHED = frozenset({"submit", *KINDS})


def check(evidence: Evidence) -> Iterator[Violation]:
    found = list(lives(evidence))
    settled = evidence.history.settled and not _paused(evidence)
    yield from _asked(evidence, {life.scope for life in found}, settled=settled)
    yield from _ends(evidence, found, settled=settled)
    for step in evidence.steps:
        yield from _followed(evidence, step)
    if settled:
        yield from _unfinished(evidence)


def _paused(evidence: Evidence) -> bool:
    """Somebody has paused a stage and never resumed it: much may wait, and rightly."""
    state = {said.name: said.value is not None for said in evidence.said if said.kind == "pause"}
    return any(state.values())


def _asked(evidence: Evidence, jobs: set[str], *, settled: bool) -> Iterator[Violation]:
    by_id: dict[str, list[Asked]] = defaultdict(list)
    for asked in evidence.history.asked:
        if asked.kind in PUBLISHED:
            by_id[asked.id].append(asked)
    refused = {letter.id for letter in evidence.letters if letter.topic == evidence.naming.intake}
    refused |= {letter.id for letter in evidence.letters if letter.topic == evidence.naming.hold}
    for id, asks in by_id.items():
        answers = {asked.answered for asked in asks}
        here = id in evidence.by_id
        where = f"{asks[0].kind} {id} for {asks[0].job}"
        if "ok" in answers and not here:
            yield Violation("C1", where, "was accepted and is not in the log")
        elif answers == {"failed"} and here:
            yield Violation("C1", where, "failed, yet it is in the log")
        elif here and settled and any(asked.kind == "submit" for asked in asks):
            if asks[0].job not in jobs and id not in refused:
                yield Violation("C1", where, "is in the log, but neither a job nor refused")


def _ends(evidence: Evidence, found: list[Life], *, settled: bool) -> Iterator[Violation]:
    told = done_events(evidence)
    known = set()
    for life in found:
        last = life.last
        for epoch in range(1, last.epoch + 1):
            known.add((life.scope, life.number, epoch))
            done = told.get((life.scope, life.number, epoch), [])
            yield from _end(life, epoch, done)
            if epoch < last.epoch and life.end_of(epoch) is None:
                yield Violation("C1", f"{life.scope} epoch {epoch}", "was left without an end")
        if life.purge is not None:
            yield from _purged(evidence, life, life.purge)
        elif settled and not last.ended and not is_held(evidence, life.scope):
            yield Violation("C1", life.scope, f"never ended: it stands at {last.status}")
    for (scope, number, epoch), done in told.items():
        if (scope, number, epoch) not in known:
            yield Violation("C1", done[0].where, f"tells the end of {scope}, which nobody knows")


def _purged(evidence: Evidence, life: Life, purge: Version) -> Iterator[Violation]:
    """Nobody forgets a job before its retention is over."""
    last = life.last
    if not last.ended:
        yield Violation("C1", life.scope, "was purged before it had ended")
        return
    plan = evidence.plans.get(last.plan)
    early = last.completed + (plan.retention_ms if plan is not None else 0) - purge.timestamp
    if early > evidence.history.skew:
        yield Violation("C1", life.scope, f"was purged {early} ms before its retention is over")


def _end(life: Life, epoch: int, done: list[Message]) -> Iterator[Violation]:
    end = life.end_of(epoch)
    where = f"{life.scope} epoch {epoch}"
    if end is None:
        if done:
            yield Violation("C1", where, "is told as done and has not ended")
    elif not done:
        yield Violation("C1", where, "has ended and nobody was told")
    elif done[0].transaction != end.transaction:
        yield Violation("C7", where, "ended in one transaction and was told as done in another")
    elif status_in(done[0]) != public_status(end):
        yield Violation("C1", where, f"ended {public_status(end)}, told as {status_in(done[0])}")


def _followed(evidence: Evidence, step: Step) -> Iterator[Violation]:
    """What has to stand beside each row of a transaction."""
    if step.writer is None or not step.versions:
        return
    events = {(m.type, m.scope, m.part, m.via) for m in step.messages}
    rows = {(v.scope, v.part) for v in step.versions}
    buried = {(letter.job, letter.stage) for letter in step.letters}
    for version in step.versions:
        row = version.row
        if isinstance(row, JobRow):
            yield from _began(evidence, step, version, row, rows)
            continue
        if not isinstance(row, Row) or "~" in version.part or version.part.startswith("@"):
            continue
        if row.status == "FAILED" and (row.root or version.scope, version.part) not in buried:
            yield Violation("C1", version.where, "failed without a dead letter")
        if step.writer != "agent":
            continue
        scope, part = version.scope, version.part
        if row.status == "FAILED" and (DEAD, scope, part, part) not in events:
            yield Violation("C1", version.where, "failed, and its input was not kept")
        if row.status == "RETRYING" and (RETRY, scope, part, part) not in events:
            yield Violation("C1", version.where, "is to be tried again, and nothing brings it back")
        yield from _went_on(evidence, version, row, events, rows)


def _went_on(
    evidence: Evidence,
    version: Version,
    row: Row,
    events: set[tuple[str, str, str, str]],
    rows: set[tuple[str, str]],
) -> Iterator[Violation]:
    plan = evidence.plans.get(row.plan)
    if plan is None or version.part not in plan.by_path:
        return
    scope = version.scope
    for to in row.taken:
        entry = plan.entries.get(to)
        if entry == "fold":
            there = (scope, to) in rows
        else:
            kind = INPUT if entry == "topic" else ARRIVE
            there = (kind, scope, to, version.part) in events
        if not there:
            yield Violation("C1", version.where, f"goes on to {to}, which is not told")


def _began(
    evidence: Evidence, step: Step, version: Version, row: JobRow, rows: set[tuple[str, str]]
) -> Iterator[Violation]:
    """The first version of a job comes with its snapshot and its first parts."""
    if row.status != "RUNNING" or row.n or row.epoch != 1:
        return
    if (version.scope, "@input") not in rows:
        yield Violation("C7", version.where, "began without its snapshot")
    plan = evidence.plans.get(row.plan)
    sent = {m.part for m in step.messages if m.scope == version.scope}
    for root in plan.roots if plan is not None else ():
        if root not in sent and (version.scope, root) not in rows:
            yield Violation("C1", version.where, f"began without {root}")


def _unfinished(evidence: Evidence) -> Iterator[Violation]:
    """Inputs that nobody has finished, although there was time."""
    naming = evidence.naming
    for place, inputs in evidence.inputs.items():
        if place.topic == naming.done:
            continue
        if place.topic in (naming.intake, naming.hold):
            groups = {naming.keeper_group}
        else:
            pools = {
                part.pool
                for m in inputs
                if (part := evidence.part(m.digest, m.part)) is not None
            }  # fmt: skip
            groups = {naming.pool_group(pool) for pool in pools or {"default"}}
        for group in sorted(groups):
            for message in evidence.unfinished(group, place):
                part = evidence.part(message.digest, message.part)
                if part is None or len(groups) == 1 or naming.pool_group(part.pool) == group:
                    yield Violation("C1", message.where, f"was never finished by {group}")
