"""Records of the client library and of the port, into each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import TopicPartition as ClientPlace

from streams.broker.kafka_errors import METADATA_LIMIT
from streams.broker.port import Committed, Outgoing, Record, TopicPartition
from streams.errors import LogError


def record_of(message: Any) -> Record:
    """The port's form of a message."""
    headers = message.headers()
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(headers) if headers else (),
    )


def partition_of(record: Outgoing) -> int:
    """Where it goes; -1 lets the library hash the key as Kafka does."""
    if record.partition is not None:
        return record.partition
    return 0 if record.key is None else -1


def place_of(place: Any) -> TopicPartition:
    """The port's form of a partition."""
    return TopicPartition(place.topic, place.partition)


def committed_of(place: Any) -> Committed | None:
    """The position that was found with a partition, None if there is none."""
    if place.offset < 0:
        return None
    return Committed(place.offset, place.metadata or "")


def client_places(places: Iterable[TopicPartition]) -> list[ClientPlace]:
    """The library's form, without offsets."""
    return [ClientPlace(place.topic, place.partition) for place in places]


def client_offsets(offsets: Mapping[TopicPartition, int]) -> list[ClientPlace]:
    """The library's form, with offsets."""
    return [ClientPlace(place.topic, place.partition, at) for place, at in offsets.items()]


def client_positions(positions: Mapping[TopicPartition, Committed]) -> list[ClientPlace]:
    """The library's form of what a group commits. Raises `LogError` where it is too long."""
    for place, committed in positions.items():
        if len(committed.metadata) > METADATA_LIMIT:
            raise LogError(
                f"{len(committed.metadata):,} characters beside the position of"
                f" {place.topic}/{place.partition}: {METADATA_LIMIT:,} are allowed",
                code="K065",
            )
    return [
        ClientPlace(place.topic, place.partition, committed.offset, committed.metadata)
        for place, committed in positions.items()
    ]
