"""What a row is given to run with, and the way most rows go: load, faults, verdict."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec

from streams.clock import Clock, SystemClock
from streams.testing.chaos.faults import Fault
from streams.testing.chaos.ground import Ground
from streams.testing.chaos.judging import Judged
from streams.testing.chaos.load import BASE
from streams.testing.chaos.trial import LIVE, RATE, Trial, trial
from streams.testing.chaos.verdict import Verdict

BETWEEN = 1.0
"""Seconds of ordinary load between two faults."""


class Context(msgspec.Struct):
    """Where a row runs, and how much of it."""

    folder: Path
    bootstrap: str
    direct: str
    repeats: int
    ground: Ground | None = None
    """The broker, where it is the trial's own."""
    options: Mapping[str, str | int | float | bool] = {}
    """Of the client library, for a cluster that needs some."""
    rate: float = RATE
    seconds: float = 60.0
    """For rows that are measured in time."""
    slack: float = 1.0
    """By how much a busy machine may exceed the figures."""
    clock: Clock = SystemClock()
    chance: Random = msgspec.field(default_factory=lambda: Random(7))
    say: Callable[[str], None] = print

    @asynccontextmanager
    async def trial(self, topology: str = BASE, rate: float | None = None) -> AsyncIterator[Trial]:
        """A pipeline in a namespace of its own; nothing of it stays on a cluster of others."""
        run = f"chaos-{self.clock.new_id()[:8]}"
        async with trial(
            self.folder / run,
            self.bootstrap,
            run,
            topology=topology,
            direct=self.direct,
            rate=self.rate if rate is None else rate,
            options=self.options,
            tidy=self.ground is None,
        ) as made:
            yield made

    @property
    def own(self) -> Ground:
        """The broker of this run; rows that need one are not run elsewhere."""
        assert self.ground is not None
        return self.ground


async def under_load(
    context: Context,
    verdict: Verdict,
    faults: Sequence[Fault],
    *,
    most: float,
    patience: float = 40.0,
    after_each: Callable[[Trial, Fault, Verdict], None] | None = None,
) -> Judged:
    """Every fault once, one after another, under the base load; then what came of it all."""
    async with context.trial() as made:
        await made.start()
        made.feed()
        made.supervise()
        await made.warm()
        # Once, for the rate that is asked for stays the same; after a fault comes a rush.
        base = made.base_rate()
        for fault in faults:
            moment = await fault.happen(made)
            made.heal()
            took = await made.recovered(moment, base, patience * context.slack)
            verdict.recovered(took, most * context.slack)
            verdict.repeats += 1
            told = "not recovered" if took is None else f"{took:.1f} s"
            context.say(f"row {verdict.row}: {fault.name}: {told}")
            if after_each is not None:
                after_each(made, fault, verdict)
            await context.clock.sleep(BETWEEN)
        return await finished(context, made, verdict)


async def finished(
    context: Context, made: Trial, verdict: Verdict, *, patience: float = LIVE
) -> Judged:
    """The load ends, everything has its time to end, the checker has its say."""
    await made.end_load()
    settled = await made.settle(patience * context.slack)
    verdict.demand(
        settled,
        f"C15 {len(made.unended())} jobs have not ended {patience:g} s after the last fault",
    )
    judged = await made.judged(settled=settled)
    verdict.violations += judged.violations
    verdict.figures |= {
        "jobs": str(len(made.driver.jobs)),
        "records": str(len(judged.history.records)),
        "transactions": str(len(judged.history.transactions)),
    }
    if made.site.exits:
        verdict.figures["ended by themselves"] = str(len(made.site.exits))
    if verdict.violations:
        (made.site.folder / "violations.txt").write_text("\n".join(verdict.violations))
    return judged
