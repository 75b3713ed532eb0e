"""Reading what a log holds now: from the start, or an offset, up to the watermarks of the call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping

from streams.broker.port import Log, Reader, Record, TopicPartition, Watermarks
from streams.engine import rows as ledger_rows


async def scan(
    log: Log,
    places: Collection[TopicPartition],
    starts: Mapping[TopicPartition, int] | None = None,
) -> AsyncIterator[Record]:
    """Every record that is visible at the call, in the order of each partition."""
    marks = await log.watermarks(places)
    begin = {p: max(mark.low, (starts or {}).get(p, 0)) for p, mark in marks.items()}
    left = {place for place, mark in marks.items() if begin[place] < mark.high}
    if not left:
        return
    reader = log.reader()
    # In the order of the places, not of a set: what is read is the same in every process.
    reader.assign({place: begin[place] for place in marks if place in left})
    try:
        while left:
            for record in await reader.poll(1000, 0.25):
                if record.offset < marks[record.place].high:
                    yield record
            left = {place for place in left if reader.position(place) < marks[place].high}
    finally:
        await reader.close()


async def newest(log: Log, places: Collection[TopicPartition]) -> dict[bytes, bytes]:
    """The newest value of each key: what a compacted topic means."""
    table: dict[bytes, bytes] = {}
    async for record in scan(log, places):
        if record.key is None:
            continue
        if record.value is None:
            table.pop(record.key, None)
        else:
            table[record.key] = record.value
    return table


def fold(rows: dict[str, bytes], part: str, value: bytes | None) -> bool:
    """Takes a row over unless it is older than the one there; says whether it was news."""
    if value is None:
        return rows.pop(part, None) is not None
    if not ledger_rows.is_row(value):
        return False
    there = rows.get(part)
    if there is not None and ledger_rows.head(value).order < ledger_rows.head(there).order:
        return False
    rows[part] = value
    return True


def caught_up(reader: Reader, marks: Mapping[TopicPartition, Watermarks]) -> bool:
    """Whether everything below these watermarks was given."""
    return all(reader.position(place) >= mark.high for place, mark in marks.items())
