"""The client library's errors, as the port's: what is done next depends on the kind."""

import pytest
from confluent_kafka import KafkaError

from streams.broker.kafka_errors import EXPLANATIONS, failure
from streams.errors import Fenced, LogError, LogUnavailable, OffsetLost, TopicError


@pytest.mark.parametrize(
    ("code", "kind", "known_as"),
    [
        (KafkaError.ILLEGAL_GENERATION, Fenced, "K012"),
        (KafkaError.UNKNOWN_MEMBER_ID, Fenced, "K012"),
        (KafkaError.FENCED_INSTANCE_ID, Fenced, "K012"),
        (KafkaError.PRODUCER_FENCED, Fenced, "K012"),
        (KafkaError.INVALID_PRODUCER_EPOCH, Fenced, "K012"),
        (KafkaError._TIMED_OUT, LogUnavailable, "K013"),
        (KafkaError._ALL_BROKERS_DOWN, LogUnavailable, "K013"),
        (KafkaError.NOT_ENOUGH_REPLICAS, LogUnavailable, "K013"),
        (KafkaError.UNSTABLE_OFFSET_COMMIT, LogUnavailable, "K013"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, TopicError, "K014"),
        (KafkaError._AUTO_OFFSET_RESET, OffsetLost, "K015"),
        (KafkaError.OFFSET_OUT_OF_RANGE, OffsetLost, "K015"),
        (KafkaError._INVALID_ARG, LogError, "K060"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, LogError, "K062"),
        (KafkaError._AUTHENTICATION, LogError, "K063"),
        (KafkaError._FATAL, LogError, "K064"),
        (KafkaError.MSG_SIZE_TOO_LARGE, LogError, "K065"),
        (KafkaError._UNSUPPORTED_FEATURE, LogError, "K066"),
        (KafkaError.UNKNOWN, LogError, "K000"),
    ],
)
def test_each_error_has_its_kind(code, kind, known_as):
    """Fenced and unavailable: begin anew; the others end the worker, loudly."""
    found = failure(KafkaError(code), "reading")
    assert type(found) is kind
    assert found.code == known_as
    assert found.message.startswith("reading: ")


def test_a_consumer_that_was_fenced_says_it_only_in_words():
    """Its code is that of any fatal error; a namesake is no reason to end the worker."""
    words = "Fatal error: Broker: Static consumer fenced by other consumer"
    assert type(failure(KafkaError(KafkaError._FATAL, words), "reading")) is Fenced


def test_every_code_of_ours_is_explained():
    """`streams explain CODE` says what, why and what next."""
    assert sorted(EXPLANATIONS) == ["K060", "K061", "K062", "K063", "K064", "K065", "K066"]
    assert all("Next step: " in text for text in EXPLANATIONS.values())
