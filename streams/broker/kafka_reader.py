"""Reading partitions by offset, outside any group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException

from streams.broker.kafka_admin import KafkaAdmin
from streams.broker.kafka_calls import Hands
from streams.broker.kafka_errors import PARTITION_EOF, WAIT_COORD, error_of, failure
from streams.broker.kafka_options import KafkaOptions
from streams.broker.kafka_records import client_offsets, record_of
from streams.broker.port import Record, TopicPartition
from streams.clock import Clock
from streams.errors import LogError, LogUnavailable, OffsetLost

_NO_GROUP = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED, WAIT_COORD})
"""A reader is in no group: what its coordinator says does not matter."""

CHUNK = 500
"""Messages taken from the library at once: twice as fast as ten thousand."""


class KafkaReader:
    """Reads committed records; knows how far it is even where nothing is to be seen."""

    def __init__(
        self, options: KafkaOptions, admin: KafkaAdmin, clock: Clock, *, uncommitted: bool = False
    ) -> None:
        self._options = options
        self._uncommitted = uncommitted
        self._admin = admin
        self._clock = clock
        self._hands = Hands("kafka.reader", clock)
        self._client: Any = None
        self._positions: dict[TopicPartition, int] = {}
        self._to_assign = False
        self._trimmed: dict[TopicPartition, LogError] = {}
        """What they were to go on with is not in the log any more."""
        self._trouble: LogError | None = None
        self.closed = False

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Reads exactly these."""
        self._positions = dict(positions)
        self._to_assign = True
        self._trimmed.clear()
        self._trouble = None

    def position(self, place: TopicPartition) -> int:
        """The next offset to read."""
        try:
            return self._positions[place]
        except KeyError:
            raise LogError(
                f"{place.topic}/{place.partition} is not assigned", code="K028"
            ) from None

    async def poll(self, max_records: int, timeout: float) -> list[Record]:
        """The next records, as soon as there is one or a position moved; none after `timeout`."""
        if self.closed:
            raise LogError("the reader is closed", code="K028")
        if not self._positions:
            await self._clock.sleep(timeout)
            return []
        if self._to_assign:
            await self._admin.widths({place.topic for place in self._positions})
        try:
            return await self._hands.do(lambda: self._poll(max_records, timeout), timeout + 30)
        except KafkaException as error:
            raise failure(error_of(error), "reading") from error

    async def close(self) -> None:
        """Reads no more."""
        self.closed = True
        self._positions = {}
        await self._hands.end(self._close, 5.0)

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    # -- in the thread ----------------------------------------------------------------------

    def _poll(self, most: int, timeout: float) -> list[Record]:
        if self._client is None:
            options = self._options.reader()
            if self._uncommitted:
                options["isolation.level"] = "read_uncommitted"
            self._client = Client(options)
        until = self._clock.monotonic() + timeout
        before = dict(self._positions)
        while True:
            # Here, where nothing is in hand: whoever asks brokers may not be answered.
            self._begin_again()
            if self._trouble is not None:
                raise self._trouble
            if self._to_assign:
                self._assign()
            left = max(0.0, until - self._clock.monotonic())
            records: list[Record] = []
            messages = self._client.consume(1, left)
            while messages:
                self._take(messages, records)
                room = min(CHUNK, most - len(records))
                messages = self._client.consume(room, 0) if room > 0 else []
            # A position that moved without records is news too: a restore waits for it.
            if records or before != self._positions or self._clock.monotonic() >= until:
                return records

    def _assign(self) -> None:
        """From the offsets asked for, or from where the partitions begin now."""
        lows = self._admin.low_marks(self._positions)
        self._positions = {place: max(at, lows[place]) for place, at in self._positions.items()}
        self._client.assign(client_offsets(self._positions))
        self._to_assign = False

    def _take(self, messages: list[Any], records: list[Record]) -> None:
        positions = self._positions
        for message in messages:
            error = message.error()
            if error is None:
                record = record_of(message)
                # A plain tuple finds the same entry, at half the price.
                positions[record.topic, record.partition] = record.offset + 1  # type: ignore[index]
                records.append(record)
            elif error.code() == PARTITION_EOF:
                place = TopicPartition(message.topic(), message.partition())
                positions[place] = max(positions.get(place, 0), message.offset())
            else:
                self._mind(message, error)

    def _mind(self, message: Any, error: KafkaError) -> None:
        """Trouble that ends the reading is raised when what was read before it was given."""
        if error.code() in _NO_GROUP:
            return
        found = failure(error, f"reading {message.topic() or ''}")
        if isinstance(found, OffsetLost):
            self._trimmed[TopicPartition(message.topic(), message.partition())] = found
        elif not isinstance(found, LogUnavailable):
            self._trouble = found

    def _begin_again(self) -> None:
        """What was trimmed past its position goes on at its low watermark."""
        lows = self._admin.low_marks(self._trimmed)
        for place, low in lows.items():
            if low <= self._positions.get(place, -1):
                # Beyond the end: this is another log than it was.
                self._trouble = self._trimmed[place]
            elif place in self._positions:
                self._positions[place] = low
                self._to_assign = True
        self._trimmed.clear()
