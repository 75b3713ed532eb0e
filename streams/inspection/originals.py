"""What a dead letter was before it became one, as it can be sent again."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Self

from streams.broker.port import Header, Log, Outgoing, Record, TopicPartition
from streams.codec import kafka
from streams.codec.foreign import Reading, job_of
from streams.codec.registry import RegistryAway
from streams.errors import EventError, NotFoundError, TopicError, UserError
from streams.inspection.deadletters import REDRIVE, DeadLetter
from streams.inspection.pipelines import PipelineInfo
from streams.runtime.source_topics import readable

EXPLANATIONS: dict[str, str] = {
    "C136": """\
**The original of a dead letter is not in the log any more.** It was too large to be copied into the
dead letters, which have its place, size and checksum; since then its topic has let go of it.

Next: have the sender send it again, and discard the letter.""",
    "C137": """\
**A record of a source still cannot be read,** so sending it again would make a dead letter again.
Nothing was sent.

Next: mend what the message says (the schema, the `id` of the source), apply, and redrive again.""",
}


class Originals:
    """Finds the originals of a pipeline's letters."""

    def __init__(self, log: Log, info: PipelineInfo, registry: str = "") -> None:
        self._log = log
        self._info = info
        self._registry = registry
        self._readings: dict[str, Reading] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for reading in self._readings.values():
            await reading.close()

    async def submission(self, letter: DeadLetter) -> Outgoing:
        """The record for the intake. One that came from a source is read as the source's records
        are; raises `UserError` if that still cannot be, or if the original is gone."""
        key, value, headers = letter.key, letter.value, letter.headers
        if letter.omitted:
            key, value, headers = await self._where_it_stood(letter)
        source = next((s for s in self._info.plan.sources if s.topic == letter.topic), None)
        if source is not None:
            reading = self._readings.get(source.topic)
            if reading is None:
                reading = self._readings[source.topic] = readable(source, self._registry)
            place = (letter.topic, letter.partition or 0, letter.offset or 0)
            record = Record(*place, letter.first_failed_at or 0, key, value, headers)
            key, value, headers = await _read(reading, record)
        again = (*headers, (REDRIVE, letter.id.encode()))
        return Outgoing(self._info.naming.intake, key, value, again)

    async def _where_it_stood(
        self, letter: DeadLetter
    ) -> tuple[bytes | None, bytes | None, tuple[Header, ...]]:
        if letter.partition is not None and letter.offset is not None:
            place = TopicPartition(letter.topic, letter.partition)
            with contextlib.suppress(TopicError):  # with its topic it is gone, too
                found = await self._record(place, letter.offset)
                if found is not None:
                    return found.key, found.value, found.headers
        raise NotFoundError(
            f"the original of dead letter {letter.id} is not at {letter.topic}/{letter.partition},"
            f" offset {letter.offset}, any more",
            code="C136",
            help="have it sent again, and discard the letter",
        )

    async def _record(self, place: TopicPartition, offset: int) -> Record | None:
        """The record at this offset, if it is still there."""
        mark = (await self._log.watermarks([place]))[place]
        if not mark.low <= offset < mark.high:
            return None
        reader = self._log.reader()
        reader.assign({place: offset})
        try:
            while reader.position(place) <= offset:
                for record in await reader.poll(1, 0.25):
                    return record if record.offset == offset else None
        finally:
            await reader.close()
        return None


async def _read(
    reading: Reading, record: Record
) -> tuple[bytes | None, bytes | None, tuple[Header, ...]]:
    try:
        event = await reading.event(record)
    except (EventError, RegistryAway) as error:
        raise UserError(
            f"{record.topic}/{record.partition} offset {record.offset} still cannot be read:"
            f" {error.message} ({error.code})",
            code="C137",
            help=error.help,
        ) from error
    if event is None:
        raise UserError(
            f"{record.topic}/{record.partition} offset {record.offset} is a deletion, which the"
            " source skips",
            code="C137",
            help="discard the letter",
        )
    value, headers = kafka.encode(event)
    return job_of(event).encode(), value, headers
