"""Dead letters: what ended in failure, with its original bytes, its cause and its origin.

A letter that belongs to a job is settled through the job: a retry of the job redrives it, a
`discard` ends it. One that never became a job (a broken submission) is published again as it was,
with the header `streams-redrive`, or set aside by a shared fact of the pipeline. In both ways the
log itself says what became of a letter, and nothing has to be marked in the dead topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from streams.broker.port import Header, Log, Record
from streams.engine import rows as ledger_rows
from streams.inspection.pipelines import PipelineInfo
from streams.inspection.scan import newest, scan

PREFIX = "streams-dlq-"
REDRIVE = "streams-redrive"
DISCARDED = "dlq-discarded-"
"""Shared facts with this prefix set letters without a job aside."""

State = Literal["open", "redriven", "discarded"]


class DeadLetter(msgspec.Struct, frozen=True):
    """One record of a dead topic, its cause read from the headers."""

    id: str
    """`partition-offset` in the dead topic."""
    pipeline: str
    at: int
    state: State
    reason: str
    stage: str
    job: str
    epoch: int
    error: str
    attempts: int
    first_failed_at: int | None
    topic: str
    partition: int | None
    offset: int | None
    redriven: int
    """How often it was put back."""
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    """As they were, without those that tell the cause."""
    omitted: str = ""
    """What of the original did not fit, and stands only where it stood (`topic`, `offset`)."""

    def fits(self, cause: str | None) -> bool:
        """Whether this is its reason, or its error begins so."""
        return cause is None or cause == self.reason or self.error.startswith(cause)


async def read_dead_letters(log: Log, info: PipelineInfo) -> list[DeadLetter]:
    """All letters still kept, newest first."""
    records = [r async for r in scan(log, info.places(info.naming.dead))]
    if not records:
        return []
    letters = [letter_of(info.name, record) for record in records]
    heads = await _job_heads(log, info, {letter.job for letter in letters if letter.job})
    again = await _put_back(log, info)
    settled = [_settled(letter, info, heads, again) for letter in letters]
    return sorted(settled, key=lambda letter: (letter.at, letter.id), reverse=True)


def letter_of(pipeline: str, record: Record) -> DeadLetter:
    """What the record itself says; whatever is missing or broken in its headers is left empty."""
    told = {
        name.removeprefix(PREFIX): (value or b"").decode("utf-8", "replace")
        for name, value in record.headers
        if name.startswith(PREFIX)
    }
    return DeadLetter(
        id=f"{record.partition}-{record.offset}",
        pipeline=pipeline,
        at=record.timestamp,
        state="open",
        reason=told.get("reason", ""),
        stage=told.get("stage", ""),
        job=told.get("job", ""),
        epoch=_number(told.get("epoch")) or 1,
        error=told.get("error", ""),
        attempts=_number(told.get("attempts")) or 0,
        first_failed_at=_number(told.get("first-failed-at")),
        topic=told.get("topic", ""),
        partition=_number(told.get("partition")),
        offset=_number(told.get("offset")),
        redriven=0,
        key=record.key,
        value=record.value,
        headers=tuple(h for h in record.headers if not h[0].startswith(PREFIX)),
        omitted=told.get("omitted", ""),
    )


def by_job(letters: Iterable[DeadLetter]) -> dict[str, list[DeadLetter]]:
    """Letters that a retry of their job redrives: one retry serves all of a job's."""
    jobs: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        if has_job(letter):
            jobs.setdefault(letter.job, []).append(letter)
    return jobs


def has_job(letter: DeadLetter) -> bool:
    """Whether a stage of a job failed, as against an event that nobody could take in."""
    return bool(letter.job and letter.stage)


async def _job_heads(log: Log, info: PipelineInfo, jobs: set[str]) -> dict[str, dict[str, Any]]:
    """Job → its `@job` row and the parts whose failed event is still kept."""
    heads: dict[str, dict[str, Any]] = {job: {"row": None, "kept": set()} for job in jobs}
    for key, value in (await newest(log, info.places(info.naming.ledger))).items():
        address = ledger_rows.Address.of(key)
        if address.scope not in heads or not ledger_rows.is_row(value):
            continue
        if address.part == "@job":
            heads[address.scope]["row"] = ledger_rows.decode_job(value)
        elif address.part.endswith("~dead"):
            heads[address.scope]["kept"].add(address.part.partition("~")[0])
    return heads


async def _put_back(log: Log, info: PipelineInfo) -> dict[str, int]:
    """Letter id → how often the intake has it again."""
    counts: dict[str, int] = {}
    async for record in scan(log, info.places(info.naming.intake)):
        for name, value in record.headers:
            if name == REDRIVE and value:
                letter = value.decode("utf-8", "replace")
                counts[letter] = counts.get(letter, 0) + 1
    return counts


def _settled(
    letter: DeadLetter,
    info: PipelineInfo,
    heads: Mapping[str, Mapping[str, Any]],
    again: Mapping[str, int],
) -> DeadLetter:
    state: State = "open"
    count = again.get(letter.id, 0)
    if has_job(letter):
        row = heads[letter.job]["row"]
        if row is not None and row.epoch > letter.epoch:
            state, count = "redriven", row.epoch - letter.epoch
        elif row is None or (row.ended and letter.stage not in heads[letter.job]["kept"]):
            state = "discarded"
    elif count:
        state = "redriven"
    elif f"{DISCARDED}{letter.id}" in info.facts:
        state = "discarded"
    return msgspec.structs.replace(letter, state=state, redriven=count)


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None
