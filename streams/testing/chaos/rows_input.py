"""Rows about what comes in: 19 (it harms workers), 20 (it is broken), 23 (it comes twice)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from streams.broker.port import Outgoing
from streams.clock import Clock
from streams.engine.messages import SUBMIT, SubmitData
from streams.errors import LogError
from streams.event import Event
from streams.testing.chaos.context import Context, finished
from streams.testing.chaos.corpus import KINDS, malformed
from streams.testing.chaos.driver import SOURCE, submission
from streams.testing.chaos.judging import Judged
from streams.testing.chaos.letters import letters
from streams.testing.chaos.load import POISONED, Harm, Job, job
from streams.testing.chaos.trial import Trial
from streams.testing.chaos.verdict import Verdict

CONFLICT = "V040"
HARMS: tuple[Harm, ...] = ("raise", "exit", "segv", "memory", "loop")
ATTEMPTS = 3
DELAY = 30.0
"""Seconds by which neighbours of a poisonous event may be late."""
PER_REPEAT = 40
"""Broken records, or jobs, that one repeat is made of."""


async def broken_events(context: Context, verdict: Verdict) -> None:
    """Row 20: one in ten records of the intake, and some of a stage's topic."""
    async with context.trial() as made:
        await made.start()
        made.supervise()
        made.feed()
        sent: list[Outgoing] = []
        stage = made.naming.stage("fetch")
        run = context.clock.new_id()[:6]
        for number in range(context.repeats * PER_REPEAT):
            for topic in (made.naming.intake, *((stage,) if number < KINDS else ())):
                sent.append(malformed(topic, number, run))
                await _published(made, sent[-1])
            await context.clock.sleep(10 / made.rate)
        verdict.repeats = context.repeats
        made.heal()
        judged = await finished(context, made, verdict)
        _all_buried(judged, sent, verdict)
        _all_succeeded(made, verdict)
        verdict.figures["broken records"] = str(len(sent))


def _all_buried(judged: Judged, sent: list[Outgoing], verdict: Verdict) -> None:
    """C10: the dead letters are exactly the broken records, byte by byte."""
    told = list(letters(judged.history))
    buried = sorted((each.topic, each.key or b"", each.value or b"") for each in told)
    wanted = sorted((each.topic, each.key or b"", each.value or b"") for each in sent)
    verdict.demand(
        buried == wanted, f"C10 {len(wanted)} broken records, {len(buried)} dead letters"
    )
    for what, some, others in (("missing", wanted, buried), ("too many", buried, wanted)):
        for odd in (Counter(some) - Counter(others)).elements():
            verdict.fail(f"C10 a dead letter is {what}: {odd!r:.200}")
    by_place = {
        (record.place.topic, str(record.place.partition), str(record.offset)): record
        for record in judged.history.records
    }
    for each in told:
        record = by_place.get((each.topic, each.partition, each.offset))
        same = record is not None and (record.key, record.value) == (each.key, each.value)
        verdict.demand(same, f"C10 a letter from {each.topic}@{each.offset} is not that record")


async def sent_twice(context: Context, verdict: Verdict) -> None:
    """Row 23: one job in ten is sent again, one in a hundred with another body."""
    async with context.trial() as made:
        await made.start()
        made.supervise()
        conflicts: list[str] = []
        again: list[asyncio.Task[None]] = []

        async def repeat(each: Job, *, other: bool) -> None:
            await context.clock.sleep(context.chance.random())
            event = submission(each)
            if other:
                data = SubmitData({"token": each.token, "else": True})
                event = Event.make(id=each.token, source=SOURCE, type=SUBMIT, value=data)
                conflicts.append(each.id)
            await made.driver.send(event, each.id, "submit")

        def make(number: int) -> Job:
            each = made.job(number)
            if number % 100 == 50 or (number == 5 and context.repeats == 1):
                again.append(asyncio.create_task(repeat(each, other=True)))
            elif number % 10 == 0:
                again.append(asyncio.create_task(repeat(each, other=False)))
            return each

        made.feed(make)
        await context.clock.sleep(4.0 * context.repeats + 4.0)
        verdict.repeats = context.repeats
        made.heal()
        await asyncio.gather(*again)
        judged = await finished(context, made, verdict)
        refused = list(letters(judged.history))
        found = sorted(each.job or (each.key or b"").decode() for each in refused)
        wanted = sorted(conflicts)
        verdict.demand(found == wanted, f"C10 conflicts {wanted}, dead letters {found}")
        wrong = {each.reason for each in refused} - {CONFLICT}
        verdict.demand(not wrong, f"dead letters for other reasons: {sorted(wrong)}")
        _all_succeeded(made, verdict)
        verdict.figures |= {"sent again": str(len(again)), "conflicts": str(len(conflicts))}


