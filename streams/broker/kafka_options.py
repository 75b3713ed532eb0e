"""What the clients are told: what exactly-once rests on, good defaults, and the user's own options.

The user's options are one mapping in the client library's words, passed through as it is. A name
may begin with the client it is for (`consumer.fetch.wait.max.ms`); names that begin with
`streams.` are this module's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from streams.errors import LogError

READER_GROUP = "streams.reader"
"""Readers belong to no group; the library wants a name all the same."""

Config = dict[str, Any]

_CLIENTS = ("consumer", "producer", "reader", "admin")
_OWN = {
    "streams.static": "true or false: members keep their seat over a restart",
    "streams.readers": "librdkafka or aiokafka: what reads outside a group",
    "streams.replication": "replicas of a topic that is created; -1 is the broker's default",
}
_SACRED = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "isolation.level",
        "partitioner",
        "request.required.acks",
        "transactional.id",
    }
)
"""Exactly-once, or the protocol of the groups, rests on these."""

_FOR_MEMBERS = (
    "group.",
    "heartbeat.",
    "max.poll.",
    "partition.assignment.",
    "session.",
)
_FOR_READING = (*_FOR_MEMBERS, "check.crcs", "fetch.", "max.partition.fetch.", "queued.")
_FOR_WRITING = (
    "batch.",
    "compression.",
    "delivery.",
    "linger.",
    "message.send.",
    "message.timeout.",
    "queue.buffering.",
    "queuing.",
    "sticky.",
    "transaction.",
)

_ALL: Config = {
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    "retry.backoff.ms": 20,
    "socket.keepalive.enable": True,
    "socket.connection.setup.timeout.ms": 5_000,
    "log.connection.close": False,
    "message.max.bytes": 1_048_576,
    # How late new partitions, and topics that are gone, are noticed; by default 5 minutes.
    "topic.metadata.refresh.interval.ms": 20_000,
}
_READING: Config = {
    # What is not there any more is an error, never a reason to begin somewhere else (R5).
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "allow.auto.create.topics": False,
    "fetch.queue.backoff.ms": 2,
    "fetch.error.backoff.ms": 50,
    "fetch.wait.max.ms": 100,
    "queued.min.messages": 20_000,
}
_WRITING: Config = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    # A producer asks for topics it once knew; unlike a consumer it would have them made anew.
    "allow.auto.create.topics": False,
    "linger.ms": 0,
    # The markers of a transaction are written after its commit was answered. Who begins the next one
    # before that is told to come again (CONCURRENT_TRANSACTIONS), at first after so long.
    "retry.backoff.ms": 2,
    "compression.type": "lz4",
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 1_000_000,
    "topic.metadata.propagation.max.ms": 5_000,
}
_CLASSIC: Config = {
    "session.timeout.ms": 6_000,
    "heartbeat.interval.ms": 2_000,
    "partition.assignment.strategy": "range",
}


class _Quiet(logging.Filter):
    """A broker that is away is told once in ten seconds, not with every attempt to reach it."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[Any, ...], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args if isinstance(record.args, tuple) else ()
        kind = (record.msg, *args[:1])
        if record.created - self._told.get(kind, 0.0) < 10:
            return False
        self._told[kind] = record.created
        return True


logger = logging.getLogger("streams.kafka")
logger.addFilter(_Quiet())


