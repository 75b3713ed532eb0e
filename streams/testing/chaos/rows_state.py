"""Rows about what is kept: 26 (it is gone from the log), 31 (deadlines), 36 (odd ledgers)."""

from __future__ import annotations

import contextlib
from pathlib import Path

from streams.broker.port import Outgoing, TopicPartition, TopicSpec, Transaction
from streams.engine.rows import Row
from streams.errors import LogError
from streams.event_rules import milliseconds
from streams.inspection.recovery import apply, recoveries
from streams.testing.chaos.context import Context, finished
from streams.testing.chaos.judging import SKEW, Judged
from streams.testing.chaos.load import HELD
from streams.testing.chaos.site import SECOND_KEEPER, TEAM
from streams.testing.chaos.trial import Trial
from streams.testing.chaos.verdict import Verdict
from streams.testing.checker.decoding import version
from streams.testing.history import Moved

TRIMMED = "K015"
FORGOTTEN = "K096"
HELD_JOBS = 100
WAIT = 20.0
"""Seconds that the gate of row 31 waits."""
LATE = 2.0
RESTORED = 5.0
COMPACTING = 3.0
COMPACTED_AT_ONCE = {
    "segment.ms": "300",
    "min.cleanable.dirty.ratio": "0.0",
    "max.compaction.lag.ms": "300",
    "delete.retention.ms": "0",
}
AGENTS, _, KEEPER = TEAM


async def deadlines(context: Context, verdict: Verdict) -> None:
    """Row 31: the keeper dies at half of the wait and near its end, partitions move in between."""
    lateness: list[float] = []
    for _ in range(context.repeats):
        async with context.trial(HELD, rate=50.0) as made:
            await made.start()
            for number in range(HELD_JOBS):
                made.driver.submit(made.job(number))
            await made.driver.all_said()
            began = context.clock.monotonic()
            await context.clock.sleep(WAIT * 0.5)
            made.site.kill(KEEPER.name)
            made.site.restart(KEEPER.name)
            made.site.start(SECOND_KEEPER)
            made.supervise()
            await context.clock.sleep(began + WAIT * 0.8 - context.clock.monotonic())
            made.site.kill(KEEPER.name)
            died = context.clock.now()
            made.site.restart(KEEPER.name)
            made.heal()
            judged = await finished(context, made, verdict)
            lateness += _lateness(made, judged, died)
            verdict.repeats += 1
    early = [each for each in lateness if each * 1000 < -SKEW]
    verdict.demand(len(lateness) == HELD_JOBS * context.repeats, f"{len(lateness)} gates ended")
    verdict.demand(not early, f"{len(early)} deadlines came early")
    late = max(lateness, default=0.0)
    verdict.demand(late <= LATE * context.slack, f"a deadline came {late:.1f} s late")
    verdict.figures |= {"deadlines": str(len(lateness)), "latest": f"{late:.2f} s"}
    verdict.figures["earliest"] = f"{min(lateness, default=0.0) * 1000:.0f} ms"


def _lateness(made: Trial, judged: Judged, died: int) -> list[float]:
    """Seconds by which each gate's end came after its deadline, or after its partition had an
    owner again where that was later."""
    ready = died
    for name in (KEEPER.name, SECOND_KEEPER.name):
        for line in made.site.said(name, "ledger.restored"):
            ready = max(ready, milliseconds(str(line["time"])))
    due: dict[str, int] = {}
    found = []
    for number, record in enumerate(judged.history.records):
        if record.place.topic != made.naming.ledger or record.value is None:
            continue
        row = version(number, record, None)
        if not isinstance(row.row, Row) or not row.part.startswith("late"):
            continue
        if row.row.wait is not None and row.row.wait.due is not None:
            due[row.scope] = row.row.wait.due
        elif row.row.phase == 2 and row.scope in due:
            promised = due[row.scope]
            early = record.timestamp < promised
            counted = promised if early else max(promised, ready)
            found.append((record.timestamp - counted) / 1000)
    return found


