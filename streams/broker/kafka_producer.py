"""Transactions on Kafka: one at a time, under a stable id, each with the membership it was read
under."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as Client

from streams.broker.kafka_admin import KafkaAdmin
from streams.broker.kafka_calls import Hands
from streams.broker.kafka_errors import INCONSISTENT, PURGED, error_of, failure
from streams.broker.kafka_options import KafkaOptions
from streams.broker.kafka_records import client_positions, partition_of
from streams.broker.port import Header, Outgoing, Transaction
from streams.clock import Clock
from streams.errors import (
    Fenced,
    LogError,
    LogUnavailable,
    OutcomeUnknown,
    TransactionAborted,
)

OPENING = 30.0
"""Seconds until the id must be ours: what a former process left open has to end first."""
COMMITTING = 12.0
"""Seconds for a whole transaction; the broker aborts it after `transaction.timeout.ms` (10 s)."""
ABORTING = 8.0
ONE_CALL = 5.0
"""Seconds after which a call is made again, which goes on where the last one was."""


class KafkaProducer:
    """Commits under an id; whoever opened the id last may."""

    def __init__(self, options: KafkaOptions, admin: KafkaAdmin, clock: Clock, name: str) -> None:
        self._options = options
        self._admin = admin
        self._clock = clock
        self._name = name
        self._hands = Hands(f"kafka.producer.{name}", clock)
        self._client: Any = None
        self._broken: LogError | None = None
        self._over: LogError | None = None
        """Said by the thread: why the client can commit no more."""
        self._late = False
        """A request of the last transaction may still arrive, and would be taken for the next one's
        (no client has KIP-890 yet): that one needs another epoch."""
        self._refused: KafkaError | None = None
        self.closed = False

    async def open(self) -> None:
        """The id is ours: its namesakes are fenced, what they left open is aborted."""
        try:
            await self._hands.do(self._open)
        except BaseException:
            await self.close()
            raise

    def _open(self) -> None:
        until = self._clock.monotonic() + OPENING
        try:
            options = self._options.producer(self._name)
            self._client = Client({**options, "on_delivery": self._undelivered})
            self._patiently(self._client.init_transactions, until)
        except KafkaException as error:
            raise failure(error_of(error), f"opening the producer {self._name}") from error

    @property
    def is_broken(self) -> bool:
        """Whether another one has to be opened."""
        return self._broken is not None

    async def commit(self, transaction: Transaction) -> None:
        """All of it is visible; else one of the errors of `port.Producer`."""
        if self.closed:
            raise LogError(f"the producer {self._name} is closed", code="K028")
        if self._broken is not None:
            raise self._broken
        if transaction.offsets and transaction.membership is None:
            raise LogError("offsets need the membership they were read under", code="K028")
        if not transaction.offsets and not transaction.records:
            return
        await self._admin.check(transaction.records)
        positions = client_positions(transaction.offsets)
        token = transaction.membership.token if transaction.membership is not None else None
        # Whatever ends this call early leaves doubt: a late answer must not meet the next one.
        self._broken = OutcomeUnknown(f"a commit of {self._name} was given up before it ended")
        try:
            await self._hands.do(lambda: self._commit(transaction.records, positions, token))
        except LogError as error:
            if self._hands.is_stuck:
                raise OutcomeUnknown(error.message, code=error.code) from error
            self._broken = self._over
            raise
        self._broken = None

    async def close(self) -> None:
        """Gives the id back; never raises."""
        self.closed = True
        await self._hands.end(self._close, 5.0)

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._over is None and self._broken is None:
            client.close()

    # -- in the thread ----------------------------------------------------------------------

    def _commit(self, records: Sequence[Outgoing], positions: list[Any], token: Any) -> None:
        if self._late:
            self._late = False
            self._open()
        client, self._refused = self._client, None
        until = self._clock.monotonic() + COMMITTING
        try:
            client.begin_transaction()
            if positions:
                # First, so that one who has lost the group writes nothing at all. Large
                # transactions gain by it, small ones pay one round trip.
                self._patiently(
                    lambda left: client.send_offsets_to_transaction(positions, token, left), until
                )
            self._produce(records, until)
        except KafkaException as error:
            raise self._abandoned(error) from error
        except BufferError as error:
            raise self._abandoned(None) from error
        try:
            self._patiently(client.commit_transaction, until)
        except KafkaException as error:
            found = error_of(error)
            if found.fatal() or found.txn_requires_abort():
                raise self._abandoned(error) from error
            raise self._doubtful(failure(found, f"committing {self._name}")) from error

    def _produce(self, records: Sequence[Outgoing], until: float) -> None:
        produce = self._client.produce
        given: tuple[Header, ...] = ()
        headers: list[Header] | None = None
        for record in records:
            if record.headers is not given:  # events of stages all have the same ones
                given = record.headers
                headers = list(given) if given else None
            partition = record.partition
            if partition is None:
                partition = partition_of(record)
            while True:
                try:
                    produce(record.topic, record.value, record.key, partition, headers=headers)
                    break
                except BufferError:
                    if self._clock.monotonic() > until:
                        raise
                    self._client.poll(0.05)

    def _patiently(self, call: Callable[[float], Any], until: float) -> None:
        """Makes a call again for as long as that can help; each goes on where the last one was."""
        while True:
            left = until - self._clock.monotonic()
            seconds = max(0.1, min(ONE_CALL, left))
            try:
                with self._hands.watched(seconds):
                    call(seconds)
                return
            except KafkaException as error:
                if not error_of(error).retriable() or left <= 0:
                    raise
                self._late = True
            self._client.poll(0.02)

    def _undelivered(self, error: KafkaError | None, _message: object) -> None:
        """Why the first record failed that did; the commit says only that some did."""
        if error is not None and self._refused is None and error.code() not in PURGED:
            self._refused = error

    def _abandoned(self, error: KafkaException | None) -> LogError:
        """Ends a transaction that cannot be committed; what became of it, as an error to raise."""
        if error is None:
            found: LogError = LogUnavailable("the broker takes no more records")
        else:
            found = failure(error_of(error), f"transaction of {self._name}")
            if error_of(error).code() == INCONSISTENT:
                self._client.poll(0)
                refused = self._refused
                found = (
                    failure(refused, f"a record of {self._name}")
                    if refused is not None
                    else LogUnavailable(found.message)
                )
            if error_of(error).fatal():
                return self._doubtful(found)
        try:
            self._patiently(self._client.abort_transaction, self._clock.monotonic() + ABORTING)
        except KafkaException as second:
            return self._doubtful(failure(error_of(second), f"aborting {self._name}"))
        if isinstance(found, LogUnavailable):
            return TransactionAborted(found.message, code=found.code)
        return found

    def _doubtful(self, found: LogError) -> LogError:
        """The client is of no use any more; whether anything was committed is not known unless
        somebody else has the id now."""
        if not isinstance(found, Fenced):
            found = OutcomeUnknown(found.message)
        self._over = found
        return found
