"""The embedded log keeps the port's promises: in memory, in a file, and with gaps in offsets."""

import asyncio

import pytest
import pytest_asyncio

from streams.broker.local import LocalLog
from streams.clock import ManualClock, SystemClock
from streams.testing.conformance.broker import (
    BrokerConformance,
    BrokerFeatures,
    SharedBrokerConformance,
)


async def compact(log):
    while await log.maintain():
        pass


class TestLogInMemory(BrokerConformance):
    """One process, virtual time."""

    features = BrokerFeatures(compact=compact)

    @pytest_asyncio.fixture
    async def clock(self):
        """A clock that goes on whenever everybody waits."""
        clock = ManualClock()

        async def turn():
            while True:
                for _ in range(20):
                    await asyncio.sleep(0)
                if (due := clock.next_due()) is not None:
                    clock.advance(max(0, due - clock.now()) / 1000)

        task = asyncio.ensure_future(turn())
        yield clock
        task.cancel()

    @pytest.fixture
    def open_log(self, clock):
        async def opened():
            return LocalLog.open(None, clock=clock)

        return opened


class TestLogInFile(SharedBrokerConformance):
    """Several accesses to one file, real time."""

    features = BrokerFeatures(compact=compact, patience=20)
    options = {}

    @pytest.fixture
    def open_log(self, tmp_path):
        async def opened():
            return LocalLog.open(
                tmp_path / "log.db",
                clock=SystemClock(),
                session_ms=600,
                poll_interval_ms=800,
                **self.options,
            )

        return opened


class TestLogInFileWithGaps(TestLogInFile):
    """An unused offset after each commit, as Kafka's markers leave one."""

    options = {"offset_gaps": True}


class TestLogInFileWithSync(TestLogInFile):
    """Each commit is on the disk before it is visible."""

    options = {"synchronous": "FULL"}
