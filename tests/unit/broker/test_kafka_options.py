"""What the clients of a Kafka cluster are told."""

import pytest

from streams.broker.kafka_options import KafkaOptions
from streams.errors import LogError


def options(**given):
    return KafkaOptions.of("b:9092", given)


def test_a_member_reads_committed_records_and_never_begins_somewhere_else():
    """R5: no position is an error; falling back to the latest would lose events in silence."""
    config = options().consumer("g", "m")
    assert config["isolation.level"] == "read_committed"
    assert config["auto.offset.reset"] == "error"
    assert config["enable.auto.commit"] is False
    assert config["group.instance.id"] == "m"
    assert config["partition.assignment.strategy"] == "range"


def test_a_producer_is_idempotent_and_hashes_keys_as_kafka_does():
    """KT-4; foreign producers in Java must agree with ours about where a key lives."""
    config = options().producer("id")
    assert config["acks"] == "all"
    assert config["enable.idempotence"] is True
    assert config["partitioner"] == "murmur2_random"
    assert config["linger.ms"] == 0
    assert config["retry.backoff.ms"] == 2  # each commit under load meets CONCURRENT_TRANSACTIONS
    assert config["transaction.timeout.ms"] == 10_000
    assert config["transactional.id"] == "id"


@pytest.mark.parametrize(
    "name", ["enable.auto.commit", "isolation.level", "acks", "consumer.group.id", "group.id"]
)
def test_what_exactly_once_rests_on_cannot_be_changed(name):
    """A setting copied from elsewhere must not turn the guarantee off in silence."""
    with pytest.raises(LogError, match=f"the option {name} is not allowed") as caught:
        options(**{name: "none"})
    assert caught.value.code == "K060"


def test_an_unknown_option_of_ours_is_refused():
    """A typing error would leave the default in place."""
    with pytest.raises(LogError, match=r"streams.replicas is not allowed: there are"):
        options(**{"streams.replicas": 3})


def test_options_reach_the_clients_that_know_them():
    """The library warns of an option of another kind of client; nobody could tell it apart."""
    made = options(
        **{"security.protocol": "SSL", "session.timeout.ms": 10_000, "compression.type": "zstd"}
    )
    clients = (made.consumer("g", "m"), made.producer("id"), made.reader(), made.admin())
    assert [config["security.protocol"] for config in clients] == ["SSL"] * 4
    assert [config.get("session.timeout.ms") for config in clients] == [10_000, None, None, None]
    assert [config.get("compression.type") for config in clients] == [None, "zstd", None, None]


def test_a_name_with_its_client_before_it_is_for_that_client_alone():
    """A reader may wait longer than a member."""
    made = options(**{"fetch.wait.max.ms": 50, "reader.fetch.wait.max.ms": 5})
    assert made.consumer("g", "m")["fetch.wait.max.ms"] == 50
    assert made.reader()["fetch.wait.max.ms"] == 5


def test_secrets_are_not_shown():
    """Options are printed in error reports and traces."""
    made = options(**{"sasl.password": "hunter2", "ssl.key.password": "hunter3"})
    assert "hunter" not in repr(made)
    assert "hunter" not in str(made)


def test_where_the_broker_assigns_the_classic_settings_are_left_out():
    """KIP-848: the library refuses a session time-out of ours."""
    config = options(**{"group.protocol": "consumer"}).consumer("g", "m")
    assert "session.timeout.ms" not in config
    assert "partition.assignment.strategy" not in config
    assert config["group.remote.assignor"] == "range"


@pytest.mark.parametrize("value", [False, "false", "no"])
def test_members_may_do_without_seats(value):
    """Pools that grow and shrink leave at once instead of keeping a seat for a session."""
    made = options(**{"streams.static": value})
    assert "group.instance.id" not in made.consumer("g", "m")
    assert made.seat_seconds == 0
    assert options().seat_seconds == 7


@pytest.mark.parametrize("name", ["group.protocol", "consumer.group.protocol"])
def test_where_the_broker_assigns_members_have_no_seats_unless_they_are_asked_for(name):
    """KIP-848 refuses whoever comes back to the seat of a member that was killed."""
    assert "group.instance.id" not in options(**{name: "consumer"}).consumer("g", "m")
    asked = options(**{name: "consumer", "streams.static": True})
    assert asked.consumer("g", "m")["group.instance.id"] == "m"
