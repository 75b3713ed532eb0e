"""The producer of the simulated log: a commit in four requests, with a place to die before each."""

from __future__ import annotations

import asyncio
import contextlib

from streams.broker.local_errors import misuse
from streams.broker.port import Transaction
from streams.errors import Fenced, OutcomeUnknown, TransactionAborted
from streams.testing.faults import Fault
from streams.testing.simulated_broker import Broker
from streams.testing.simulated_faults import Point
from streams.testing.simulated_process import Process
from streams.testing.simulated_transactions import Pending

ASKED = "a fault was asked for"


class SimulatedProducer:
    """Commits under an id; whoever opened the id last may."""

    def __init__(self, broker: Broker, process: Process, name: str, epoch: int) -> None:
        self._broker = broker
        self._process = process
        self._name = name
        self._epoch = epoch
        self._pending: Pending | None = None
        self._closed = False

    async def commit(self, transaction: Transaction) -> None:
        """All of it is visible; else one of the errors of `port.Producer`."""
        if self._closed:
            raise misuse(f"the producer {self._name} is closed")
        if transaction.offsets and transaction.membership is None:
            raise misuse("offsets need the membership they were read under")
        fault, leg = self._fate(transaction)
        await self._stands("before_begin", leg)
        self._check_reach()
        self._broker.topics.check_positions(transaction.offsets)
        targets = self._broker.topics.targets(transaction.records)
        if transaction.membership is not None and transaction.offsets:
            # A client that knows already does not even begin; the log looks again, later.
            self._broker.groups.check(transaction.membership)
        if not targets and not transaction.offsets:
            self._broker.transactions.check_epoch(self._name, self._epoch)
            return
        pending = self._pending = await self._broker.transactions.begin(
            self._name, self._epoch, self._process.name
        )
        refused = self._broker.topics.refused(targets)
        self._broker.append(pending, [each for each in targets if each.partition not in refused])
        await self._stands("after_produce", leg)
        self._check_reach()
        if refused:
            self._broker.transactions.end(pending, "aborted")
            self._broker.check_accepted(targets)
        self._add_offsets(pending, transaction)
        await self._stands("after_offsets", leg)
        await asyncio.sleep(0)  # others see it open, if only for a moment
        await self._end(pending, fault)
        await self._stands("after_commit", leg)
        if fault is Fault.UNKNOWN_COMMITTED or self._broker.is_away(self._process):
            raise OutcomeUnknown(ASKED)

    async def close(self) -> None:
        """Commits no more; what it left open is aborted, if it can still say so."""
        if self._closed or not await self._process.runs():
            return
        self._closed = True
        pending = self._pending
        if pending is not None and not self._broker.is_away(self._process):
            with contextlib.suppress(Fenced):
                self._broker.transactions.end(pending, "aborted")

    def _fate(self, transaction: Transaction) -> tuple[Fault | None, float]:
        """What happens to this commit, and how long each of its four requests takes."""
        broker, faults = self._broker, self._broker.faults
        number = broker.commits[self._name] = broker.commits.get(self._name, 0) + 1
        fault = None if faults.commit is None else faults.commit(self._name, number, transaction)
        if faults.latency is None:
            return fault, 0.0
        return fault, faults.latency("commit", self._process.name) / 4

    async def _stands(self, point: Point, leg: float) -> None:
        """The process stands at a point of its commit where it may be killed or frozen; then the
        next request is under way."""
        process = self._process
        hook = self._broker.faults.crash_point
        if hook is not None:
            hook(point, process.name, self._name)
        if process.halted:
            await process.gate()
        if leg > 0:
            await self._broker.take(process, leg)

    def _check_reach(self) -> None:
        # Nothing was decided: whatever is open there will be aborted.
        if self._broker.is_away(self._process):
            raise TransactionAborted("the log cannot be reached, as was asked for")

    def _add_offsets(self, pending: Pending, transaction: Transaction) -> None:
        if transaction.membership is None or not transaction.offsets:
            return
        transactions = self._broker.transactions
        try:
            transactions.add_offsets(pending, transaction.membership, transaction.offsets)
        except Fenced:
            with contextlib.suppress(Fenced):
                transactions.end(pending, "aborted")
            raise

    async def _end(self, pending: Pending, fault: Fault | None) -> None:
        """It is committed, or what the fault says."""
        broker = self._broker
        await self._stands("in_commit", 0.0)
        if fault is not None:
            await self._go_wrong(pending, fault)
        if broker.is_away(self._process):
            raise OutcomeUnknown(ASKED)
        markers = broker.faults.markers
        delay = 0.0 if markers is None else markers(self._name)
        broker.transactions.end(pending, "committed", delay)

    async def _go_wrong(self, pending: Pending, fault: Fault) -> None:
        broker = self._broker
        if fault is Fault.HANG:
            await broker.hang()
            raise OutcomeUnknown(ASKED)
        if fault is Fault.UNKNOWN:
            raise OutcomeUnknown(ASKED)  # nobody told the log how it ends: it stays open
        if fault is Fault.LATE:
            delay = broker.faults.late(self._name)
            asyncio.get_running_loop().call_later(delay, broker.arrives_late, pending)
            raise OutcomeUnknown(ASKED)
        if fault is Fault.ABORTED:
            broker.transactions.end(pending, "aborted")
            raise TransactionAborted(ASKED)
        if fault is Fault.FENCED:
            broker.transactions.end(pending, "aborted")
            raise Fenced(ASKED)
