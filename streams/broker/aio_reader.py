"""Reading partitions by aiokafka: for views in an asyncio process that brings no threads of its own.

Keeps the promises of a reader, no others: aiokafka is never used where a transaction is committed
(docs/design/kafka-adapter.md). Chosen by the option `streams.readers: aiokafka`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streams.broker.kafka_admin import KafkaAdmin
from streams.broker.kafka_options import KafkaOptions
from streams.broker.port import Record, TopicPartition
from streams.clock import Clock
from streams.errors import LogError, LogUnavailable, UserError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

_NAMES = {
    "client.id": "client_id",
    "fetch.max.bytes": "fetch_max_bytes",
    "fetch.min.bytes": "fetch_min_bytes",
    "fetch.wait.max.ms": "fetch_max_wait_ms",
    "max.partition.fetch.bytes": "max_partition_fetch_bytes",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.password": "sasl_plain_password",
    "sasl.username": "sasl_plain_username",
    "security.protocol": "security_protocol",
}
"""The client library's names → this one's. What has no counterpart and no bearing on who may read
is left out."""
_CERTIFICATES = frozenset(
    {"ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password"}
)

EXPLANATIONS: dict[str, str] = {
    "K070": """\
**The package for these readers is not installed.** Readers by aiokafka were asked for
(`streams.readers: aiokafka`). Next: `pip install 'interlock-streams[aio]'`, or leave the option
out: the readers of the base install read the same.""",
    "K071": """\
**An option has no counterpart in aiokafka.** Without it the connection would be less safe than
was asked for, so nothing was opened. Next: leave out `streams.readers: aiokafka`.""",
}


class AioReader:
    """Reads committed records; knows how far it is even where nothing is to be seen."""

    def __init__(self, options: KafkaOptions, admin: KafkaAdmin, clock: Clock) -> None:
        self._options = options
        self._admin = admin
        self._clock = clock
        self._client: AIOKafkaConsumer | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._to_assign = False
        self.closed = False

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Reads exactly these."""
        self._positions = dict(positions)
        self._to_assign = True

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
        from aiokafka.errors import KafkaError, OffsetOutOfRangeError

        try:
            return await self._poll(await self._opened(), max_records, timeout)
        except OffsetOutOfRangeError:
            self._to_assign = True  # trimmed past its position: it goes on at the low watermark
            return []
        except KafkaError as error:
            raise LogUnavailable(f"reading: {error}", code="K020") from error

    async def close(self) -> None:
        """Reads no more."""
        self.closed = True
        self._positions = {}
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    async def _opened(self) -> AIOKafkaConsumer:
        client = self._client
        if client is None:
            client = _consumer(self._options)
            await client.start()
            self._client = client
        if self._to_assign:
            await self._admin.widths({place.topic for place in self._positions})
            lows = await self._admin.watermarks(self._positions)
            begins = {place: max(at, lows[place].low) for place, at in self._positions.items()}
            self._positions = begins
            client.assign([_theirs(place) for place in begins])
            for place, at in begins.items():
                client.seek(_theirs(place), at)
            self._to_assign = False
        return client

    async def _poll(
        self, client: AIOKafkaConsumer, max_records: int, timeout: float
    ) -> list[Record]:
        until = self._clock.monotonic() + timeout
        before = dict(self._positions)
        while True:
            left = max(0, int((until - self._clock.monotonic()) * 1000))
            found = await client.getmany(timeout_ms=min(left, 50), max_records=max_records)
            records = [_record(each) for batch in found.values() for each in batch]
            for place in self._positions:
                self._positions[place] = await client.position(_theirs(place))
            # A position that moved without records is news too: a restore waits for it.
            if records or before != self._positions or self._clock.monotonic() >= until:
                return records


def _consumer(options: KafkaOptions) -> AIOKafkaConsumer:
    try:
        from aiokafka import AIOKafkaConsumer
    except ImportError as missing:
        raise UserError(
            "aiokafka is not installed",
            code="K070",
            help="pip install 'interlock-streams[aio]'",
        ) from missing
    given = options.reader()
    kept = {_NAMES[name]: value for name, value in given.items() if name in _NAMES}
    safe = {*_NAMES, *_CERTIFICATES}
    for name in given:
        if name.startswith(("sasl.", "ssl.", "security.")) and name not in safe:
            raise UserError(f"aiokafka has no option {name}", code="K071")
    protocol = str(kept.get("security_protocol", "PLAINTEXT")).upper()
    if "security_protocol" in kept:
        kept["security_protocol"] = protocol
    if protocol.endswith("SSL"):
        kept["ssl_context"] = _trust(given)
    return AIOKafkaConsumer(
        bootstrap_servers=options.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        **kept,
    )


def _trust(given: Mapping[str, Any]) -> ssl.SSLContext:
    """Who is believed, and who we are."""
    context = ssl.create_default_context(cafile=given.get("ssl.ca.location"))
    if "ssl.certificate.location" in given:
        context.load_cert_chain(
            given["ssl.certificate.location"],
            given.get("ssl.key.location"),
            given.get("ssl.key.password"),
        )
    return context


def _theirs(place: TopicPartition) -> Any:
    from aiokafka import TopicPartition as Theirs

    return Theirs(place.topic, place.partition)


def _record(found: Any) -> Record:
    return Record(
        found.topic,
        found.partition,
        found.offset,
        found.timestamp,
        found.key,
        found.value,
        tuple(found.headers),
    )
