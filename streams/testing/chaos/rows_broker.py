"""Rows about brokers that end, are killed, or are out of reach for a while: 5, 6, 7, 17."""

from __future__ import annotations

from streams.testing.chaos.context import Context, under_load
from streams.testing.chaos.faults import DOWN, BrokerRestart, Fault
from streams.testing.chaos.ground import Ground
from streams.testing.chaos.roles import ROLES, Role, node_of
from streams.testing.chaos.trial import Trial
from streams.testing.chaos.verdict import Verdict

AWAY = 60.0
GIVING_UP = 30.0
"""Seconds within which a broker whose disk fails ends."""


async def broker_restarted(context: Context, verdict: Verdict) -> None:
    """Row 5: in order and by kill -9, in turn."""
    restarts = [
        BrokerRestart(context.own, orderly=orderly)
        for _ in range(context.repeats)
        for orderly in (True, False)
    ]
    await under_load(context, verdict, restarts, most=10.0)


class KillRole:
    """kill -9 of the node that has a role for the pipeline at that moment; then it comes back."""

    def __init__(self, ground: Ground, role: Role) -> None:
        self.ground = ground
        self.role = role

    @property
    def name(self) -> str:
        return f"kill -9 of the {self.role}"

    async def happen(self, trial: Trial) -> float:
        self.ground.kill(await node_of(self.role, self.ground, trial))
        await trial.clock.sleep(DOWN)
        await self.ground.back()
        return trial.clock.monotonic()


async def roles_killed(context: Context, verdict: Verdict) -> None:
    """Row 6: each of them, in turn."""
    kills = [KillRole(context.own, role) for _ in range(context.repeats) for role in ROLES]
    await under_load(context, verdict, kills, most=15.0, patience=60.0)


class TwoAway:
    """Two of three nodes are away for a while: nothing can be written, nothing may be claimed."""

    def __init__(self, ground: Ground, seconds: float, *, full: bool = False) -> None:
        self.ground = ground
        self.seconds = seconds
        self.full = full
        """Whether their disks are full, instead of a kill -9."""
        self.confirmed = 0
        """Submissions that were confirmed although nothing could be durable."""
        self.gave_up = True
        """Whether those with a full disk ended by themselves, instead of going on without it."""

    @property
    def name(self) -> str:
        how = "with full disks" if self.full else "dead"
        return f"two of three brokers {how} for {self.seconds:g} s"

    async def happen(self, trial: Trial) -> float:
        for node in (1, 2):
            if self.full:
                self.ground.fill_disk(node)
            else:
                self.ground.kill(node)
        if self.full:
            self.gave_up = await ended(self.ground, trial, 1, 2)
        # Whatever was on its way may still be answered.
        await trial.clock.sleep(2.0)
        since = trial.clock.now()
        await trial.clock.sleep(self.seconds)
        self.confirmed = sum(
            asked.at >= since and asked.answered == "ok" for asked in trial.driver.asked
        )
        await self.ground.back()
        return trial.clock.monotonic()


class OneFull:
    """The disk of the busiest leader is full; counted from the moment at which it has ended."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.gave_up = True

    @property
    def name(self) -> str:
        return "full disk of the busiest leader"

    async def happen(self, trial: Trial) -> float:
        node = await node_of("busiest leader", self.ground, trial)
        self.ground.fill_disk(node)
        self.gave_up = await ended(self.ground, trial, node)
        moment = trial.clock.monotonic()
        await self.ground.back()
        return moment


async def ended(ground: Ground, trial: Trial, *nodes: int) -> bool:
    """Whether these end by themselves; they have ended in any case."""
    until = trial.clock.monotonic() + GIVING_UP
    while ground.running() & set(nodes) and trial.clock.monotonic() < until:
        await trial.clock.sleep(0.1)
    late = ground.running() & set(nodes)
    for node in late:
        ground.kill(node)
    return not late


async def two_away(context: Context, verdict: Verdict) -> None:
    """Row 7."""
    faults = [TwoAway(context.own, min(AWAY, context.seconds)) for _ in range(context.repeats)]
    await under_load(context, verdict, faults, most=20.0, patience=90.0)
    _nothing_confirmed(verdict, faults)


async def disks_full(context: Context, verdict: Verdict) -> None:
    """Row 17: one of three, which the others make up for; then two, as in row 7."""
    seconds = min(AWAY, context.seconds)
    one = [OneFull(context.own) for _ in range(context.repeats)]
    two = [TwoAway(context.own, seconds, full=True) for _ in range(context.repeats)]
    faults: list[Fault] = [each for pair in zip(one, two, strict=True) for each in pair]
    await under_load(context, verdict, faults, most=20.0, patience=90.0)
    _nothing_confirmed(verdict, two)
    gave_up = sum(fault.gave_up for fault in one) + sum(fault.gave_up for fault in two)
    verdict.figures["brokers ended by themselves"] = f"{gave_up} of {len(faults)} times"


def _nothing_confirmed(verdict: Verdict, faults: list[TwoAway]) -> None:
    confirmed = sum(fault.confirmed for fault in faults)
    verdict.demand(not confirmed, f"{confirmed} submissions were confirmed by one broker alone")