class KafkaOptions(msgspec.Struct, frozen=True):
    """One cluster, and how its clients are made."""

    bootstrap: str
    static: bool = True
    replication: int = -1
    by_aiokafka: bool = False
    """Whether what reads outside any group is aiokafka's."""
    given: Mapping[str, Any] = {}
    """The user's options, checked; may hold secrets, so it is never shown."""

    @classmethod
    def of(cls, bootstrap: str, options: Mapping[str, Any]) -> KafkaOptions:
        """Checked; raises `LogError` with the name, never the value, of one that is not allowed."""
        given = dict(options)
        # The newer protocol lets nobody into the seat of a member that was killed, until it is
        # missed (UNRELEASED_INSTANCE_ID, which is fatal): there, members have none.
        assigned_by_broker = _chosen(given, "group.protocol") == "consumer"
        static = _truth(given.pop("streams.static", not assigned_by_broker))
        replication = int(given.pop("streams.replication", -1))
        readers = str(given.pop("streams.readers", "librdkafka"))
        if readers not in ("librdkafka", "aiokafka"):
            raise _refused("streams.readers", f"it is librdkafka or aiokafka, not {readers}")
        for name in given:
            first, _, rest = name.partition(".")
            if name.startswith("streams."):
                raise _refused(name, f"there are {', '.join(sorted(_OWN))}")
            if (rest if first in _CLIENTS else name) in _SACRED:
                raise _refused(name, "the worker sets it itself")
        return cls(bootstrap, static, replication, readers == "aiokafka", given)

    def __repr__(self) -> str:
        return f"KafkaOptions({self.bootstrap!r}, {sorted(self.given)})"

    @property
    def is_incremental(self) -> bool:
        """Whether a rebalance moves single partitions, not all of them."""
        return self.is_next_generation or "cooperative" in str(
            self._value("partition.assignment.strategy")
        )

    @property
    def is_next_generation(self) -> bool:
        """Whether the broker assigns (KIP-848)."""
        return str(self._value("group.protocol")) == "consumer"

    @property
    def seat_seconds(self) -> float:
        """How long a member that closed is still a member."""
        if not self.static:
            return 0.0
        session = self._value("session.timeout.ms") or _CLASSIC["session.timeout.ms"]
        return int(session) / 1000 + 1

    def _value(self, name: str) -> Any:
        return _chosen(self.given, name)

    def consumer(self, group: str, member: str) -> Config:
        """A member of a group. Call it at least every `max.poll.interval.ms`."""
        config: Config = {
            **_ALL,
            **_READING,
            "max.poll.interval.ms": 30_000,
            **({"group.remote.assignor": "range"} if self.is_next_generation else _CLASSIC),
            "client.id": member,
        }
        config.update(self._given("consumer", _FOR_WRITING))
        config["group.id"] = group
        if self.static:
            config["group.instance.id"] = member
        return self._whole(config)

    def reader(self) -> Config:
        """Reads outside any group."""
        config: Config = {
            **_ALL,
            **_READING,
            # The end of a partition is seen by a fetch that finds nothing, which waits this long.
            "fetch.wait.max.ms": 20,
            "queued.min.messages": 100_000,
            "client.id": "streams.reader",
        }
        config.update(self._given("reader", (*_FOR_WRITING, *_FOR_MEMBERS)))
        config.update({"group.id": READER_GROUP, "enable.partition.eof": True})
        return self._whole(config)

    def producer(self, transactional_id: str | None) -> Config:
        """Writes; transactions where there is an id for them."""
        config: Config = {**_ALL, **_WRITING, "client.id": transactional_id or "streams.publisher"}
        if transactional_id is None:
            config["message.timeout.ms"] = 10_000
        else:
            config["transaction.timeout.ms"] = 10_000
            config["delivery.report.only.error"] = True
        config.update(self._given("producer", _FOR_READING))
        if transactional_id is None:
            config.pop("transaction.timeout.ms", None)
        else:
            config["transactional.id"] = transactional_id
        return self._whole(config)

    def admin(self) -> Config:
        """Asks and changes what there is."""
        config: Config = {**_ALL, "client.id": "streams.admin"}
        config.update(self._given("admin", (*_FOR_READING, *_FOR_WRITING)))
        return self._whole(config)

    def _given(self, client: str, not_for_it: tuple[str, ...]) -> Config:
        """The user's options for this kind of client; those under its own name come last."""
        shared = {
            name: value
            for name, value in self.given.items()
            if name.partition(".")[0] not in _CLIENTS and not name.startswith(not_for_it)
        }
        own = {
            name.partition(".")[2]: value
            for name, value in self.given.items()
            if name.partition(".")[0] == client
        }
        return {**shared, **own}

    def _whole(self, config: Config) -> Config:
        return {**config, "bootstrap.servers": self.bootstrap, "logger": logger}


def _chosen(given: Mapping[str, Any], name: str) -> Any:
    """What the user's options say of consumers."""
    return given.get("consumer." + name, given.get(name))


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes")


def _refused(name: str, why: str) -> LogError:
    return LogError(f"the option {name} is not allowed: {why}", code="K060", help=f"Remove {name}.")
