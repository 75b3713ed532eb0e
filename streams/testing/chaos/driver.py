"""Who submits jobs and opens gates during a trial, and notes what was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from streams.client import Client
from streams.clock import Clock
from streams.engine.messages import SIGNAL, SUBMIT, SignalData, SubmitData
from streams.errors import LogError, OutcomeUnknown
from streams.event import Event
from streams.inspection.pipelines import PipelineInfo
from streams.testing.chaos.load import PIPELINE, Job
from streams.testing.history import Answered, Asked

SOURCE = "/streams/chaos"
AGAIN = 0.3
"""Seconds until something that was not confirmed is sent again."""
BEHIND = 0.4
"""Seconds after a submission at which its gate is opened."""
FOUND = 60.0


class Driver:
    """Keeps a rate of submissions, whatever happens to the log."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.jobs: list[Job] = []
        self.asked: list[Asked] = []
        self.client = client
        self._clock = clock
        self._info: PipelineInfo | None = None
        self._pending: set[asyncio.Task[None]] = set()

    async def find_pipeline(self) -> PipelineInfo:
        """The pipeline, once a worker has set it up."""
        until = self._clock.monotonic() + FOUND
        while self._info is None:
            try:
                self._info = await self.client.pipeline(PIPELINE)
            except Exception:
                if self._clock.monotonic() > until:
                    raise
                await self._clock.sleep(0.1)
        return self._info

    async def feed(self, make: Callable[[int], Job], rate: float, stop: asyncio.Event) -> None:
        """Submits `rate` jobs a second until told to stop; each one's gate is opened in time."""
        await self.find_pipeline()
        began, number = self._clock.monotonic(), len(self.jobs)
        first = number
        while not stop.is_set():
            due = first + int((self._clock.monotonic() - began) * rate)
            while number < due:
                self.submit(make(number))
                number += 1
            await self._clock.sleep(0.02)

    def submit(self, job: Job) -> None:
        """It is sent until it is confirmed, and so is what follows it."""
        self.jobs.append(job)
        self._begin(self._lead(job))

    async def all_said(self) -> None:
        """Nothing is left to be confirmed."""
        while self._pending:
            done, _ = await asyncio.wait(set(self._pending))
            for task in done:
                task.result()

    async def stop(self) -> None:
        """Nothing more is sent, whether it was confirmed or not."""
        pending = set(self._pending)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _lead(self, job: Job) -> None:
        await self.send(submission(job), job.id, "submit")
        if job.approved:
            await self._clock.sleep(BEHIND)
            await self.approve(job)

    async def approve(self, job: Job) -> None:
        """Opens the gates of a job."""
        facts: dict[str, object] = {"approved": True}
        if job.window:
            facts["window"] = True
        await self.send(signal(f"{job.token}.approve", facts), job.id, "fact")

    async def send(self, event: Event, job: str, kind: str) -> None:
        """Stands in the intake; until then it is sent again and again, under its id."""
        info = await self.find_pipeline()
        while True:
            answered: Answered = "failed"
            try:
                await self.client.submit_event(info, event, job)
                answered = "ok"
            except OutcomeUnknown:
                answered = "unknown"
            except LogError:
                pass
            finally:
                self.asked.append(
                    Asked(id=event.id, job=job, kind=kind, at=self._clock.now(), answered=answered)
                )
            if answered == "ok":
                return
            await self._clock.sleep(AGAIN)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="chaos.driver")
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)


def submission(job: Job) -> Event:
    """The event that asks for the job."""
    params: dict[str, object] = {"token": job.token}
    if job.harm:
        params["harm"] = job.harm
    return Event.make(id=job.token, source=SOURCE, type=SUBMIT, value=SubmitData(params))


def signal(id: str, facts: dict[str, object]) -> Event:
    """The event that gives the job it is sent to these facts."""
    return Event.make(id=id, source=SOURCE, type=SIGNAL, value=SignalData("fact", facts))
