"""Row 40: everything at once, for hours."""

from __future__ import annotations

from pathlib import Path

from streams.testing.chaos.context import Context, finished
from streams.testing.chaos.faults import NAMES, BrokerRestart, Fault, Freeze, Kill, Stop
from streams.testing.chaos.trial import Trial
from streams.testing.chaos.verdict import Verdict

SOONEST, LATEST = 60.0, 180.0
"""Seconds between two faults; less where the whole soak is short."""


async def soak(context: Context, verdict: Verdict) -> None:
    """A fault every minute or three; the history is judged whole at the end."""
    async with context.trial() as made:
        await made.start()
        made.supervise()
        made.feed()
        await made.warm()
        until = context.clock.monotonic() + context.seconds
        sizes: list[tuple[float, int]] = []
        while context.clock.monotonic() < until:
            pause = context.chance.uniform(SOONEST, LATEST)
            await context.clock.sleep(min(pause, context.seconds / 8))
            sizes.append((context.clock.monotonic(), _memory(made)))
            fault = _drawn(context)
            context.say(f"row {verdict.row}: {fault.name}")
            await fault.happen(made)
            verdict.repeats += 1
        made.heal()
        await finished(context, made, verdict, patience=120.0)
        if sizes:
            first, last = sizes[0][1], sizes[-1][1]
            verdict.figures["memory of the workers"] = f"{first >> 20} MiB, then {last >> 20} MiB"
        verdict.figures["minutes"] = f"{context.seconds / 60:.0f}"


def _drawn(context: Context) -> Fault:
    worker = context.chance.choice(NAMES)
    kinds: list[Fault] = [Kill(worker), Stop(worker), Freeze(worker)]
    if context.ground is not None:
        kinds.append(BrokerRestart(context.ground, orderly=context.chance.random() < 0.5))
    return context.chance.choice(kinds)


def _memory(made: Trial) -> int:
    """Resident bytes of all workers together."""
    total = 0
    for name in made.site.alive:
        status = Path(f"/proc/{made.site.pid(name)}/statm")
        if status.exists():
            total += int(status.read_text().split()[1]) * 4096
    return total
