"""The two logs that a scenario is played on."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

from confluent_kafka import KafkaException, Producer

from streams.broker.kafka import KafkaLog
from streams.broker.kafka_errors import error_of, failure
from streams.broker.kafka_records import client_positions, partition_of
from streams.broker.port import Transaction
from streams.clock import SystemClock
from streams.testing.simulated_log import SimulatedLog
from streams.testing.simulated_transactions import Pending
from streams.testing.virtual_time import VirtualClock


class SimulatedGround:
    """The simulated log, in virtual time."""

    prefix = ""

    def __init__(self) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.log = SimulatedLog(self.clock)

    async def leave(self, id: str, transaction: Transaction) -> SimulatedOpen:
        """As its producer would, up to the end."""
        broker = self.log._broker
        transactions = broker.transactions
        pending = await transactions.begin(id, transactions._epochs[id], "")
        broker.append(pending, broker.topics.targets(transaction.records))
        if transaction.membership is not None:
            transactions.add_offsets(pending, transaction.membership, transaction.offsets)
        return SimulatedOpen(self.log, pending)


class SimulatedOpen:
    def __init__(self, log: SimulatedLog, pending: Pending) -> None:
        self._log = log
        self._pending = pending

    async def finish(self, outcome: str) -> None:
        transactions = self._log._broker.transactions
        transactions.end(self._pending, "committed" if outcome == "commit" else "aborted")


class KafkaGround:
    """A cluster that others use, too: every name has a beginning of its own."""

    def __init__(self, log: KafkaLog, bootstrap: str) -> None:
        self.prefix = f"fidelity-{uuid.uuid4().hex[:8]}."
        self.clock = SystemClock()
        self.log = log
        self._bootstrap = bootstrap

    async def leave(self, id: str, transaction: Transaction) -> KafkaOpen:
        return await asyncio.to_thread(self._leave, id, transaction)

    def _leave(self, id: str, transaction: Transaction) -> KafkaOpen:
        options = {
            "bootstrap.servers": self._bootstrap,
            "transactional.id": id,
            "transaction.timeout.ms": 4_000,  # the broker looks every ten seconds
            "logger": logging.getLogger("streams.kafka"),
        }
        client: Any = Producer(options)
        client.init_transactions(20)
        client.begin_transaction()
        if transaction.membership is not None:
            positions = client_positions(transaction.offsets)
            client.send_offsets_to_transaction(positions, transaction.membership.token, 20)
        for each in transaction.records:
            client.produce(each.topic, each.value, each.key, partition_of(each))
        assert client.flush(20) == 0
        return KafkaOpen(client)


class KafkaOpen:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def finish(self, outcome: str) -> None:
        end = self._client.commit_transaction if outcome == "commit" else None
        try:
            await asyncio.to_thread(end or self._client.abort_transaction, 20)
        except KafkaException as error:
            raise failure(error_of(error), "ending a transaction") from error
