"""What the worker's port serves: metrics, and the health of all its pipelines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from streams.observe import prometheus
from streams.observe.metrics import Metrics
from streams.observe.server import Answer, Page
from streams.runtime.gauges import Looked, lag_figures
from streams.runtime.standing import Reason

if TYPE_CHECKING:
    from streams.runtime.worker import Worker

Workers = Callable[[], Sequence["Worker"]]
"""The workers of this process as they are now; none before they are made."""


class Health(msgspec.Struct, frozen=True):
    """Body of every health page."""

    status: str
    reasons: list[Reason]


class Pages:
    """The pages of one process."""

    def __init__(self, metrics: Metrics, workers: Workers) -> None:
        self._metrics = metrics
        self._workers = workers
        self._was_ready = False
        prometheus.collected(
            ()
        )  # loads the library now: the first scrape must not hold the loop up

    def by_path(self) -> dict[str, Page]:
        """Path → page. The short names are those that probes of Kubernetes itself have (K8-4)."""
        return {
            "/metrics": self.metrics,
            "/health/live": self.live,
            "/health/ready": self.ready,
            "/livez": self.live,
            "/readyz": self.ready,
            "/startupz": self.started,
        }

    async def metrics(self, headers: Mapping[str, str]) -> Answer:
        """Every figure as it is now."""
        workers = self._workers()
        lag_figures(self._metrics, {worker.pipeline: await worker.lag() for worker in workers})
        looked = Looked()
        for worker in workers:
            worker.look(looked)
        looked.show(self._metrics)
        found = prometheus.collected(self._metrics.families)
        text, kind = await asyncio.to_thread(prometheus.exposed, found, headers.get("accept", ""))
        return Answer(text, kind)

    async def live(self, _: Mapping[str, str]) -> Answer:
        """200 while every loop goes round; the log may be away."""
        return _health([each for each in self._reasons() if each.reason == "stalled"])

    async def ready(self, _: Mapping[str, str]) -> Answer:
        """200 while it does all that it is there for."""
        return _health(self._reasons())

    async def started(self, _: Mapping[str, str]) -> Answer:
        """200 from the first time it was ready: models loaded, tables read."""
        reasons = self._reasons()
        self._was_ready = self._was_ready or not reasons
        return _health([] if self._was_ready else reasons)

    def _reasons(self) -> list[Reason]:
        workers = self._workers()
        if not workers:
            return [Reason("starting")]
        return [reason for worker in workers for reason in worker.standing()]


def _health(reasons: list[Reason]) -> Answer:
    body = Health("unavailable" if reasons else "ok", reasons)
    data = msgspec.json.encode(body) + b"\n"
    return Answer(data, "application/json", 503 if reasons else 200)
