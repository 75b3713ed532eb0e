"""Faults as small objects: each happens to a trial, and says from when on it is to recover."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Protocol

from streams.testing.chaos.ground import Ground
from streams.testing.chaos.proxy import POINTS, Direction, Point, Proxy
from streams.testing.chaos.site import TEAM
from streams.testing.chaos.trial import Trial

SESSION = 6.0
"""Seconds after which a member that says nothing is taken for dead."""
DOWN = 1.0
"""Seconds after which a supervisor starts a dead worker again."""
COMING = 10.0
"""Seconds within which a worker under load comes to any point."""
ENDING = 6.0
"""Seconds within which a zombie that ends by itself has ended; one that comes back in order may
stay."""
NAMES = tuple(duty.name for duty in TEAM)


class Fault(Protocol):
    """Something that goes wrong, and is over when `happen` returns."""

    @property
    def name(self) -> str: ...

    async def happen(self, trial: Trial) -> float:
        """The moment from which the recovery counts."""


class Kill:
    """kill -9; a supervisor starts them again, and the recovery counts from the death or from then."""

    def __init__(self, *workers: str, down: float = DOWN, from_start: bool = False) -> None:
        self.workers = workers
        self.down = down
        self.from_start = from_start

    @property
    def name(self) -> str:
        return f"kill -9 {', '.join(self.workers)}"

    async def happen(self, trial: Trial) -> float:
        moment = trial.clock.monotonic()
        for worker in self.workers:
            trial.site.kill(worker)
        await trial.clock.sleep(self.down)
        for worker in self.workers:
            trial.site.restart(worker)
        return trial.clock.monotonic() if self.from_start else moment


class KillAt:
    """kill -9 in the midst of a transaction, or of a rebalance; the request may arrive or not."""

    def __init__(self, proxy: Proxy, worker: str, point: Point, *, arrives: bool) -> None:
        self.proxy = proxy
        self.worker = worker
        self.point = point
        self.arrives = arrives

    @property
    def name(self) -> str:
        return f"kill -9 {self.worker} {self.point}"

    async def happen(self, trial: Trial) -> float:
        def die(_: object) -> float | None:
            trial.site.kill(self.worker)
            return 0.0 if self.arrives else None

        trap = self.proxy.trap(self.worker, self.point, die)
        if self.point == "in rebalance":
            # Whoever joins makes all others join again.
            await Stop(_other(self.worker)).happen(trial)
        try:
            async with asyncio.timeout(COMING):
                await trap.sprung.wait()
        except TimeoutError:
            self.proxy.forget(trap)
            return await Kill(self.worker).happen(trial)
        moment = trial.clock.monotonic()
        await trial.clock.sleep(DOWN)
        trial.site.restart(self.worker)
        return moment


class Stop:
    """SIGTERM, and a fresh start."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.code: int | None = None
        self.seconds = 0.0

    @property
    def name(self) -> str:
        return f"SIGTERM {self.worker}"

    async def happen(self, trial: Trial) -> float:
        moment = trial.clock.monotonic()
        self.code, self.seconds = await trial.site.stop(self.worker)
        trial.site.restart(self.worker)
        return moment


class Freeze:
    """SIGSTOP for longer than the session lasts, then SIGCONT: a zombie that knows nothing."""

    def __init__(
        self,
        worker: str,
        seconds: float = 3 * SESSION,
        proxy: Proxy | None = None,
        point: Point | None = None,
    ) -> None:
        self.worker = worker
        self.seconds = seconds
        self.proxy = proxy
        self.point = point
        self.frozen = 0
        """Wall clock (ms) at which it was stopped, ..."""
        self.thawed = 0
        """... and let go on."""
        self.exited_in: float | None = None
        """Seconds after that until it ended; None if it did not in time."""

    @property
    def name(self) -> str:
        return f"SIGSTOP {self.worker} {self.point or ''}".rstrip()

    async def happen(self, trial: Trial) -> float:
        await self._stop(trial)
        moment, self.frozen = trial.clock.monotonic(), trial.clock.now()
        await trial.clock.sleep(self.seconds)
        self.thawed = trial.clock.now()
        pid = trial.site.pid(self.worker)
        trial.site.thaw(self.worker)
        thawed = trial.clock.monotonic()
        while trial.clock.monotonic() - thawed < ENDING:
            if self.worker not in trial.site.alive or trial.site.pid(self.worker) != pid:
                self.exited_in = trial.clock.monotonic() - thawed
                break
            await trial.clock.sleep(0.02)
        return moment

    async def _stop(self, trial: Trial) -> None:
        if self.proxy is None or self.point is None:
            trial.site.freeze(self.worker)
            return

        def stand_still(_: object) -> float:
            trial.site.freeze(self.worker)
            return 0.0

        trap = self.proxy.trap(self.worker, self.point, stand_still)
        try:
            async with asyncio.timeout(COMING):
                await trap.sprung.wait()
        except TimeoutError:
            self.proxy.forget(trap)
            trial.site.freeze(self.worker)


class BrokerRestart:
    """The broker ends, in order or by kill -9, and is started again; counted from its port on."""

    def __init__(self, ground: Ground, *, orderly: bool, node: int | None = None) -> None:
        self.ground = ground
        self.orderly = orderly
        self.node = node

    @property
    def name(self) -> str:
        return "clean restart" if self.orderly else "kill -9 of the broker"

    async def happen(self, trial: Trial) -> float:
        if self.orderly:
            await self.ground.end()
        else:
            self.ground.kill(self.node)
            await trial.clock.sleep(DOWN)
        await self.ground.back()
        return trial.clock.monotonic()


class Together:
    """Several faults at the same time; counted from the last of their moments."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults

    @property
    def name(self) -> str:
        return "; ".join(fault.name for fault in self.faults)

    async def happen(self, trial: Trial) -> float:
        return max(await asyncio.gather(*(fault.happen(trial) for fault in self.faults)))


class Cut:
    """Nothing gets through between workers and the broker for a while; counted from its end."""

    def __init__(self, proxy: Proxy, seconds: float, *directions: Direction) -> None:
        self.proxy = proxy
        self.seconds = seconds
        self.directions = directions

    @property
    def name(self) -> str:
        return f"cut for {self.seconds:g} s {' and '.join(self.directions) or 'both ways'}"

    async def happen(self, trial: Trial) -> float:
        self.proxy.cut(*self.directions)
        await trial.clock.sleep(self.seconds)
        self.proxy.join()
        return trial.clock.monotonic()


def kills(repeats: int, chance: Random, proxy: Proxy | None) -> Sequence[Fault]:
    """Random deaths, and those at each named point where there is a proxy to see them."""
    found: list[Fault] = [Kill(chance.choice(NAMES)) for _ in range(repeats)]
    if proxy is not None:
        found += [
            KillAt(proxy, chance.choice(NAMES[:2]), point, arrives=chance.random() < 0.5)
            for point in POINTS
        ]
    return found


def _other(worker: str) -> str:
    return next(name for name in NAMES if name != worker)
