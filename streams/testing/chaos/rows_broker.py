"""Rows about brokers that end, are killed, or are out of reach for a while: 5, 6, 7, 17."""

from __future__ import annotations

from streams.testing.chaos.context import Context, under_load
from streams.testing.chaos.faults import BrokerRestart
from streams.testing.chaos.ground import Ground
from streams.testing.chaos.trial import Trial
from streams.testing.chaos.verdict import Verdict

AWAY = 60.0
NODES = 3


async def broker_restarted(context: Context, verdict: Verdict) -> None:
    """Row 5: in order and by kill -9, in turn."""
    restarts = [
        BrokerRestart(context.own, orderly=orderly)
        for _ in range(context.repeats)
        for orderly in (True, False)
    ]
    await under_load(context, verdict, restarts, most=10.0)


async def nodes_killed(context: Context, verdict: Verdict) -> None:
    """Row 6: each node in turn, and with it whatever it leads and coordinates."""
    kills = [
        BrokerRestart(context.own, orderly=False, node=1 + n % NODES)
        for n in range(context.repeats * NODES)
    ]
    await under_load(context, verdict, kills, most=15.0, patience=60.0)


class TwoAway:
    """Two of three nodes are dead for a while: nothing can be written, nothing may be claimed."""

    def __init__(self, ground: Ground, seconds: float) -> None:
        self.ground = ground
        self.seconds = seconds
        self.confirmed = 0
        """Submissions that were confirmed although nothing could be durable."""

    @property
    def name(self) -> str:
        return f"two of three brokers dead for {self.seconds:g} s"

    async def happen(self, trial: Trial) -> float:
        for node in (1, 2):
            self.ground.kill(node)
        # Whatever was on its way may still be answered.
        await trial.clock.sleep(2.0)
        since = trial.clock.now()
        await trial.clock.sleep(self.seconds)
        self.confirmed = sum(
            asked.at >= since and asked.answered == "ok" for asked in trial.driver.asked
        )
        await self.ground.back()
        return trial.clock.monotonic()


async def two_away(context: Context, verdict: Verdict) -> None:
    """Row 7."""
    faults = [TwoAway(context.own, min(AWAY, context.seconds)) for _ in range(context.repeats)]
    await under_load(context, verdict, faults, most=20.0, patience=90.0)
    confirmed = sum(fault.confirmed for fault in faults)
    verdict.demand(not confirmed, f"{confirmed} submissions were confirmed by one broker alone")
