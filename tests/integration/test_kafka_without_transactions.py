"""A cluster that speaks Kafka's protocol and has no transactions: refused, at once and by name.

There is no such Kafka any more, but there are services that speak its protocol. This one says what
it can do, tells who it is, and nothing else.
"""

import asyncio
import struct

import pytest

from streams.broker.kafka import KafkaLog
from streams.clock import SystemClock
from streams.errors import LogError

METADATA, API_VERSIONS = 3, 18
OFFERED = {0: 8, 1: 11, 2: 5, METADATA: 8, 8: 7, 9: 5, 10: 2, 11: 5, 12: 3, 15: 4, 32: 2}
"""API → newest version. Not there: 22 (InitProducerId), 24 to 26 and 28 (transactions)."""


class SmallBroker:
    """Serves on a port of its own while it is entered."""

    async def __aenter__(self):
        self._connections = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return f"127.0.0.1:{self.port}"

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self._connections:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self._connections.add(writer)
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                api, version, correlation = struct.unpack_from(
                    ">hhi", await reader.readexactly(size)
                )
                answer = struct.pack(">i", correlation) + self._answer(api, version)
                writer.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, api, version):
        if api == API_VERSIONS:
            # A newer form than it knows is answered in the oldest one, with an error (KIP-511).
            offered = b"".join(struct.pack(">hhh", key, 0, top) for key, top in OFFERED.items())
            error = 35 if version > 0 else 0
            return struct.pack(">hi", error, len(OFFERED)) + offered
        host, cluster = b"127.0.0.1", b"small"
        return b"".join(
            [
                struct.pack(">ii", 0, 1),  # not throttled; one broker
                struct.pack(">ih", 1, len(host)) + host + struct.pack(">ih", self.port, -1),
                struct.pack(">h", len(cluster)) + cluster,
                struct.pack(">iii", 1, 0, 0),  # it is the controller; no topics; nothing to say
            ]
        )


async def test_it_is_refused_with_the_reason():
    """K066: exactly-once cannot be had without; waiting would not help."""
    async with SmallBroker() as bootstrap:
        log = KafkaLog.open(bootstrap, clock=SystemClock())
        try:
            await log.cluster.reach(10.0)
            with pytest.raises(LogError, match=r"[Ii]dempotent|[Tt]ransaction") as refused:
                await log.cluster.require_transactions("any")
        finally:
            await log.close()
    assert refused.value.code == "K066"
    assert refused.value.help == "Exactly-once needs a cluster with transactions."
