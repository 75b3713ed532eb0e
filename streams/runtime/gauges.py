"""Figures that are looked up when somebody asks: lag, gates, rows, what is in hand.

Nothing here is done per event. Lag costs questions to the log, so an answer holds for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from streams.broker.port import Log, Reader, TopicPartition
from streams.clock import Clock
from streams.engine.frontier import Frontier
from streams.errors import StreamsError
from streams.observe.metrics import Labels, Metrics
from streams.topology.plan import Plan

if TYPE_CHECKING:
    from streams.runtime.keeper import Keeper

LOOK_EVERY = 5.0
"""Seconds that an answer about lag holds."""
PATIENCE = 2.0
"""Seconds to ask the log for it; without an answer there is no figure, rather than a wrong one."""


class Lag(msgspec.Struct, frozen=True):
    """How far the owner of a partition is behind its end."""

    events: int
    seconds: float


class LagMeter:
    """Measures the lag of owned partitions, at most every few seconds."""

    def __init__(self, source: Log, clock: Clock) -> None:
        self._log = source
        self._clock = clock
        self._one = asyncio.Lock()
        self._known: dict[TopicPartition, Lag] = {}
        self._measured: float | None = None

    async def measure(
        self, owned: Mapping[TopicPartition, Frontier]
    ) -> Mapping[TopicPartition, Lag]:
        """Lag by partition; empty while the log cannot be asked."""
        async with self._one:
            now = self._clock.monotonic()
            if self._measured is None or now - self._measured >= LOOK_EVERY:
                self._measured = now
                try:
                    async with asyncio.timeout(PATIENCE):
                        self._known = await self._look(dict(owned))
                except (StreamsError, TimeoutError):
                    self._known = {}
            return self._known

    async def _look(self, owned: dict[TopicPartition, Frontier]) -> dict[TopicPartition, Lag]:
        marks = await self._log.watermarks(list(owned))
        reader = self._log.reader()
        try:
            return {
                place: await self._behind(reader, place, frontier, marks[place].high)
                for place, frontier in owned.items()
            }
        finally:
            await reader.close()

    async def _behind(
        self, reader: Reader, place: TopicPartition, frontier: Frontier, end: int
    ) -> Lag:
        events = frontier.in_hand + max(0, end - frontier.high)
        if not events:
            return Lag(0, 0.0)
        reader.assign({place: frontier.offset})
        records = await reader.poll(1, 0.0)
        if records:
            return Lag(events, max(0, self._clock.now() - records[0].timestamp) / 1000)
        # No event there: what lies before the end are marks of transactions.
        return Lag(0 if reader.position(place) >= end else events, 0.0)


def lag_figures(metrics: Metrics, lags: Mapping[str, Mapping[TopicPartition, Lag]]) -> None:
    """The lag of every pipeline, as just measured."""
    events: dict[Labels, float] = {}
    seconds: dict[Labels, float] = {}
    for pipeline, found in lags.items():
        for place, lag in found.items():
            labels = (pipeline, place.topic, str(place.partition))
            events[labels], seconds[labels] = lag.events, lag.seconds
    metrics.lag_events.replace(events)
    metrics.lag_seconds.replace(seconds)


class Looked(msgspec.Struct):
    """What can be said of the workers of a process without asking the log."""

    inflight: dict[Labels, float] = {}
    waiting: dict[Labels, float] = {}
    oldest: dict[Labels, float] = {}
    rows: dict[Labels, float] = {}
    restoring: dict[Labels, float] = {}

    def in_hand(self, pipeline: str, owned: Mapping[TopicPartition, Frontier]) -> None:
        """Adds what is taken and not finished."""
        for place, frontier in owned.items():
            labels = (pipeline, place.topic)
            self.inflight[labels] = self.inflight.get(labels, 0) + frontier.in_hand

    def of_keeper(
        self, pipeline: str, keeper: Keeper, plans: Iterable[Plan], monotonic: float
    ) -> None:
        """Adds what waits, and the size of the tables. Gates where nobody waits count 0."""
        for plan in plans:
            for part in plan.parts:
                if part.kind == "gate":
                    self.waiting[pipeline, part.path] = self.oldest[pipeline, part.path] = 0
        rows = 0
        for state in keeper.states:
            rows += len(state.table)
            for gate, (jobs, since) in state.waiting.gates().items():
                labels = (pipeline, gate)
                self.waiting[labels] = self.waiting.get(labels, 0) + jobs
                age = max(0, state.time.now() - since) / 1000
                self.oldest[labels] = max(self.oldest.get(labels, 0), age)
        self.rows[pipeline,] = rows
        if keeper.restoring:
            began = min(restore.started for restore in keeper.restoring.values())
            self.restoring[pipeline,] = monotonic - began

    def show(self, metrics: Metrics) -> None:
        """These are the figures now."""
        metrics.inflight.replace(self.inflight)
        metrics.gate_waiting.replace(self.waiting)
        metrics.gate_oldest.replace(self.oldest)
        metrics.ledger_rows.replace(self.rows)
        for labels, seconds in self.restoring.items():
            metrics.ledger_restore.set(labels, seconds)
