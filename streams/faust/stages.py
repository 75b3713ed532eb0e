"""A pipeline's stages as agents of a Faust app: one event at a time for each stage and process.

The order of a step is what makes a repeat harmless: first the stage's row, then what follows from
it, then Faust's acknowledgement. Whoever gets the event again finds the row and goes on from there
(`again`); a crash before the row runs the stage again, under the same idempotency key.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

import faust
import msgspec
from faust.types import TP, AgentT, EventT, StreamT

from streams.app import App
from streams.blobs import BlobStore
from streams.broker.port import Header, Log, Outgoing, Record, TopicPartition
from streams.engine.flow import Flow
from streams.engine.messages import AnyDelivery, AnyEvent
from streams.engine.payload import ROW_LIMIT, Payload
from streams.engine.routing import park
from streams.engine.rows import Row, decode_row
from streams.errors import EventError, LogUnavailable, StreamsError
from streams.faust.again import is_done, repeated
from streams.faust.faults import workers_at_work
from streams.faust.ledger import Ledger
from streams.observe.logs import get_logger
from streams.runtime.agent import GIVE_UP_ON, SHOW_RUNNING
from streams.runtime.commit import Encoder
from streams.runtime.control import ControlReader
from streams.runtime.deliveries import opened
from streams.runtime.execution import NOT_HERE, CancelToken, Execution
from streams.runtime.runner import Job, Runner
from streams.runtime.setup import require_layout
from streams.runtime.trimming import TRIM_EVERY
from streams.topology.plan import USER_CODE, Naming, Part, Plan

log = get_logger(__name__)

LOOK_EVERY = 0.25
"""Seconds between looks at a stage that runs long, and at a pause."""


class FaustStages(faust.Service):
    """Opens before the app reads its first record: agents whose topics are missing then would get
    nothing for good. Closes after everything else of the app."""

    def __init__(
        self, app: faust.App, pipeline: App, naming: Naming, served: Callable[[Part], bool]
    ) -> None:
        super().__init__()
        self.app = app
        self.ledger = Ledger(app, naming)
        self.agents: dict[str, AgentT[Any]] = {}
        self._pipeline = pipeline
        self._naming = naming
        self._served = served
        self._clock = pipeline.clock
        self._ended: dict[Job, asyncio.Future[Flow]] = {}
        self._beside: list[asyncio.Task[None]] = []
        for path in self._paths():
            self._add_agent(path)
        app.on_partitions_assigned.connect(cast(Any, self._assigned))
        app.add_dependency(self)

    def _paths(self) -> list[str]:
        parts = (part for each in self._pipeline.topologies for part in each.plan.parts)
        return sorted({part.path for part in parts if self._serves(part)})

    def _serves(self, part: Part) -> bool:
        return part.kind in USER_CODE and self._served(part)

    def _add_agent(self, path: str) -> None:
        topic = self.app.topic(
            self._naming.stage(path),
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
        )

        async def agent(stream: StreamT[Any]) -> None:
            async for event in stream.events():
                await self._guarded(path, event)

        name = f"{self._naming.prefix}.{path}"
        self.agents[path] = self.app.agent(topic, name=name)(agent)

    # -- life -------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Everything that an agent needs stands."""
        pipeline = self._pipeline
        pipeline.require_secrets()
        self._log: Log = pipeline.open_log()
        await self._refuse_workers()
        await pipeline.apply(self._log)
        layout = await require_layout(self._log, self._naming)
        self._partitions = layout.partitions
        self._encoder = Encoder(self._naming, layout.partitions)
        self._control = ControlReader(self._log, self._naming, self._clock)
        await self._control.start()
        assert self._control.following is not None
        self._blobs = BlobStore(pipeline.settings.blobs)
        self._execution = Execution(
            pipeline.registry,
            self._blobs,
            pipeline.secrets,
            self._clock,
            namespace=pipeline.settings.namespace,
            threads=pipeline.settings.worker.concurrency,
            inline=ROW_LIMIT,  # a row has to keep what follows from it: see `again`
        )
        self._runner = Runner(
            self._naming,
            self._control.table,
            self._execution,
            self._blobs,
            self._clock,
            f"faust-{self.app.conf.id}-{socket.gethostname()}",
            self._on_ended,
        )
        await self._prepare()
        self._control.table.listeners.append(self._control_changed)
        following = self.ledger.follow(self._log, self._partitions, self._clock)
        self._beside = [asyncio.create_task(following), asyncio.create_task(self._trim())]
        for task in (*self._beside, self._control.following):
            self.add_future(_unless_cancelled(task))
        log.info("faust.started", stages=sorted(self.agents), app=self.app.conf.id)

    async def on_stop(self) -> None:
        """Nothing of it runs any more."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await self._runner.abandon()
        await self._execution.close()
        await self._control.close()
        await self._log.close()

    async def _refuse_workers(self) -> None:
        plans = (each.plan for each in self._pipeline.topologies)
        for pool in sorted({p.pool for plan in plans for p in plan.parts if self._serves(p)}):
            members = await self._log.members(self._naming.pool_group(pool))
            if members:
                raise workers_at_work(pool, members)

    async def _prepare(self) -> None:
        table = self._control.table
        if (newest := table.plans.get(table.active)) is not None:
            self._execution.policies.follow(newest)
        for plan in list(table.plans.values()):
            mine = [part.path for part in plan.parts if self._serves(part)]
            for path, fault in (await self._execution.prepare(plan, mine)).items():
                log.error("stage.not_ready", stage=path, code=fault.code, error=fault.message)

    def _control_changed(self, key: str) -> None:
        if key.startswith("stop/"):
            self._runner.stop(key[5:])
        elif key == "active":
            newest = self._control.table.plans.get(self._control.table.active)
            if newest is not None:
                self._execution.policies.follow(newest)

    async def _assigned(self, _app: object, assigned: set[TP], **_more: object) -> None:
        ours = {self._naming.stage(path) for path in self.agents}
        self.ledger.want({place.partition for place in assigned if place.topic in ours})

    async def _trim(self) -> None:
        """Stage topics never expire by time: what Faust has committed is deleted."""
        while True:
            await self._clock.sleep(TRIM_EVERY)
            ours = {self._naming.stage(path) for path in self.agents}
            try:
                done = await self._log.positions(self.app.conf.id)
                mine = {place: each.offset for place, each in done.items() if place.topic in ours}
                await self._log.trim(await self._needed_from(mine))
            except LogUnavailable as error:
                log.warning("faust.trim_waits", code=error.code, error=error.message)

    async def _needed_from(self, mine: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Another version may give the stage to a pool that Faust does not serve."""
        found = dict(mine)
        for plan in self._control.table.plans.values():
            for part in plan.parts:
                if part.kind not in USER_CODE or self._served(part):
                    continue
                done = await self._log.positions(self._naming.pool_group(part.pool))
                for place in mine:
                    if place.topic == self._naming.stage(part.path):
                        theirs = done[place].offset if place in done else 0
                        found[place] = min(found[place], theirs)
        return found

    # -- one event --------------------------------------------------------------------------

    async def _guarded(self, path: str, event: EventT[Any]) -> None:
        """An agent that raises would be started again behind the event, which would be lost, and
        the worker would look healthy: a fault of the runtime ends the whole app instead."""
        try:
            await self._take(path, event)
        except Exception as error:
            log.exception("faust.failed", stage=path)
            await self.app.crash(error)
            # The event must not be acknowledged: this agent ends with the app.
            await asyncio.Event().wait()

    async def _take(self, path: str, event: EventT[Any]) -> None:
        record = _record_of(event)
        await self.ledger.has(record.partition)
        while self._control.table.is_paused(path):
            await self._clock.sleep(LOOK_EVERY)
        records = await self._step(record)
        ledger = self._naming.ledger
        rows = [each for each in records if each.topic == ledger]
        assert all(each.partition == record.partition for each in rows)
        await self.ledger.write(rows)
        await self._send(each for each in records if each.topic != ledger)

    async def _step(self, record: Record) -> list[Outgoing]:
        """What follows from an event, whatever it is."""
        try:
            event, delivery, payload = opened(record)
        except (StreamsError, msgspec.MsgspecError) as error:
            return [self._dead(record, error)]
        plan = self._control.table.plans.get(delivery.digest)
        if plan is None:
            return self._not_here(event, delivery, payload)
        part = plan.by_path.get(delivery.part)
        if part is None:
            reason = f"version {plan.version} has no {delivery.part}"
            return [self._dead(record, EventError(reason, code="V047", field="part"))]
        stopped = self._control.table.stopped(delivery.root, delivery.epoch) is not None
        if stopped or not self._serves(part):
            return []
        job = Job(record.place, record.offset, event, delivery, plan, part, payload, CancelToken())
        there = self.ledger.data.get(f"{delivery.scope}|{part.path}".encode())
        row = decode_row(there) if there is not None else None
        if row is not None and is_done(row, job):
            return self._again(job, row)
        flow = await self._run(job)
        return self._encoder.records(flow.actions, job)

    def _again(self, job: Job, row: Row) -> list[Outgoing]:
        flow = self._runner.flow(job.plan, job.delivery)
        policy = self._execution.policies.of(job.plan, job.part)
        stopped = self._control.table.stopped(job.delivery.root, job.delivery.epoch) is not None
        actions = repeated(flow, job, row, policy, stopped=stopped)
        log.info("faust.repeated", job=job.delivery.root, stage=job.part.path, status=row.status)
        return self._encoder.records(actions, job)

    def _dead(self, record: Record, error: Exception) -> Outgoing:
        code = error.code if isinstance(error, StreamsError) else "V048"
        log.warning(
            "event.dead",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            code=code,
            error=str(error),
        )
        return self._encoder.dead_record(record, code, str(error), self._clock.now())

    def _not_here(self, event: AnyEvent, delivery: AnyDelivery, payload: Payload) -> list[Outgoing]:
        """A plan that was not read yet, or that has gone: offered again later."""
        flow = self._runner.flow(Plan(self._naming.pipeline, "0", ()), delivery)
        park(
            flow, delivery.part, event, delivery, payload, NOT_HERE,
            attempt=delivery.attempt, reason="no-capable-worker",
        )  # fmt: skip
        return self._encoder.records(flow.actions)

    async def _send(self, records: Iterable[Outgoing]) -> None:
        """They stand in the log."""
        producer = await self.app.maybe_start_producer()
        await asyncio.gather(
            *(
                producer.send_and_wait(
                    each.topic, each.key, each.value, each.partition, None, list(each.headers)
                )
                for each in records
            )
        )

    # -- running ----------------------------------------------------------------------------

    async def _run(self, job: Job) -> Flow:
        """What the stage's turn leads to; a stage that runs long is shown as running."""
        ended: asyncio.Future[Flow] = asyncio.get_running_loop().create_future()
        self._ended[job] = ended
        try:
            if self._execution.batch_of(job.plan, job.part) is None:
                self._runner.start(job)
            else:  # one event is all there is: no waiting for others
                job.started = self._clock.now()
                self._runner.spawn(self._runner.run(job))
            while not ended.done():
                await asyncio.wait({ended}, timeout=LOOK_EVERY)
                if self._runner.fault is not None:
                    raise self._runner.fault
                await self._mind(job)
            return ended.result()
        except asyncio.CancelledError:
            job.cancel.set("the partition went to another worker")
            raise
        finally:
            del self._ended[job]

    def _on_ended(self, job: Job, flow: Flow) -> None:
        ended = self._ended.get(job)
        if ended is not None and not ended.done():
            ended.set_result(flow)

    async def _mind(self, job: Job) -> None:
        now = self._clock.now()
        if job.over:
            return
        if not job.shown and now - job.started > SHOW_RUNNING:
            job.shown = True
            flow = self._runner.flow(job.plan, job.delivery)
            d = job.delivery
            row = Row(
                "RUNNING", epoch=d.epoch, turn=d.turn, attempt=d.attempt, phase=1, plan=d.digest,
                root=d.root, worker=self.app.conf.id, at=job.started, times=job.payload.tries,
            )  # fmt: skip
            flow.put(job.part.path, row)
            await self.ledger.write(self._encoder.records(flow.actions))
        if job.stopped_at and now - job.stopped_at > GIVE_UP_ON:
            log.warning("stage.does_not_stop", job=job.delivery.root, stage=job.part.path)
            self._runner.let_go(job)


def _record_of(event: EventT[Any]) -> Record:
    message = event.message
    return Record(
        message.topic,
        message.partition,
        message.offset,
        round((message.timestamp or 0) * 1000),
        message.key,
        message.value,
        tuple(cast(Iterable[Header], message.headers or ())),  # aiokafka gives pairs
    )


def _unless_cancelled(task: asyncio.Task[None]) -> Coroutine[Any, Any, None]:
    """A fault of the task ends the app; its end by us does not."""

    async def watched() -> None:
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    return watched()