async def poisoned(context: Context, verdict: Verdict) -> None:
    """Row 19: each harm in turn among good jobs."""
    async with context.trial(POISONED, rate=10.0) as made:
        await made.start()
        made.supervise()
        poison: dict[str, Harm] = {}

        def make(number: int) -> Job:
            due = number // 10
            harm: Harm = ""
            if number % 10 == 5 and due < len(HARMS) * context.repeats:
                harm = HARMS[due % len(HARMS)]
            made_job = job(number, made.run, harm)
            if harm:
                poison[made_job.id] = harm
            return made_job

        made.feed(make)
        await context.clock.sleep(len(HARMS) * context.repeats + 4.0)
        verdict.repeats = context.repeats
        made.heal()
        judged = await finished(context, made, verdict, patience=120.0)
        statuses = made.statuses()
        for name, harm in poison.items():
            ended = statuses.get(name, "not at all")
            verdict.demand(ended == "FAILED", f"{harm}: {name} ended {ended}")
        good = {each.id for each in made.driver.jobs} - poison.keys()
        bad = [each for each in good if statuses.get(each) != "SUCCESS"]
        verdict.demand(not bad, f"{len(bad)} neighbours did not succeed: {sorted(bad)[:5]}")
        told = {each.job for each in letters(judged.history)}
        verdict.demand(
            told == poison.keys(), f"C10 poison {sorted(poison)}, letters {sorted(told)}"
        )
        deadly = sum(harm == "segv" for harm in poison.values())
        deaths = len(made.site.exits)
        verdict.demand(
            deaths <= ATTEMPTS * deadly, f"{deaths} workers died of {deadly} deadly events"
        )
        delay = max(_delays(made, judged, good).values(), default=0.0)
        verdict.demand(delay <= DELAY * context.slack, f"a neighbour was {delay:.1f} s late")
        verdict.figures |= {"deaths": str(deaths), "slowest neighbour": f"{delay:.1f} s"}


def _delays(made: Trial, judged: Judged, jobs: set[str]) -> Mapping[str, float]:
    """Seconds from submission to end, by the log's own time."""
    intake, done = made.naming.intake, made.naming.done
    began: dict[str, int] = {}
    found: dict[str, float] = {}
    for record in judged.history.records:
        name = (record.key or b"").decode(errors="replace")
        if name not in jobs:
            continue
        if record.place.topic == intake:
            began.setdefault(name, record.timestamp)
        elif record.place.topic == done and name in began:
            found[name] = (record.timestamp - began[name]) / 1000
    return found


def _all_succeeded(made: Trial, verdict: Verdict) -> None:
    statuses = made.statuses()
    bad = [each.id for each in made.driver.jobs if statuses.get(each.id) != "SUCCESS"]
    verdict.demand(not bad, f"{len(bad)} good jobs did not succeed: {bad[:5]}")


async def _published(made: Trial, record: Outgoing) -> None:
    """It stands in the log, once."""
    clock: Clock = made.clock
    for _ in range(50):
        try:
            await made.log.publish([record])
        except LogError:
            await clock.sleep(0.2)
        else:
            return
    raise AssertionError("the log takes no records")
