"""A broker of the trial's own, with a proxy in front of it for the workers alone."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from pathlib import Path

from streams.broker.devbroker.broker import Broker, find_broker, start_broker, stop_broker
from streams.clock import SystemClock
from streams.testing.chaos.proxy import HOST, Proxy

LISTENER = "WORKERS"
COMPACTING = {"log.cleaner.backoff.ms": "200"}
"""Row 36 waits for the compaction of a partition; Kafka looks every 15 s otherwise."""


class Ground:
    """Started, restarted, killed; always on the same ports."""

    def __init__(self, folder: Path, *, nodes: int = 1, proxied: bool = True) -> None:
        self.folder = folder
        self.proxy: Proxy | None = None
        self._nodes = nodes
        self._proxied = proxied
        self._properties: dict[str, str] = dict(COMPACTING)
        self._broker: Broker | None = None
        self._bootstrap = ""
        self._for_workers = ""
        self._dying: set[int] = set()
        self._clock = SystemClock()

    @property
    def direct(self) -> str:
        """Where the judge reads."""
        return self._bootstrap

    @property
    def bootstrap(self) -> str:
        """What workers are given."""
        return self._for_workers or self._bootstrap

    async def start(self) -> None:
        """It serves."""
        port = 0
        if self._proxied:
            port, behind, controller = _free_ports(3)
            self.proxy = Proxy(behind)
            entry = await self.proxy.start()
            own = f"PLAINTEXT://{HOST}:{port}"
            self._properties |= {
                "listeners": f"{own},{LISTENER}://{HOST}:{behind},CONTROLLER://{HOST}:{controller}",
                "advertised.listeners": f"{own},{LISTENER}://{HOST}:{entry}",
                "controller.quorum.voters": f"1@{HOST}:{controller}",
                "listener.security.protocol.map": (
                    f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{LISTENER}:PLAINTEXT"
                ),
            }
            self._for_workers = f"{HOST}:{entry}"
        await self._begin(port)
        assert self._broker is not None
        self._bootstrap = self._broker.bootstrap

    async def stop(self) -> None:
        """Nothing runs any more."""
        await asyncio.to_thread(stop_broker, self.folder)
        if self.proxy is not None:
            await self.proxy.close()

    # -- faults -----------------------------------------------------------------------------

    async def end(self) -> None:
        """All nodes have ended in order."""
        await asyncio.to_thread(stop_broker, self.folder)

    def kill(self, node: int | None = None) -> None:
        """One node, or all of them, die of kill -9."""
        found = find_broker(self.folder)
        for each in found.nodes if found is not None else ():
            if node is None or each.id == node:
                os.kill(each.pid, signal.SIGKILL)
                self._dying.add(each.id)

    def fill_disk(self, node: int) -> None:
        """The node can write nothing more to any file. A limit of its process does that, without
        a file system of its own to fill; Kafka gives up a log directory after one failed write."""
        found = find_broker(self.folder)
        for each in found.nodes if found is not None else ():
            if each.id == node:
                resource.prlimit(each.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def running(self) -> frozenset[int]:
        """Ids of the nodes whose processes live."""
        found = find_broker(self.folder)
        return frozenset(each.id for each in found.nodes) if found is not None else frozenset()

    def node_at(self, address: tuple[str, int]) -> int:
        """The id of the node that serves there, or did."""
        assert self._broker is not None
        return next(each.id for each in self._broker.nodes if each.port == address[1])

    async def back(self) -> None:
        """Every node serves again, where it was."""
        assert self._broker is not None
        await self._begin(self._broker.nodes[0].port)

    async def _begin(self, port: int) -> None:
        # Killed is not gone yet: who still counts as running would not be started.
        while self._dying & self.running():
            await self._clock.sleep(0.01)
        self._dying.clear()
        self._broker = await asyncio.to_thread(
            start_broker,
            self.folder,
            port=port,
            size=self._nodes,
            properties=self._properties,
            record_archive=False,
        )


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()
