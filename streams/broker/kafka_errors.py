"""What can go wrong with Kafka, in words and codes that the operator can act on."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from streams.errors import Fenced, LogError, LogUnavailable, OffsetLost, TopicError

EXPLANATIONS: dict[str, str] = {
    "K060": (
        "**Client option refused.** The client library does not know the option or its value, or "
        "it is one on which exactly-once rests (`enable.auto.commit`, `isolation.level`, `acks`, "
        "`transactional.id`, ...) and which the worker sets itself.\n\n"
        "Next step: correct or remove the option that the message names."
    ),
    "K061": (
        "**A call of the client library did not come back.** The client is given up and a new one "
        "is opened; nothing that is committed is in doubt, what was under way is read again.\n\n"
        "Next step: none, unless it repeats; then look at the brokers and the network."
    ),
    "K062": (
        "**Not authorized.** An ACL for this topic, group or transactional id is missing.\n\n"
        "Next step: `streams plan -o json` lists every ACL that the pipeline needs."
    ),
    "K063": (
        "**The broker refused the login,** or TLS failed.\n\n"
        "Next step: check `security.protocol`, the `sasl.*` and `ssl.*` options and the clocks."
    ),
    "K064": (
        "**The client library gave up for good** (a fatal error). The worker ends, so that its "
        "supervisor starts a new one.\n\nNext step: see the message."
    ),
    "K065": (
        "**Record or position refused.** Larger than the client (`message.max.bytes`) or the topic "
        "(`max.message.bytes`) takes, without a key in a compacted topic, or a position with more "
        "than 4,000 characters of metadata.\n\n"
        "Next step: large data belongs into the blob store; the event carries its `dataref`."
    ),
    "K066": (
        "**The cluster cannot do what is needed:** transactions or consumer groups are not there, "
        "or the broker is older than Kafka 2.5.\n\n"
        "Next step: use a cluster with transactions; exactly-once cannot be had without."
    ),
}

METADATA_LIMIT = 4_000


def _own(name: str) -> int:
    """A code that the library makes itself; their names look private and are documented."""
    code: int = getattr(KafkaError, "_" + name)
    return code


ALL_DOWN = _own("ALL_BROKERS_DOWN")
FATAL = _own("FATAL")
INCONSISTENT = _own("INCONSISTENT")
PURGED = frozenset({_own("PURGE_QUEUE"), _own("PURGE_INFLIGHT")})
MAX_POLL_EXCEEDED = _own("MAX_POLL_EXCEEDED")
MSG_TIMED_OUT = _own("MSG_TIMED_OUT")
PARTITION_EOF = _own("PARTITION_EOF")
STATE = _own("STATE")
TIMED_OUT = _own("TIMED_OUT")
WAIT_COORD = _own("WAIT_COORD")

LOST_GROUP = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)
"""The membership is not that of the group's present generation."""

_SUPERSEDED = LOST_GROUP | {
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    _own("FENCED"),
}
_TOPIC = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        _own("UNKNOWN_TOPIC"),
        _own("UNKNOWN_PARTITION"),
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_CONFIG,
        KafkaError.POLICY_VIOLATION,
    }
)
_REFUSED = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.OFFSET_METADATA_TOO_LARGE}
)
FORBIDDEN = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_LOGIN = frozenset({_own("AUTHENTICATION"), KafkaError.SASL_AUTHENTICATION_FAILED, _own("SSL")})
HOPELESS = _LOGIN
"""Trouble with a connection that waiting does not mend."""
_UNABLE = frozenset({_own("UNSUPPORTED_FEATURE"), KafkaError.UNSUPPORTED_VERSION})
_AWAY = frozenset(
    {
        _own("TRANSPORT"),
        ALL_DOWN,
        TIMED_OUT,
        _own("TIMED_OUT_QUEUE"),
        MSG_TIMED_OUT,
        _own("NOENT"),  # "no leaders found"
        _own("RESOLVE"),
        WAIT_COORD,
        _own("QUEUE_FULL"),
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_CONTROLLER,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.PREFERRED_LEADER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.CONCURRENT_TRANSACTIONS,
    }
)


def error_of(exception: KafkaException) -> KafkaError:
    """The client's error inside its exception."""
    error: KafkaError = exception.args[0]
    return error


def failure(error: KafkaError, doing: str) -> LogError:
    """The error of this package that says what the client's means for the operator."""
    code = error.code()
    text = f"{doing}: {error.str()} ({error.name()})"
    if code in _SUPERSEDED:
        return Fenced(text)
    if code == FATAL and "fenced" in text:
        # A consumer says only so why it gave up; its code is that of any fatal error.
        return Fenced(text)
    if code in (_own("AUTO_OFFSET_RESET"), KafkaError.OFFSET_OUT_OF_RANGE):
        return OffsetLost(text, help="`streams recover` shows what is lost.")
    if code in _TOPIC:
        return TopicError(text, help="`streams apply` creates what the topology needs.")
    if code in _REFUSED:
        return LogError(text, code="K065", help="Put large data into the blob store.")
    if code in FORBIDDEN:
        return LogError(text, code="K062", help="`streams plan -o json` lists the ACLs needed.")
    if code in _LOGIN:
        return LogError(text, code="K063", help="Check the security options.")
    if code in _UNABLE:
        return LogError(text, code="K066", help="Exactly-once needs a cluster with transactions.")
    if code == _own("INVALID_ARG"):
        return LogError(text, code="K060", help="Correct or remove the option.")
    if code == FATAL or error.fatal():
        return LogError(text, code="K064", help="See the message.")
    if code in _AWAY or error.retriable():
        return LogUnavailable(text)
    return LogError(text)


def stuck(name: str, where: str = "") -> LogUnavailable:
    """The error for a client whose call did not come back."""
    at = f" at {where}" if where else ""
    return LogUnavailable(f"{name}: the client library does not answer{at}", code="K061")