async def offsets_lost(context: Context, verdict: Verdict) -> None:
    """Row 26: both ways in which a group can lose where it stood."""
    await offsets_trimmed(context, verdict)
    await offsets_deleted(context, verdict)


async def offsets_trimmed(context: Context, verdict: Verdict) -> None:
    """Its first half: retention passes a committed offset."""
    for _ in range(context.repeats):
        await _trimmed(context, verdict)
        verdict.repeats += 1


async def offsets_deleted(context: Context, verdict: Verdict) -> None:
    """Its second half: a group's offsets are deleted."""
    for _ in range(context.repeats):
        await _forgotten(context, verdict)
        verdict.repeats += 1


async def _trimmed(context: Context, verdict: Verdict) -> None:
    """What nobody has read is deleted: the partition stops, and says both offsets."""
    async with context.trial() as made:
        stage = made.naming.stage("fetch")
        place = await _with_backlog(context, made, stage)
        high = (await made.log.watermarks([place]))[place].high
        stood = (await made.log.positions(made.naming.pool_group("default")))[place].offset
        await made.log.trim({place: high})
        made.site.restart(AGENTS.name)
        said = await _complaint(context, made)
        verdict.demand(said, f"nothing was said of {place.partition}'s lost offset {stood}")
        text = " ".join(said)
        verdict.demand(
            not said or (str(stood) in text and str(high) in text),
            f"the complaint does not name {stood} and {high}: {text[:300]}",
        )
        now = (await made.log.positions(made.naming.pool_group("default")))[place].offset
        verdict.demand(now == stood, f"the offset moved from {stood} to {now} in silence")
        judged = await made.judged(settled=False)
        verdict.violations += judged.violations


async def _forgotten(context: Context, verdict: Verdict) -> None:
    """A group that stood somewhere stands nowhere: nothing is skipped, nothing is done twice."""
    async with context.trial() as made:
        await _with_backlog(context, made, made.naming.stage("fetch"))
        group = made.naming.pool_group("default")
        await _no_members(context, made, group)
        stood = await made.log.positions(group)
        await made.log.delete_groups([group])
        made.site.restart(AGENTS.name)
        said = await _complaint(context, made, FORGOTTEN)
        verdict.demand(said, f"nothing was said of {group}'s lost positions")
        now = await made.log.positions(group)
        verdict.demand(not now, f"{group} began again at {now}")
        await made.site.stop(AGENTS.name)
        await _recovered(context, made, group)
        for duty in TEAM[:2]:
            made.site.restart(duty.name)
        made.heal()
        await finished(context, made, verdict)
        verdict.figures["deleted offsets"] = f"halts; recovered {len(stood)} positions"


async def _recovered(context: Context, made: Trial, group: str) -> None:
    """What `streams recover --apply` does."""
    await _no_members(context, made, group)
    await apply(made.log, await recoveries(made.log, made.naming, made.clock.now()))
    positions = await made.log.positions(group)
    made.moved.append(Moved(at=made.clock.now(), group=group, positions=positions))


async def _with_backlog(context: Context, made: Trial, stage: str) -> TopicPartition:
    """No agents run; a partition of the stage has events that they have not finished."""
    await made.start()
    made.feed()
    await made.warm(1.0)
    for duty in TEAM[:2]:
        await made.site.stop(duty.name)
    before = await _highs(made, stage)
    await context.clock.sleep(2.0)
    await made.end_load()
    await context.clock.sleep(1.0)
    after = await _highs(made, stage)
    return max(after, key=lambda place: after[place] - before[place])


async def _no_members(context: Context, made: Trial, group: str) -> None:
    """The seats of those who left are free."""
    until = context.clock.monotonic() + 15.0
    while await made.log.members(group) and context.clock.monotonic() < until:
        await context.clock.sleep(0.2)


async def _highs(made: Trial, topic: str) -> dict[TopicPartition, int]:
    width = (await made.log.widths([topic]))[topic]
    places = [TopicPartition(topic, number) for number in range(width)]
    return {place: mark.high for place, mark in (await made.log.watermarks(places)).items()}


