"""C7: a transaction's records, rows and offsets are all there or none is; offsets only move on.

An agent's step is judged exactly: each row that ends a turn belongs to a delivery which the step's
own offsets finish, and each finished delivery has its row or a reason to have none. Of a keeper's
step the inputs from outside are, and that it holds the hold topic of every state it writes (R1).
"""

from __future__ import annotations

from collections.abc import Iterator

from streams.broker.port import TopicPartition
from streams.engine.messages import ARRIVE, INPUT, RETRY, SIGNAL, cause_of
from streams.engine.rows import JobRow, Row
from streams.errors import LogError
from streams.testing.checker.decoding import Message, Version
from streams.testing.checker.evidence import Evidence, Step
from streams.testing.checker.marks import mark_of
from streams.testing.history import Violation

Turn = tuple[str, str, int, int]
"""Scope, part, epoch, turn."""


def check(evidence: Evidence) -> Iterator[Violation]:
    yield from evidence.unreadable
    for step in evidence.steps:
        yield from _offsets(step)
        yield from _causes(evidence, step)
        if step.writer == "agent":
            yield from _agent_rows(evidence, step)
            yield from _agent_inputs(evidence, step)
        elif step.writer == "keeper":
            yield from _keeper_rows(evidence, step)
            yield from _keeper_inputs(evidence, step)


# -- offsets --------------------------------------------------------------------------------


def _offsets(step: Step) -> Iterator[Violation]:
    seen = step.seen
    writes = step.versions or step.messages or step.letters
    if step.writer is not None and not seen.offsets and writes:
        yield Violation("C7", step.where, "writes without the offset of any input")
    if seen.offsets and seen.membership is None:
        yield Violation("C7", step.where, "moves offsets without being a member")
    elif seen.membership and seen.generation and seen.membership.generation != seen.generation:
        what = f"is of generation {seen.membership.generation}, the group's is {seen.generation}"
        yield Violation("C7", step.where, what)
    for place, position in seen.offsets.items():
        where = f"{step.where}, {place.topic}/{place.partition}"
        stood = step.stood.get(place)
        if stood is None:
            continue
        try:
            said = mark_of(seen.before.get(place)) if place in seen.before else stood
            after = mark_of(position)
        except LogError as error:
            yield Violation("C7", where, error.message)
            continue
        if said != stood:
            yield Violation("C7", where, f"the group stood at {said}, committed was {stood}")
        if after.forgets(stood):
            yield Violation("C7", where, f"goes back from {stood} to {after}")


# -- events and the rows they follow from -------------------------------------------------------


def _causes(evidence: Evidence, step: Step) -> Iterator[Violation]:
    ended: dict[tuple[str, str, int], Row] = {}
    orders = set()
    for version in step.versions:
        if isinstance(version.row, Row):
            orders.add((version.scope, version.part, version.order))
            if version.row.phase == 2:
                ended[version.scope, version.part, version.row.epoch] = version.row
    for message in step.messages:
        if message.cause:
            part, order = cause_of(message.cause) or ("", None)
            if (message.scope, part, order) not in orders:
                what = f"{message.where} was written with row {message.cause}, which is not here"
                yield Violation("C7", step.where, what)
        if message.via and message.type in (INPUT, ARRIVE):
            row = ended.get((message.scope, message.via, message.epoch))
            if row is None:
                what = f"{message.where} comes from {message.via}, whose row is not here"
                yield Violation("C7", step.where, what)
            elif message.part not in row.taken:
                rule = "C8" if _is_gate(evidence, message) else "C7"
                what = f"{message.where} goes a way that {message.via} did not take"
                yield Violation(rule, step.where, what)


def _is_gate(evidence: Evidence, message: Message) -> bool:
    part = evidence.part(message.digest, message.via)
    return part is not None and part.gate is not None


# -- agents -------------------------------------------------------------------------------------


def _agent_rows(evidence: Evidence, step: Step) -> Iterator[Violation]:
    """Every row of an agent belongs to an input of its own transaction."""
    finished = {_turn(message) for message in step.finished}
    taken = {
        (version.scope, to)
        for version in step.versions
        if isinstance(version.row, Row) and version.row.phase == 2
        for to in version.row.taken
    }
    for version in step.versions:
        row = version.row
        if not isinstance(row, Row):
            continue
        plan = evidence.plans.get(row.plan)
        if plan is None or version.part not in plan.by_path:
            continue
        if plan.entries[version.part] == "fold":
            if (version.scope, version.part) not in taken:
                what = f"{version.where} was folded into a step that is not here"
                yield Violation("C7", step.where, what)
            continue
        place = TopicPartition(evidence.naming.stage(version.part), version.partition)
        if place not in step.seen.offsets:
            what = f"{version.where} without an offset of {place.topic}/{place.partition}"
            yield Violation("C7", step.where, what)
        elif row.phase == 2 and (version.scope, version.part, row.epoch, row.turn) not in finished:
            what = f"{version.where} ends a turn whose input is not finished here"
            yield Violation("C7", step.where, what)


