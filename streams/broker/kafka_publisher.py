"""Appending outside any group: single records go together as they come, several at once or not
at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as Client

from streams.broker.kafka_admin import KafkaAdmin
from streams.broker.kafka_calls import Hands
from streams.broker.kafka_errors import MSG_TIMED_OUT, TIMED_OUT, error_of, failure
from streams.broker.kafka_options import KafkaOptions
from streams.broker.kafka_producer import KafkaProducer
from streams.broker.kafka_records import partition_of
from streams.broker.port import Outgoing, Transaction
from streams.clock import Clock
from streams.errors import Fenced, LogError, LogUnavailable, OutcomeUnknown, TransactionAborted

WRITING = 15.0
"""Seconds until every record was taken or refused; longer than `message.timeout.ms`."""

PERHAPS_WRITTEN = frozenset({MSG_TIMED_OUT, TIMED_OUT})


class KafkaPublisher:
    """Writes for gateways and tools."""

    def __init__(self, options: KafkaOptions, admin: KafkaAdmin, clock: Clock) -> None:
        self._options = options
        self._admin = admin
        self._clock = clock
        self._hands = Hands("kafka.publisher", clock)
        self._client: Any = None
        self._waiting: list[tuple[Outgoing, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._together: KafkaProducer | None = None
        self._one = asyncio.Lock()

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """All stand in the log, or none if it raises `TransactionAborted` or `TopicError`."""
        if len(records) == 1:
            await self._publish_one(records[0])
        elif records:
            async with self._one:
                await self._publish_together(records)

    async def close(self) -> None:
        """Writes no more."""
        if self._together is not None:
            await self._together.close()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

        def last() -> None:
            client, self._client = self._client, None
            if client is not None:
                client.flush(1.0)

        await self._hands.end(last, 3.0)

    # -- several ----------------------------------------------------------------------------

    async def _publish_together(self, records: Sequence[Outgoing]) -> None:
        if self._together is None:
            # Nobody comes back under this id: what it leaves open ends with its timeout (10 s).
            name = f"streams.publisher.{self._clock.new_id()}"
            producer = KafkaProducer(self._options, self._admin, self._clock, name)
            await producer.open()
            self._together = producer
        producer = self._together
        try:
            await producer.commit(Transaction(list(records)))
        except Fenced as error:
            # The broker ended the transaction after its time: nothing of it is there.
            self._together = None
            await producer.close()
            raise TransactionAborted(error.message) from error
        except BaseException:
            if producer.is_broken:
                self._together = None
                await producer.close()
            raise

    # -- one by one -------------------------------------------------------------------------

    async def _publish_one(self, record: Outgoing) -> None:
        await self._admin.check([record])
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting(), name="kafka.publisher")
        await future

    async def _write_waiting(self) -> None:
        """What comes while some are being written goes with the next."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                outcomes = await self._hands.do(lambda: self._write([one for one, _ in batch]))  # noqa: B023 - awaited at once
            except LogUnavailable as error:
                outcomes = [OutcomeUnknown(error.message, code=error.code)] * len(batch)
            except LogError as error:
                outcomes = [error] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if outcome is None:
                    future.set_result(None)
                else:
                    future.set_exception(outcome)

    def _write(self, records: list[Outgoing]) -> list[LogError | None]:
        if self._client is None:
            try:
                self._client = Client(self._options.producer(None))
            except KafkaException as error:
                raise failure(error_of(error), "opening the publisher") from error
        late: LogError = OutcomeUnknown(f"not confirmed within {WRITING:g} s")
        outcomes: list[LogError | None] = [late] * len(records)
        for number, record in enumerate(records):

            def heard(error: KafkaError | None, _: object, number: int = number) -> None:
                outcomes[number] = None if error is None else _refusal(error)

            try:
                self._client.produce(
                    record.topic, record.value, record.key, partition_of(record),
                    on_delivery=heard, headers=list(record.headers) or None,
                )  # fmt: skip
            except KafkaException as error:
                outcomes[number] = _refusal(error_of(error))
            except BufferError:
                outcomes[number] = TransactionAborted("too much waits to be written already")
        self._client.flush(WRITING)
        return outcomes


def _refusal(error: KafkaError) -> LogError:
    found = failure(error, "publishing")
    if error.code() in PERHAPS_WRITTEN:
        return OutcomeUnknown(found.message)
    if isinstance(found, LogUnavailable):
        return TransactionAborted(found.message, code=found.code)
    return found
