"""Row 40: everything at once, for hours."""

from __future__ import annotations

import asyncio

from streams.testing.chaos.context import Context, finished
from streams.testing.chaos.faults import NAMES, BrokerRestart, Cut, Fault, Freeze, Kill, Stop
from streams.testing.chaos.memory import Memory
from streams.testing.chaos.verdict import Verdict

SOONEST, LATEST = 60.0, 180.0
"""Seconds between two faults; less where the whole soak is short."""
CUT = 20.0
"""Seconds for which the way to the broker is cut."""
MOST_JOBS = 50_000
"""The whole history is judged in memory, so a long soak has a lower rate."""
LONG_ENOUGH = 3600.0
"""Seconds from which on the slope of memory is more than noise, ..."""
GROWTH = 1.0
"""... and MiB an hour that agents may grow. A keeper grows with the jobs that it keeps."""


async def soak(context: Context, verdict: Verdict) -> None:
    """A fault every minute or three; the history is judged whole at the end."""
    rate = min(context.rate, MOST_JOBS / context.seconds)
    async with context.trial(rate=rate) as made:
        await made.start()
        made.supervise()
        made.feed()
        await made.warm()
        memory = Memory(made.site, context.clock)
        watching = asyncio.create_task(memory.watch(), name="chaos.memory")
        until = context.clock.monotonic() + context.seconds
        try:
            while True:
                pause = min(context.chance.uniform(SOONEST, LATEST), context.seconds / 8)
                await context.clock.sleep(min(pause, until - context.clock.monotonic()))
                if context.clock.monotonic() >= until:
                    break
                fault = _drawn(context)
                context.say(f"row {verdict.row}: {fault.name}")
                await fault.happen(made)
                verdict.repeats += 1
        finally:
            watching.cancel()
        made.heal()
        await finished(context, made, verdict, patience=120.0)
        _judge_memory(context, memory, verdict)
        verdict.figures["minutes"] = f"{context.seconds / 60:.0f}"


def _judge_memory(context: Context, memory: Memory, verdict: Verdict) -> None:
    for name in memory.names():
        growth = memory.slope(name)
        if growth is None:
            continue
        verdict.figures[f"memory of {name}"] = (
            f"{memory.typical(name):.0f} MiB, {growth:+.1f} MiB an hour"
        )
        if context.seconds >= LONG_ENOUGH and name.startswith("agents"):
            verdict.demand(growth <= GROWTH, f"C16 {name} grows by {growth:.1f} MiB an hour")


def _drawn(context: Context) -> Fault:
    worker = context.chance.choice(NAMES)
    kinds: list[Fault] = [Kill(worker), Stop(worker), Freeze(worker)]
    if context.ground is not None:
        kinds.append(BrokerRestart(context.ground, orderly=context.chance.random() < 0.5))
        if context.ground.proxy is not None:
            kinds.append(Cut(context.ground.proxy, CUT))
    return context.chance.choice(kinds)