def _agent_inputs(evidence: Evidence, step: Step) -> Iterator[Violation]:
    """Every input that an agent finishes has its row, or a reason to have none."""
    if not step.finished:
        return
    rows = {
        (version.scope, version.part, version.row.epoch, version.row.turn)
        for version in step.versions
        if isinstance(version.row, Row) and version.row.phase == 2
    }
    for message in step.finished:
        if _turn(message) in rows or _is_excused(evidence, step, message):
            continue
        yield Violation("C7", step.where, f"{message.where} is finished and its row is not here")


def _is_excused(evidence: Evidence, step: Step, message: Message) -> bool:
    if message.type != INPUT:
        return _is_buried(step, message)
    part = evidence.part(message.digest, message.part)
    return (
        (part is not None and evidence.naming.pool_group(part.pool) != step.group)
        or evidence.stopped(message.root, message.epoch, step.seen.ended)
        or any(m.type == RETRY and m.parent == message.id for m in step.messages)
        or _is_buried(step, message)
    )


def _is_buried(step: Step, message: Message) -> bool:
    return any(
        (message.id and letter.id == message.id)
        or (
            letter.topic == message.place.topic
            and letter.partition == str(message.place.partition)
            and letter.offset == str(message.offset)
        )
        for letter in step.letters
    )


def _turn(message: Message) -> Turn:
    return (message.scope, message.part, message.epoch, message.turn)


# -- keepers --------------------------------------------------------------------------------------


def _keeper_rows(evidence: Evidence, step: Step) -> Iterator[Violation]:
    """R1: who writes a row of state p commits where hold p stands."""
    hold = evidence.naming.hold
    for partition in sorted({version.partition for version in step.versions}):
        if TopicPartition(hold, partition) not in step.seen.offsets:
            what = f"writes rows of partition {partition} without the offset of {hold}/{partition}"
            yield Violation("C7", step.where, what)
    submitted = {m.scope for m in step.finished if m.type != SIGNAL and not m.epoch}
    for version in step.versions:
        row = version.row
        begins = isinstance(row, JobRow) and row.epoch == 1 and row.phase == 1 and not row.n
        if begins and version.scope not in submitted:
            what = f"{version.where} begins a job whose submission is not finished here"
            yield Violation("C7", step.where, what)


def _keeper_inputs(evidence: Evidence, step: Step) -> Iterator[Violation]:
    """What came from outside is answered in the step that finishes it."""
    outside = [m for m in step.finished if not m.epoch or m.type == SIGNAL]
    if not outside:
        return
    written: dict[str, list[Version]] = {}
    for version in step.versions:
        written.setdefault(version.scope, []).append(version)
    forwarded = {m.id for m in step.messages if m.place.topic == evidence.naming.hold}
    for message in outside:
        if message.id in forwarded or _is_buried(step, message):
            continue
        if not _is_answered(evidence, step, message, written):
            what = f"{message.where} is finished and nothing here answers it"
            yield Violation("C7", step.where, what)


def _is_answered(
    evidence: Evidence, step: Step, message: Message, written: dict[str, list[Version]]
) -> bool:
    if message.type == SIGNAL:
        if not message.scope:
            return bool(step.said)
        rows = written.get(message.scope, ())
        if any(v.part == "@job" or v.part.startswith("@early/") for v in rows):
            return True
    elif any(v.part == "@input" for v in written.get(message.scope, ())):
        return True
    return _was_known(evidence, message, step)


def _was_known(evidence: Evidence, message: Message, step: Step) -> bool:
    """Sent a second time: the job was there already, or had heard the signal."""
    last = max((version.number for version in step.versions), default=None)
    for version in evidence.by_scope.get(message.scope, ()):
        if last is not None and version.number > last:
            break
        if isinstance(version.row, JobRow):
            if message.type != SIGNAL or message.id in version.row.signals:
                return True
        elif version.part == f"@early/{message.id}":
            return True
    return False
