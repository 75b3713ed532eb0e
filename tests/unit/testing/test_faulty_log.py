"""The log around another that fails on demand: what it cannot do, it refuses to pretend."""

import pytest

from streams.broker.local import LocalLog
from streams.broker.port import Transaction
from streams.clock import ManualClock
from streams.testing.faults import Fault, FaultyLog


@pytest.mark.parametrize("fault", [Fault.LATE, Fault.HANG])
async def test_faults_of_open_transactions_need_a_log_that_has_some(fault):
    """Committing as if nothing had been asked for would make a test prove nothing."""
    clock = ManualClock()
    log = FaultyLog(LocalLog.open(None, clock=clock), clock, lambda *_: fault)
    producer = await log.producer("p")
    with pytest.raises(ValueError, match="SimulatedLog"):
        await producer.commit(Transaction())
    await log.close()
