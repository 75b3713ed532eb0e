"""The control topic as a table: plans, what is active, stops, shared facts, pauses.

Every worker reads it whole. It is how agents learn of a cancel and keepers of a shared fact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from streams.broker.port import Log, Reader, Record, TopicPartition
from streams.clock import Clock
from streams.errors import LogUnavailable, TopicError
from streams.observe.logs import get_logger
from streams.topology.plan import Naming, Plan

Listener = Callable[[str], None]
"""Called with the key of each control record that was read."""

log = get_logger(__name__)


class Stop(msgspec.Struct, frozen=True):
    """Nothing of a lower epoch is to run any more."""

    below: int
    at: int
    reason: str = ""


class Layout(msgspec.Struct, frozen=True):
    """What must never change while there is work."""

    partitions: int
    id: str = ""


class Begun(msgspec.Struct, frozen=True):
    """A group has begun to read a partition."""

    offset: int
    at: int = 0


def begun_name(group: str, place: TopicPartition) -> str:
    """Under which name that is noted."""
    return f"{group}/{place.topic}/{place.partition}"


class ControlTable:
    """What the control topic says now. `listeners` hear of each change."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self.active = ""
        self.layout: Layout | None = None
        self.store = ""
        """Names the folder of blobs that all workers use; empty where they need not agree."""
        self.stops: dict[str, Stop] = {}
        self.facts: dict[str, Any] = {}
        self.pauses: dict[str, dict[str, Any]] = {}
        self.sources: dict[str, Any] = {}
        """Topics of others → where reading them began."""
        self.begun: dict[str, Begun] = {}
        """`begun_name` → where the group's first position there was."""
        self.listeners: list[Listener] = []
        self.time = 0
        """When the newest record was appended: the log's clock has passed it (ms)."""

    def apply(self, record: Record) -> None:
        """Takes one record in; one it cannot read is logged and passed over."""
        key = (record.key or b"").decode(errors="replace")
        self.time = max(self.time, record.timestamp)
        try:
            self._apply(key, record.value)
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
            log.error("control.unreadable", key=key, offset=record.offset, error=str(error))
            return
        for listener in self.listeners:
            listener(key)

    def _apply(self, key: str, value: bytes | None) -> None:
        kind, _, name = key.partition("/")
        if kind == "plan":
            _set(self.plans, name, Plan.decode(value) if value is not None else None)
        elif kind == "stop":
            _set(self.stops, name, msgspec.json.decode(value, type=Stop) if value else None)
        elif kind == "pause":
            _set(self.pauses, name, msgspec.json.decode(value) if value else None)
        elif kind == "fact":
            if value is None:
                self.facts.pop(name, None)
            else:
                self.facts[name] = msgspec.json.decode(value)["value"]
        elif kind == "source":
            _set(self.sources, name, msgspec.json.decode(value) if value else None)
        elif kind == "begun":
            _set(self.begun, name, msgspec.json.decode(value, type=Begun) if value else None)
        elif kind == "active" and value:
            self.active = str(msgspec.json.decode(value)["digest"])
        elif kind == "store":
            self.store = (value or b"").decode()
        elif kind == "layout" and value:
            self.layout = msgspec.json.decode(value, type=Layout)

    def stopped(self, root: str, epoch: int) -> Stop | None:
        """The stop that forbids this epoch of a job, if any."""
        stop = self.stops.get(root)
        return stop if stop is not None and epoch < stop.below else None

    def is_paused(self, path: str) -> bool:
        return "*" in self.pauses or path in self.pauses


def _set(table: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value


class ControlReader:
    """Keeps a control table up with its topic."""

    def __init__(self, source: Log, naming: Naming, clock: Clock) -> None:
        self.table = ControlTable()
        self._log = source
        self._place = TopicPartition(naming.control, 0)
        self._clock = clock
        self._reader: Reader | None = None
        self.following: asyncio.Task[None] | None = None
        """Ends only by a fault: who works by this table has to look at it."""

    async def start(self) -> None:
        """Returns when the table holds all that was there at the call."""
        await self._begin()
        self.following = asyncio.create_task(self._follow(), name="control")

    async def _begin(self) -> None:
        marks = await self._log.watermarks([self._place])
        if self._place not in marks:
            raise TopicError(
                f"topic {self._place.topic} is missing",
                help="Start a worker with the pipeline's file: it creates what is missing.",
            )
        self._reader = self._log.reader()
        self._reader.assign({self._place: 0})
        await self.catch_up(marks[self._place].high)

    async def catch_up(self, end: int) -> None:
        """Reads on until `end`. For the time before `start` has a task of its own."""
        assert self._reader is not None
        while self._reader.position(self._place) < end:
            for record in await self._reader.poll(1_000, 1.0):
                self.table.apply(record)

    async def _follow(self) -> None:
        assert self._reader is not None
        while True:
            try:
                records = await self._reader.poll(1_000, 1.0)
            except LogUnavailable as error:
                log.warning("control.waits", code=error.code, error=error.message)
                await self._clock.sleep(1.0)
                continue
            for record in records:
                self.table.apply(record)

    async def wait_until(self, end: int) -> None:
        """Returns when everything below `end` has been applied."""
        assert self._reader is not None
        while self._reader.position(self._place) < end:
            await self._clock.sleep(0.005)

    async def end(self) -> int:
        marks = await self._log.watermarks([self._place])
        return marks[self._place].high

    async def close(self) -> None:
        if self.following is not None:
            self.following.cancel()
            await asyncio.wait([self.following])
        if self._reader is not None:
            await self._reader.close()
