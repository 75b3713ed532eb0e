"""Rows about workers that die, leave or stand still: 1, 2, 3, 4."""

from __future__ import annotations

from streams.testing.chaos.context import Context, finished, under_load
from streams.testing.chaos.faults import NAMES, Fault, Freeze, Kill, Stop, kills
from streams.testing.chaos.proxy import POINTS
from streams.testing.chaos.trial import Trial
from streams.testing.chaos.verdict import Verdict, percentile

AWAY = 60.0
"""Seconds for which all workers are dead in row 4."""


async def killed(context: Context, verdict: Verdict) -> None:
    """Row 1."""
    proxy = context.ground.proxy if context.ground is not None else None
    await under_load(
        context, verdict, kills(context.repeats, context.chance, proxy), most=20.0, patience=45.0
    )
    if verdict.recoveries:
        late = percentile(verdict.recoveries, 95)
        verdict.demand(late <= 15.0 * context.slack, f"recovery p95 is {late:.1f} s, more than 15")


async def terminated(context: Context, verdict: Verdict) -> None:
    """Row 2."""
    seconds: list[float] = []

    def left(_: Trial, fault: Fault, verdict: Verdict) -> None:
        assert isinstance(fault, Stop)
        seconds.append(fault.seconds)
        verdict.demand(fault.code == 0, f"{fault.name}: exit code {fault.code}")
        verdict.demand(
            fault.seconds <= 10.0 * context.slack, f"{fault.name}: it took {fault.seconds:.1f} s"
        )

    stops = [Stop(context.chance.choice(NAMES)) for _ in range(context.repeats)]
    await under_load(context, verdict, stops, most=20.0, after_each=left)
    if seconds:
        verdict.figures["ended in"] = f"{percentile(seconds, 50):.1f} / {max(seconds):.1f} s"


async def frozen(context: Context, verdict: Verdict) -> None:
    """Row 3."""
    proxy = context.ground.proxy if context.ground is not None else None
    points = list(POINTS) if proxy is not None else [None]
    freezes = [
        Freeze(context.chance.choice(NAMES[:2]), proxy=proxy, point=points[n % len(points)])
        for n in range(context.repeats)
    ]
    silences: list[float] = []

    def thawed(made: Trial, fault: Fault, _: Verdict) -> None:
        assert isinstance(fault, Freeze)
        now = made.clock.monotonic()
        silences.append(made.rates().longest_silence(now - fault.seconds - 12, now))

    judged = await under_load(context, verdict, freezes, most=20.0, after_each=thawed)
    late = 0
    for fault in freezes:
        for seen in judged.history.transactions.values():
            of_zombie = seen.producer.endswith(f".{fault.worker}")
            if of_zombie and seen.outcome == "committed":
                late += seen.began <= fault.frozen and seen.ended >= fault.thawed
    verdict.figures["zombie commits"] = str(late)
    verdict.demand(not late, f"{late} transactions of zombies were committed")
    exits = [fault.exited_in for fault in freezes if fault.exited_in is not None]
    verdict.figures["zombies exited"] = f"{len(exits)} of {len(freezes)}"
    verdict.demand(
        all(s <= 5.0 * context.slack for s in exits), f"a zombie took {max(exits, default=0):.1f} s"
    )
    if silences:
        verdict.figures["longest silence"] = f"{max(silences):.1f} s"
        verdict.demand(
            max(silences) <= 12.0 * context.slack, f"readers saw nothing for {max(silences):.1f} s"
        )


async def all_killed(context: Context, verdict: Verdict) -> None:
    """Row 4."""
    away = min(AWAY, context.seconds)
    faults = [Kill(*NAMES, down=away, from_start=True) for _ in range(context.repeats)]
    await under_load(context, verdict, faults, most=20.0)


SHIFTS = {"agents-1": 3600, "agents-2": -3600, "keeper": 86_400}
"""Seconds by which these workers' clocks are wrong."""
SHIFT = """import os, time
_ms = int(os.environ["CHAOS_SHIFT"]) * 1_000_000_000
_ns, _s = time.time_ns, time.time
time.time_ns = lambda: _ns() + _ms
time.time = lambda: _s() + _ms / 1e9
"""
"""Python reads this file before anything else, so the worker's own clock is wrong from the start."""


async def wrong_clocks(context: Context, verdict: Verdict) -> None:
    """Row 18: an hour ahead, an hour behind, a day ahead; a deadline knows only the log's time."""
    async with context.trial() as made:
        hook = made.site.folder / "clock"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(SHIFT)
        for name, seconds in SHIFTS.items():
            made.site.around[name] = {
                "PYTHONPATH": made.site.python_path(hook),
                "CHAOS_SHIFT": str(seconds),
            }
        await made.start()
        made.supervise()
        made.feed()
        await made.warm(10.0)
        verdict.repeats += 1
        made.heal()
        await finished(context, made, verdict)
        alarmed = [name for name in SHIFTS if made.site.said(name, "clock.skewed")]
        # Agents decide nothing by the clock; the keeper, who does, has to say it.
        verdict.demand("keeper" in alarmed, f"only {alarmed} noticed that their clocks are wrong")
        verdict.figures["said so"] = ", ".join(alarmed)
