"""The simulated log keeps the port's promises: with either way to rebalance, and with latency."""

import asyncio

import pytest
import pytest_asyncio

from streams.testing.conformance.broker import BrokerConformance, BrokerFeatures
from streams.testing.simulated_log import SimulatedLog
from streams.testing.virtual_time import VirtualClock, VirtualLoop

LOOP = VirtualLoop


async def compact(log):
    while await log.maintain():
        pass


class TestSimulatedLog(BrokerConformance):
    """Eager: everything is given up at each rebalance."""

    features = BrokerFeatures(compact=compact, too_large=1024 * 1024 + 1)
    options = {}

    @pytest_asyncio.fixture
    async def clock(self):
        return VirtualClock(asyncio.get_running_loop())

    @pytest.fixture
    def open_log(self, clock):
        async def opened():
            return SimulatedLog(clock, **self.options)

        return opened


class TestCooperative(TestSimulatedLog):
    """What a member keeps it need not give up."""

    options = {"rebalance": "cooperative"}


class TestSeenByAProcess(TestSimulatedLog):
    """A process's view is a whole log, however slow its calls are."""

    @pytest.fixture
    def open_log(self, clock):
        async def opened():
            log = SimulatedLog(clock, seed=3)
            log.faults.latency = lambda call, process: 0.02
            return log.process("w")

        return opened
