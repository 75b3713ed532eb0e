"""A TCP proxy between workers and their broker that knows where one Kafka request ends.

It can hold, drop and delay, cut either direction, and call back at a named point of somebody's
transaction: that is how a process dies between two requests without a hook in the product.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import Callable
from typing import Literal

import msgspec

HOST = "127.0.0.1"
PRODUCE, JOIN, ADD_OFFSETS, END, OFFSETS = 0, 11, 25, 26, 28
Point = Literal[
    "before offsets",
    "after offsets",
    "before produce",
    "after produce",
    "in commit",
    "after commit",
    "in rebalance",
]
POINTS: dict[Point, tuple[bool, int]] = {
    "before offsets": (True, ADD_OFFSETS),
    "after offsets": (False, OFFSETS),
    "before produce": (True, PRODUCE),
    "after produce": (False, PRODUCE),
    "in commit": (True, END),
    "after commit": (False, END),
    "in rebalance": (True, JOIN),
}
"""Point → whether it is a request (else the answer to it), and which."""
Direction = Literal["to broker", "to worker"]


class Frame(msgspec.Struct, frozen=True):
    """One request, or the answer to it."""

    request: bool
    api: int
    client: str
    data: bytes


Act = Callable[[Frame], float | None]
"""What to do when the point is reached; for how many seconds the frame is held then, None to let
it be lost."""


class Trap(msgspec.Struct, eq=False):
    """Waits for a worker to come to a point, once."""

    worker: str
    point: Point
    act: Act
    sprung: asyncio.Event

    def fits(self, frame: Frame) -> bool:
        """Whether this is the point. Members go by the worker's name, producers end with it."""
        of_worker = frame.client == self.worker or frame.client.endswith(f".{self.worker}")
        return of_worker and (frame.request, frame.api) == POINTS[self.point]


class Proxy:
    """Listens for workers, speaks to one broker."""

    def __init__(self, upstream: int, seed: int = 0) -> None:
        self.latency: Callable[[random.Random], float] | None = None
        """Seconds that each frame is late."""
        self.resets = 0.0
        """Part of the frames at which the connection breaks."""
        self.reset_count = 0
        self._upstream = upstream
        self._chance = random.Random(seed)
        self._traps: list[Trap] = []
        self._open: dict[Direction, asyncio.Event] = {
            "to broker": asyncio.Event(),
            "to worker": asyncio.Event(),
        }
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        for each in self._open.values():
            each.set()

    async def start(self, port: int = 0) -> int:
        """The port that workers are to use."""
        self._server = await asyncio.start_server(self._serve, HOST, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Nobody is served any more."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def trap(self, worker: str, point: Point, act: Act) -> Trap:
        """Calls `act` the next time that the worker comes to the point."""
        made = Trap(worker, point, act, asyncio.Event())
        self._traps.append(made)
        return made

    def forget(self, trap: Trap) -> None:
        """The trap does nothing any more."""
        if trap in self._traps:
            self._traps.remove(trap)

    def cut(self, *directions: Direction) -> None:
        """Nothing gets through any more; connections stay open, as when packets are dropped."""
        for direction in directions or tuple(self._open):
            self._open[direction].clear()

    def join(self) -> None:
        """What was cut is whole again; what was sent meanwhile arrives."""
        for each in self._open.values():
            each.set()

    # -- one connection ---------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self._upstream)
        except OSError:
            writer.close()
            return
        finally:
            task.add_done_callback(self._tasks.discard)
        asked: dict[int, tuple[int, str]] = {}
        pumps = [
            asyncio.create_task(self._requests(reader, up_writer, asked)),
            asyncio.create_task(self._answers(up_reader, writer, asked)),
        ]
        try:
            # A worker that is gone does not take back what it has sent.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if not pumps[0].done():
                writer.close()
                await asyncio.wait({pumps[0]}, timeout=30)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for each in (writer, up_writer):
                each.close()
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await each.wait_closed()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asked: dict[int, tuple[int, str]],
    ) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                data = await _frame(reader)
                api, _, number, size = struct.unpack_from(">hhih", data, 4)
                client = data[14 : 14 + size].decode(errors="replace") if size > 0 else ""
                asked[number] = (api, client)
                if await self._pass(Frame(True, api, client, data), "to broker"):
                    writer.write(data)
                    await writer.drain()

    async def _answers(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asked: dict[int, tuple[int, str]],
    ) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                data = await _frame(reader)
                (number,) = struct.unpack_from(">i", data, 4)
                api, client = asked.pop(number, (-1, ""))
                if await self._pass(Frame(False, api, client, data), "to worker"):
                    writer.write(data)
                    await writer.drain()

    async def _pass(self, frame: Frame, direction: Direction) -> bool:
        """Whether the frame goes on, after everything that is done to it."""
        for trap in self._traps:
            if trap.fits(frame):
                self._traps.remove(trap)
                trap.sprung.set()
                held = trap.act(frame)
                if held is None:
                    return False
                await asyncio.sleep(held)
                break
        await self._open[direction].wait()
        if self.latency is not None:
            await asyncio.sleep(self.latency(self._chance))
        if self.resets and self._chance.random() < self.resets:
            self.reset_count += 1
            raise ConnectionResetError
        return True


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """The next request or answer, its length in front."""
    head = await reader.readexactly(4)
    (size,) = struct.unpack(">i", head)
    return head + await reader.readexactly(size)
