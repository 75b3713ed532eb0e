"""Rows about topics that others change: 27 (partitions are added), 38 (no place for dead letters)."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable

from streams.broker.kafka_meddling import Meddler
from streams.inspection.deadletters import DeadLetter
from streams.testing.chaos.context import Context, finished
from streams.testing.chaos.judging import Judged
from streams.testing.chaos.letters import letters
from streams.testing.chaos.load import POISONED, SHOPPING, job
from streams.testing.chaos.site import TEAM
from streams.testing.chaos.stages import CLOSED
from streams.testing.chaos.trial import LIVE, Trial
from streams.testing.chaos.verdict import Verdict

ADDED = "K086"
GONE = "K087"
WIDER = 6
SEEN = 60.0
"""Seconds within which every process says that partitions were added."""
STOPS = 30.0
"""Seconds within which every process ends whose topic for dead letters is gone."""
UNWRITABLE = 20.0
"""Seconds for which nothing can be written to it: longer than a transaction may take."""
TOO_LITTLE = "100"
"""Bytes that records may have: more than the marker of a transaction, less than any letter."""
POISON = 5
REDRIVEN = 1_000
SHORT = 30.0
"""Seconds of a run that is no nightly one: a tenth of the letters are enough for it."""
AFTERWARDS = 3.0
"""Seconds in which what is put back a third time would be done again."""
BY = "the trial"


async def widened(context: Context, verdict: Verdict) -> None:
    """Row 27: every topic of the pipeline gets two partitions more, under load."""
    seen = []
    for _ in range(context.repeats):
        async with context.trial() as made:
            await made.start()
            made.supervise()
            made.feed()
            await made.warm(2.0)
            began = context.clock.monotonic()
            await Meddler(context.direct, context.options).widen(_laid_out(made), WIDER)
            told = await _all_told(made, ADDED, SEEN * context.slack)
            verdict.demand(told, f"not everybody saw it within {SEEN:g} s")
            seen.append(context.clock.monotonic() - began)
            # Submissions and facts go by the new number of partitions from now on.
            made.send_anew()
            await context.clock.sleep(2 * AFTERWARDS)
            made.heal()
            judged = await finished(context, made, verdict)
            _nothing_beside(made, judged, verdict)
            verdict.demand(not made.site.exits, f"ended by themselves: {made.site.exits}")
            verdict.repeats += 1
    verdict.figures["seen by all in"] = f"{max(seen):.1f} s"


def _laid_out(made: Trial) -> list[str]:
    """The pipeline's topics that have as many partitions as its layout says."""
    topics = {place.topic for place in made.capture.followed}
    width = made.capture.width(made.naming.ledger)
    return sorted(name for name in topics if made.capture.width(name) == width)


async def _all_told(made: Trial, code: str, patience: float) -> bool:
    """Whether every process says this in time."""

    def all_said() -> bool:
        lines = (made.site.lines(duty.name) for duty in TEAM)
        return all(any(line.get("code") == code for line in each) for each in lines)

    return await _until(made, patience, all_said) is not None


def _nothing_beside(made: Trial, judged: Judged, verdict: Verdict) -> None:
    """No row of a job stands in two partitions, none in one that was added."""
    naming, where = made.naming, defaultdict[bytes, set[int]](set)
    for record in judged.history.records:
        if record.place.topic == naming.ledger and record.key is not None:
            where[record.key].add(record.place.partition)
    torn = [key for key, partitions in where.items() if len(partitions) > 1]
    verdict.demand(not torn, f"{len(torn)} rows stand in two partitions: {torn[:3]}")
    width = made.capture.width(naming.ledger)
    beside = [key for key, partitions in where.items() if max(partitions) >= width]
    verdict.demand(not beside, f"{len(beside)} rows stand in added partitions: {beside[:3]}")
    came = Counter(
        record.place.partition >= width
        for record in judged.history.records
        if record.place.topic == naming.intake
    )
    verdict.figures["taken in from added partitions"] = str(came[True])


async def unburied(context: Context, verdict: Verdict) -> None:
    """Row 38: the topic for dead letters takes nothing, then it is gone; letters are put back."""
    for _ in range(context.repeats):
        await _unwritable(context, verdict)
        await _missing(context, verdict)
        await _redriven(context, verdict)
        verdict.repeats += 1


