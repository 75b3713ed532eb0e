"""Rows about the way between workers and their broker: 8, 9, 10, 11."""

from __future__ import annotations

from random import Random

from streams.testing.chaos.context import Context, finished, under_load
from streams.testing.chaos.faults import NAMES, Cut, Fault, Together
from streams.testing.chaos.proxy import Direction, Point, Proxy
from streams.testing.chaos.transactions import renewed_after
from streams.testing.chaos.trial import Trial
from streams.testing.chaos.verdict import Verdict

HELD = 15.0
"""Seconds that the end of a transaction is held: longer than its commit may take (12 s)."""
HANG = 40.0
WATCHDOG = 30.0
CUTS = (5.0, 30.0, 120.0)
SIDES: tuple[tuple[Direction, ...], ...] = ((), ("to broker",), ("to worker",))


class LateEnd:
    """The request that ends a transaction, or its answer, arrives when nobody waits any more."""

    def __init__(self, proxy: Proxy, worker: str, point: Point) -> None:
        self.proxy = proxy
        self.worker = worker
        self.point = point
        self.at = 0
        """Wall clock (ms) at which it was held."""

    @property
    def name(self) -> str:
        return f"EndTxn of {self.worker} held {self.point}"

    async def happen(self, trial: Trial) -> float:
        moment = trial.clock.monotonic()

        def hold(_: object) -> float:
            self.at = trial.clock.now()
            return HELD

        trap = self.proxy.trap(self.worker, self.point, hold)
        await trap.sprung.wait()
        moment = trial.clock.monotonic()
        await trial.clock.sleep(HELD)
        return moment


async def late_end(context: Context, verdict: Verdict) -> None:
    """Row 10: of one worker the request, of the other one the answer, at the same time."""
    proxy = _proxy(context)
    points: tuple[Point, ...] = ("in commit", "after commit")
    held: list[LateEnd] = []
    faults: list[Fault] = []
    for _ in range(context.repeats):
        workers = context.chance.sample(NAMES[:2], 2)
        pair = [LateEnd(proxy, *each) for each in zip(workers, points, strict=True)]
        held += pair
        faults.append(Together(*pair))
    renewed = 0

    def audit(made: Trial, fault: Fault, _: Verdict) -> None:
        nonlocal renewed
        assert isinstance(fault, Together)
        for each in fault.faults:
            assert isinstance(each, LateEnd)
            renewed += renewed_after(made.capture.records, each.worker, each.at)

    await under_load(context, verdict, faults, most=HELD + 15.0, patience=60.0, after_each=audit)
    verdict.repeats = len(held)
    verdict.demand(
        renewed == len(held), f"{len(held) - renewed} producers of {len(held)} were used again"
    )
    verdict.figures["producers thrown away"] = f"{renewed} of {len(held)}"


async def cut(context: Context, verdict: Verdict) -> None:
    """Row 8."""
    proxy = _proxy(context)
    for seconds in [each for each in CUTS if each <= context.seconds]:
        faults = [
            Cut(proxy, seconds, *SIDES[n % len(SIDES)]) for n in range(max(1, context.repeats))
        ]
        await under_load(context, verdict, faults, most=11.0, patience=60.0)


async def weather(context: Context, verdict: Verdict) -> None:
    """Row 9."""
    proxy = _proxy(context)
    async with context.trial() as made:
        await made.start()
        made.feed()
        made.supervise()
        await made.warm()
        base = made.base_rate()
        proxy.latency, proxy.resets = _slow, 0.0001
        began = context.clock.monotonic()
        try:
            await context.clock.sleep(context.seconds)
        finally:
            proxy.latency, proxy.resets = None, 0.0
        ended = context.clock.monotonic()
        rate = made.rates().count(began + 5, ended) / max(1.0, ended - began - 5)
        verdict.repeats += 1
        made.heal()
        await finished(context, made, verdict, patience=120.0)
        verdict.demand(rate >= 0.3 * base, f"{rate:.0f} rows/s, with a base of {base:.0f}")
        verdict.demand(not made.site.exits, f"ended by themselves: {made.site.exits}")
        verdict.figures |= {
            "rate": f"{100 * rate / max(base, 1):.0f} % of base",
            "resets": str(proxy.reset_count),
        }


class Hang:
    """The coordinator's answer to one request never comes."""

    def __init__(self, proxy: Proxy, worker: str, point: Point) -> None:
        self.proxy = proxy
        self.worker = worker
        self.point = point
        self.seconds: float | None = None
        """Until the worker said that its client is stuck, or in doubt; None if it never did."""

    @property
    def name(self) -> str:
        return f"{self.worker} hangs {self.point}"

    async def happen(self, trial: Trial) -> float:
        before = len(_complaints(trial, self.worker))
        trap = self.proxy.trap(self.worker, self.point, lambda _: HANG)
        await trap.sprung.wait()
        moment = trial.clock.monotonic()
        while trial.clock.monotonic() - moment < HANG:
            if len(_complaints(trial, self.worker)) > before:
                self.seconds = trial.clock.monotonic() - moment
                break
            await trial.clock.sleep(0.2)
        return moment


def _complaints(trial: Trial, worker: str) -> list[dict[str, object]]:
    return [
        line
        for line in trial.site.lines(worker)
        if line.get("event")
        in ("commit.unknown", "commit.fenced", "member.restarts", "worker.failed")
    ]


async def hang(context: Context, verdict: Verdict) -> None:
    """Row 11."""
    proxy = _proxy(context)
    points: tuple[Point, ...] = ("after offsets", "after commit")
    faults = [
        Hang(proxy, context.chance.choice(NAMES[:2]), points[n % 2])
        for n in range(context.repeats * 2)
    ]
    await under_load(context, verdict, faults, most=HANG + 15.0, patience=70.0)
    for fault in faults:
        seconds = fault.seconds
        verdict.demand(
            seconds is not None and seconds <= WATCHDOG * context.slack,
            f"{fault.name}: noticed after {seconds} s",
        )
    noticed = [fault.seconds for fault in faults if fault.seconds is not None]
    verdict.figures["noticed in"] = f"{max(noticed, default=0.0):.1f} s at most"


def _slow(chance: Random) -> float:
    return chance.uniform(0.1, 0.3)


def _proxy(context: Context) -> Proxy:
    proxy = context.own.proxy
    assert proxy is not None
    return proxy
