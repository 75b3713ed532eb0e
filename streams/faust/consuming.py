"""Faust's consumer, told to leave out what a transaction took back.

A keeper and the workers write in transactions. Faust reads `read_uncommitted` unless the whole app
is `exactly_once`, so an agent would run events that never happened.
"""

from __future__ import annotations

from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport


class CommittedTransport(Transport):
    """Makes consumers that see committed records only."""


class _Thread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        # The one place where Faust decides about isolation; it asks this flag, which stands for
        # Faust's own transactions everywhere else.
        self.consumer.in_transaction = True
        try:
            return super()._create_worker_consumer(transport)
        finally:
            self.consumer.in_transaction = False


class _Consumer(Consumer):
    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


CommittedTransport.Consumer = _Consumer
