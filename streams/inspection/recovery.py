"""Positions that were lost, and where their groups may go on.

A missing position, or one above all there is, is found out anew: what is finished is listed in its
metadata, as an agent would have. One below the low watermark keeps all that it said; what was
deleted unread is named. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import groupby

import msgspec

from streams.broker.port import Committed, Log, Record, TopicPartition
from streams.codec.registry import RegistryAway
from streams.engine import intake
from streams.engine.frontier import Frontier, parse
from streams.errors import LogUnavailable, StreamsError
from streams.inspection.finished import Finished
from streams.inspection.scan import scan
from streams.inspection.standing import Stand, stands
from streams.runtime.outlook import read_control
from streams.runtime.source_topics import readable
from streams.runtime.topics import DAY, INTAKE_RETENTION
from streams.topology.plan import Naming

TRACE = INTAKE_RETENTION - DAY
"""How long (ms) the end of a job is told for sure: a younger record of a source that left no trace
was not submitted."""

Run = tuple[int, int]
"""First and last offset of a run."""


class Recovery(msgspec.Struct, frozen=True):
    """One group in one partition, and what may be done about it."""

    stand: Stand
    proposed: Committed | None = None
    """Where it may go on; None where nothing was lost."""
    finished: int = 0
    """Records beyond that which are finished, and are not handled again."""
    again: int = 0
    """Finished records beyond what metadata can list: they would be handled again."""
    left: int = 0
    """Records that are still to be handled."""
    deleted: tuple[Run, ...] = ()
    """Offsets that are gone from the log and were not finished."""


async def recoveries(log: Log, naming: Naming, now: int, registry: str = "") -> list[Recovery]:
    """Every group of the pipeline in every partition that it reads. `now` is in ms, `registry` the
    address of the schemas of its sources."""
    table = await read_control(log, naming)
    if table.layout is None:
        return []
    found = await stands(log, naming, table)
    finished = Finished(naming, table, table.layout.partitions)
    if any(stand.state in ("missing", "above") for stand in found):
        await finished.learn(log)
    answers = []
    for stand in found:
        if not stand.is_lost:
            answers.append(Recovery(stand))
        elif stand.state == "below":
            answers.append(after_deletion(stand))
        elif stand.group == naming.source_group:
            answers.append(await _of_source(log, stand, finished, registry, now))
        else:
            answers.append(await _found_anew(log, naming, stand, finished))
    return answers


async def apply(log: Log, wanted: Iterable[Recovery]) -> None:
    """The groups stand where it was proposed. Raises `LogError` if one has members: those before it
    are set then, the others as they were."""
    by_group = groupby(
        sorted((each for each in wanted if each.proposed is not None), key=_group), _group
    )
    for group, theirs in by_group:
        positions = {r.stand.place: r.proposed for r in theirs if r.proposed is not None}
        await log.set_positions(group, positions)


def _group(recovery: Recovery) -> str:
    return recovery.stand.group


# -- below the low watermark ----------------------------------------------------------------------


def after_deletion(stand: Stand) -> Recovery:
    """The position moves to what is left; what its metadata says of that stays true."""
    assert stand.committed is not None
    low, at = stand.marks.low, stand.committed
    text = at.metadata or Frontier(at.offset).commit(clean=True)[1]
    _, _, _, high, ahead, unfinished = parse(at.offset, text)
    high = max(high, at.offset)
    open_ones = {*unfinished, *([at.offset] if at.offset < high else [])}
    runs = list(zip(ahead[::2], ahead[1::2], strict=True))
    gone = _without(runs, [(o, o) for o in sorted(open_ones) if o < low])
    gone += _without(runs, [(high, low - 1)] if high < low else [])
    frontier = Frontier(low)
    for offset in range(low, high):
        _take(frontier, offset, done=offset not in open_ones)
    for first, last in runs:
        for offset in range(max(first, low, frontier.high), last + 1):
            _take_ahead(frontier, offset, offset - 1)
    proposed = Committed(*frontier.commit(clean=True))
    early = sum(last + 1 - max(first, low) for first, last in runs if last >= low)
    open_here = sum(offset >= low for offset in open_ones)
    return Recovery(
        stand,
        proposed,
        finished=early + max(0, high - proposed.offset - open_here),
        left=stand.marks.high - max(low, high) - early + open_here,
        deleted=tuple(_merged(gone)),
    )


def _without(runs: Sequence[Run], gone: Iterable[Run]) -> list[Run]:
    """What of `gone` was not finished before its turn."""
    found = []
    for first, last in gone:
        begin = first
        for low, high in runs:
            if low > last or high < begin:
                continue
            if begin < low:
                found.append((begin, low - 1))
            begin = high + 1
        if begin <= last:
            found.append((begin, last))
    return found


def _merged(runs: Iterable[Run]) -> list[Run]:
    found: list[Run] = []
    for first, last in runs:
        if found and found[-1][1] + 1 == first:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


# -- missing --------------------------------------------------------------------------------------


async def _found_anew(log: Log, naming: Naming, stand: Stand, finished: Finished) -> Recovery:
    """The position that an agent, or the keeper, would have committed."""
    seen = [
        (
            record.offset,
            finished.of_keeper(record)
            if stand.group == naming.keeper_group
            else finished.of_stage(record, stand.group),
        )
        async for record in scan(log, [stand.place])
    ]
    return rebuilt(stand, seen)


def rebuilt(stand: Stand, seen: Sequence[tuple[int, bool]]) -> Recovery:
    """The position from what is known of each record: its offset, and whether it is finished."""
    frontier = Frontier(stand.marks.low)
    last = max((offset for offset, done in seen if done), default=-1)
    again, before, in_turn = 0, None, True
    for offset, done in seen:
        if offset > last:
            if frontier.offset == frontier.high:
                frontier.start(offset)  # The first that is left: the position is where it stands.
            break
        # What does not fit into the list of unfinished ones is said the other way round.
        in_turn = in_turn and not frontier.full
        if in_turn:
            _take(frontier, offset, done=done)
        elif done:
            again += not _take_ahead(frontier, offset, before)
        before = offset
    proposed = Committed(*frontier.commit(clean=True))
    done_beyond = sum(done for offset, done in seen if offset >= proposed.offset)
    left = sum(not done for _, done in seen)
    return Recovery(stand, proposed, finished=done_beyond - again, again=again, left=left + again)


def _take(frontier: Frontier, offset: int, *, done: bool) -> None:
    if frontier.start(offset) and done:
        frontier.finish(offset)


def _take_ahead(frontier: Frontier, offset: int, before: int | None) -> bool:
    taken = frontier.start_ahead(offset, before)
    if taken:
        frontier.finish(offset)
    return taken


# -- topics of others -----------------------------------------------------------------------------


async def _of_source(
    log: Log, stand: Stand, finished: Finished, registry: str, now: int
) -> Recovery:
    """A source is read in order, so its position is where the submitting ended: before the first
    record that would have left a trace, and after the last one that did."""
    begin = max(stand.begun or 0, stand.marks.low)
    position = begin
    count, whole = 0, True
    async for record, submitted in _submissions(log, stand.place, begin, finished, registry):
        whole = whole and (submitted is not False or record.timestamp < now - TRACE)
        count += 1
        if whole and submitted:
            position, count = record.offset + 1, 0
    return Recovery(stand, Committed(*Frontier(position).commit(clean=True)), left=count)


async def _submissions(
    log: Log,
    place: TopicPartition,
    begin: int,
    finished: Finished,
    registry: str,
) -> AsyncIterator[tuple[Record, bool | None]]:
    """Each record of a source with whether it was submitted; None for one that is passed over."""
    plans = finished.table.plans
    newest_first = sorted(plans, key=lambda digest: digest != finished.table.active)
    source = next(
        source
        for digest in newest_first
        for source in plans[digest].sources
        if source.topic == place.topic
    )
    jobs = finished.jobs
    reading = readable(source, registry)
    try:
        async for record in scan(log, [place], {place: begin}):
            try:
                event = await reading.event(record)
                if event is None:
                    yield record, None
                    continue
                job = intake.scope_of(event)
                yield record, jobs.knows(job) or job in jobs.submitted
            except (LogUnavailable, RegistryAway):
                raise
            except StreamsError:
                passed = source.on_error == "skip"
                yield record, None if passed else finished.is_letter(record)
    finally:
        await reading.close()