async def _unwritable(context: Context, verdict: Verdict) -> None:
    """Whoever fails waits, with all that came after it; in the end there is one letter each."""
    async with context.trial(POISONED, rate=10.0) as made:
        await made.start()
        made.supervise()
        topic = made.naming.dead
        meddler = Meddler(context.direct, context.options)
        await meddler.set(topic, max_message_bytes=TOO_LITTLE)
        jobs = [job(n, made.run, "raise" if n % 4 == 1 else "") for n in range(4 * POISON)]
        poison = {each.id for each in jobs if each.harm}
        for each in jobs:
            made.driver.submit(each)
        await made.driver.all_said()
        await context.clock.sleep(UNWRITABLE)
        early = poison & set(made.statuses())
        verdict.demand(not early, f"{len(early)} ended as failed without a letter")
        await meddler.set(topic, max_message_bytes=None)
        made.heal()
        judged = await finished(context, made, verdict)
        told = Counter(each.job for each in letters(judged.history))
        verdict.demand(
            told == Counter(poison), f"C10 {len(poison)} jobs failed, letters: {dict(told)}"
        )


async def _missing(context: Context, verdict: Verdict) -> None:
    """Its loss ends every process, with its name; nobody makes it anew."""
    async with context.trial(rate=10.0) as made:
        await made.start()
        made.feed()
        await made.warm(0.0)
        topic = made.naming.dead
        await made.log.delete_topics([topic])
        took = await _until(made, STOPS * context.slack, lambda: not made.site.alive)
        verdict.demand(took is not None, f"these went on without it: {made.site.alive}")
        silent = [
            duty.name
            for duty in TEAM
            if not any(
                line.get("code") == GONE and topic in str(line.get("error"))
                for line in made.site.lines(duty.name)
            )
        ]
        verdict.demand(not silent, f"these did not name it: {silent}")
        verdict.demand(topic not in await made.log.topics(), "somebody made it anew")
        if took is not None:
            verdict.figures["stopped without it in"] = f"{took:.1f} s"


async def _redriven(context: Context, verdict: Verdict) -> None:
    """All letters are put back by two people at once, and by one of them again: done once each."""
    count = REDRIVEN if context.seconds > SHORT else REDRIVEN // 10
    async with context.trial(SHOPPING, rate=100.0) as made:
        closed = made.site.folder / CLOSED
        closed.touch()
        await made.start()
        made.supervise()
        for number in range(count):
            made.driver.submit(made.job(number))
        await made.end_load()
        verdict.demand(await made.settle(LIVE * context.slack), "not all of them failed")
        closed.unlink()
        info = await made.driver.find_pipeline()
        found = await made.client.dead_letters(info.name)
        verdict.demand(len(found) == count, f"{len(found)} letters of {count} failed jobs")

        async def put_back(some: list[DeadLetter]) -> None:
            await made.client.redrive(info, some, by=BY)

        await asyncio.gather(put_back(found), put_back(found[::-1]))
        await _until(made, LIVE * context.slack, lambda: _succeeded(made) == count)
        await put_back(found)
        await context.clock.sleep(AFTERWARDS)
        verdict.demand(_succeeded(made) == count, f"{_succeeded(made)} of {count} succeeded")
        made.heal()
        judged = await made.judged()
        verdict.violations += judged.violations
        done = _done(judged)
        often = [name for name, times in done.items() if times > 1]
        verdict.demand(not often, f"{len(often)} were done more than once: {often[:3]}")
        verdict.demand(len(done) == count, f"{len(done)} of {count} were done")
        verdict.figures["letters put back three times"] = str(count)


def _succeeded(made: Trial) -> int:
    return sum(status == "SUCCESS" for status in made.statuses().values())


def _done(judged: Judged) -> Counter[str]:
    """Job → how often the stage that failed at first handed it on."""
    history = judged.history
    topic = history.naming.stage("notify")
    return Counter(
        (record.key or b"").decode()
        for record in history.records
        if record.place.topic == topic
        and history.transactions[record.transaction].outcome == "committed"
    )


async def _until(made: Trial, patience: float, holds: Callable[[], object]) -> float | None:
    """Seconds until it holds; None if it does not within `patience`."""
    began = made.clock.monotonic()
    while not holds():
        if made.clock.monotonic() - began > patience:
            return None
        await made.clock.sleep(0.2)
    return made.clock.monotonic() - began
