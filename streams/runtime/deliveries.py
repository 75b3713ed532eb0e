"""What a record of a stage's topic says."""

from __future__ import annotations

from streams.broker.port import Record
from streams.codec import kafka
from streams.engine import payload as payloads
from streams.engine.messages import AnyDelivery, AnyEvent, decode_stage_event, read
from streams.engine.payload import Payload


def opened(record: Record) -> tuple[AnyEvent, AnyDelivery, Payload]:
    """Event, delivery and payload of a record; those of a hop's own form are one object, read once.
    Raises `StreamsError` if it says nothing to a stage."""
    if record.headers == kafka.STRUCTURED_HEADERS and record.value is not None:
        own = decode_stage_event(record.value)
        if own is not None:
            return own, own, own.data
    event = kafka.decode(record.value, record.headers)
    delivery = read(event)
    return event, delivery, payloads.decode(delivery.data)