async def _complaint(context: Context, made: Trial, code: str = TRIMMED) -> list[str]:
    """What the agents say of an offset that is not there any more, if they do so soon."""
    until = context.clock.monotonic() + 15.0
    while context.clock.monotonic() < until:
        found = [str(line.get("error")) for line in made.site.lines(AGENTS.name)
                 if line.get("code") == code]  # fmt: skip
        if found:
            return found
        await context.clock.sleep(0.2)
    return []


async def odd_ledgers(context: Context, verdict: Verdict) -> None:
    """Row 36: partitions that are empty, of markers only, compacted away, and of one record."""
    slowest = 0.0
    for _ in range(context.repeats):
        async with context.trial() as made:
            await made.watch()
            await made.log.create_topics(
                [TopicSpec(made.naming.ledger, 4, "compact", config=COMPACTED_AT_ONCE)]
            )
            await made.start()
            await made.site.stop(KEEPER.name)
            await _make_odd(context, made)
            made.site.restart(KEEPER.name)
            made.feed()
            await made.warm(1.0)
            made.heal()
            await finished(context, made, verdict)
            lines = made.site.said(KEEPER.name, "ledger.restored")
            seconds = [float(str(line.get("seconds"))) for line in lines]
            partitions = {line.get("partition") for line in lines}
            verdict.demand(partitions == {0, 1, 2, 3}, f"restored only {partitions}")
            slowest = max([slowest, *seconds])
            verdict.repeats += 1
    verdict.demand(slowest <= RESTORED * context.slack, f"a recovery took {slowest:.1f} s")
    verdict.figures["slowest recovery"] = f"{slowest:.2f} s"


async def _make_odd(context: Context, made: Trial) -> None:
    """Partition 0 stays empty, 1 has what was aborted, 2 what is compacted away, 3 one record."""
    ledger = made.naming.ledger
    producer = await made.log.producer(f"{made.naming.prefix}.odd")
    too_large = Outgoing(ledger, b"large|x", b"\0" * (2 << 20), (), 1)
    for number in range(3):
        with contextlib.suppress(LogError):  # what was written before it is aborted
            await producer.commit(
                Transaction([Outgoing(ledger, b"never|x", None, (), 1), too_large])
            )
        gone = [Outgoing(ledger, f"gone{each}|x".encode(), None, (), 2) for each in range(number)]
        await producer.commit(Transaction([*gone, Outgoing(ledger, b"gone|x", None, (), 2)]))
    one = Outgoing(ledger, b"one|@fact/x", None, (), 3)
    await producer.commit(Transaction([one]))
    await producer.close()
    await context.clock.sleep(COMPACTING)


async def broken_copies(context: Context, verdict: Verdict) -> None:
    """Row 35: local copies of the ledger that are cut off, bit-flipped, or another partition's."""
    async with context.trial() as made:
        await made.start()
        made.supervise()
        made.feed()
        await made.warm(2.0)
        for harm in (_cut_off, _flipped, _swapped):
            await made.site.stop(KEEPER.name)
            folder = made.site.folder / "state" / "snapshots"
            copies = sorted(path for path in folder.rglob("*") if path.is_file())
            verdict.demand(copies, "no copy was kept to be broken")
            harm(copies)
            made.site.restart(KEEPER.name)
            await context.clock.sleep(4.0)
            verdict.repeats += 1
        made.heal()
        await finished(context, made, verdict)
        verdict.figures["copies broken"] = str(verdict.repeats)


def _cut_off(copies: list[Path]) -> None:
    for path in copies:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])


def _flipped(copies: list[Path]) -> None:
    for path in copies:
        data = bytearray(path.read_bytes())
        for at in range(len(data) // 3, len(data), max(1, len(data) // 3)):
            data[at] ^= 0x10
        path.write_bytes(bytes(data))


def _swapped(copies: list[Path]) -> None:
    contents = [path.read_bytes() for path in copies]
    for path, data in zip(copies, contents[1:] + contents[:1], strict=True):
        path.write_bytes(data)
