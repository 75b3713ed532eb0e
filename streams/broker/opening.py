"""The log that the settings name, opened: a Kafka cluster where one is set, else the embedded log."""

from __future__ import annotations

from streams.broker.port import Log
from streams.clock import Clock
from streams.settings import Settings


def open_log(settings: Settings, clock: Clock) -> Log:
    """The log; the embedded one's file is made if it is not there. Raises `LogError`."""
    kafka = settings.kafka
    if kafka.bootstrap:
        from streams.broker.kafka import KafkaLog

        return KafkaLog.open(kafka.bootstrap, clock=clock, options=kafka.options)
    from streams.broker.local import LocalLog

    settings.log.parent.mkdir(parents=True, exist_ok=True)
    return LocalLog.open(settings.log, clock=clock)
