"""Topics that are there against topics that are wanted."""

import pytest

from streams.broker.cluster import ClusterFound, TopicFound
from streams.broker.port import TopicSpec
from streams.runtime.comparing import Terms, judge, missing_topics

WANTED = TopicSpec("t", 4, "delete", -1, {"max.message.bytes": "1048588"}, 3)
GOOD = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "max.message.bytes": "1048588",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
}
TRIAL = Terms(address="h:1")
PRODUCTION = Terms(address="h:1", production=True)


def found(partitions=4, replicas=3, **settings):
    changed = {key.replace("_", "."): value for key, value in settings.items()}
    return TopicFound("t", partitions, replicas, settings={**GOOD, **changed})


def judged(topic, terms=TRIAL, wanted=WANTED, cluster=None, sources=()):
    return judge([wanted], sources, {"t": topic}, cluster, terms)


@pytest.mark.parametrize("terms", [TRIAL, PRODUCTION])
def test_a_topic_as_it_is_wanted_is_no_news(terms):
    """Also one that is safer than was asked for."""
    assert judged(found(), terms) == []
    assert judged(found(replicas=5), terms) == []


def test_missing_topics_are_those_that_nobody_has_made():
    """One that may not be looked at is there."""
    specs = [TopicSpec(name, 1) for name in ("there", "hidden", "gone")]
    topics = {"there": TopicFound("there", 1), "hidden": None}
    assert [spec.name for spec in missing_topics(specs, topics)] == ["gone"]


@pytest.mark.parametrize("laid_out", [True, False])
def test_fewer_partitions_are_refused_always(laid_out):
    """Records would have no place."""
    (finding,) = judged(found(3), Terms(laid_out=laid_out, address="h:1"))
    assert (finding.code, finding.severity) == ("K081", "refused")
    assert finding.message == "topic t has 3 partitions, the pipeline needs 4"
    assert finding.next == (
        "kafka-topics.sh --bootstrap-server h:1 --alter --topic t --partitions 4"
    )


def test_more_partitions_are_refused_before_the_layout_is_fixed():
    """Whoever made the topics with six means six."""
    (finding,) = judged(found(6))
    assert (finding.code, finding.severity) == ("K081", "refused")
    assert finding.next == "set partitions: 6 if all topics of the pipeline are to have so many"


def test_partitions_added_later_stay_unused():
    """Row 27: no reason to stop."""
    (finding,) = judged(found(6), Terms(laid_out=True))
    assert (finding.code, finding.severity) == ("K086", "warning")
    assert finding.message == "topic t has 6 partitions, the pipeline 4: the others stay unused"


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        (found(replicas=2), "topic t has 2 of 3 replicas"),
        (
            found(min_insync_replicas="1"),
            "topic t has min.insync.replicas 1: what was acknowledged may be lost with one broker",
        ),
        (
            found(unclean_leader_election_enable="true"),
            (
                "topic t allows unclean leader election:"
                " what was acknowledged may be lost when a broker returns"
            ),
        ),
    ],
)
def test_what_could_lose_acknowledged_work_is_refused_in_production(topic, message):
    """With the command that mends it."""
    (finding,) = judged(topic, PRODUCTION)
    assert (finding.code, finding.severity, finding.message) == ("K082", "refused", message)
    assert "h:1" in finding.next


def test_the_same_is_no_reason_to_refuse_a_trial():
    """A development broker has one node; only what was asked for and is not there is told."""
    wanted = TopicSpec("t", 4, "delete", -1, {}, 1)
    topic = found(replicas=1, min_insync_replicas="1", unclean_leader_election_enable="true")
    assert judged(topic, wanted=wanted) == []


@pytest.mark.parametrize("terms", [TRIAL, PRODUCTION])
def test_more_in_sync_than_there_are_is_refused_always(terms):
    """Nothing could be written, and the worker would only say that brokers are away."""
    first = judged(found(replicas=1), terms)[0]
    assert (first.code, first.severity) == ("K082", "refused")
    assert first.message.endswith(
        "has 1 replicas, and min.insync.replicas is 2: nothing can be written"
    )
    assert first.next.endswith("--add-config min.insync.replicas=1")


def test_another_setting_is_a_warning_with_its_effect_and_the_command():
    """KT-3: told, never altered. A setting that the cluster refused shows here, too."""
    (finding,) = judged(found(retention_ms="604800000"))
    assert (finding.code, finding.severity) == ("K083", "warning")
    assert finding.message == (
        "topic t has retention.ms 604800000, not -1: what waits for longer than that is lost"
    )
    assert finding.next == (
        "kafka-configs.sh --bootstrap-server h:1 --alter --entity-type topics"
        " --entity-name t --add-config retention.ms=-1"
    )


def test_numbers_are_compared_as_numbers():
    """Brokers write 0.1 as they like."""
    wanted = TopicSpec("t", 4, "compact", config={"min.cleanable.dirty.ratio": "0.1"})
    topic = TopicFound(
        "t", 4, settings={"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.10"}
    )
    assert judged(topic, wanted=wanted) == []


def test_settings_that_may_not_be_read_are_not_guessed():
    """The missing ACL is told by itself."""
    assert judged(TopicFound("t", 4, 3)) == []


def test_an_embedded_log_is_judged_by_what_means_something_there():
    """It has no segments, and a log from before has no such settings."""
    topic = TopicFound("t", 4, settings={"cleanup.policy": "delete", "retention.ms": "5"})
    (finding,) = judged(topic, Terms(compared=("cleanup.policy", "retention.ms")))
    assert (finding.code, finding.next) == ("K083", "")


@pytest.mark.parametrize(("minutes", "codes"), [("10080", ["K085"]), ("43200", [])])
def test_positions_have_to_outlive_a_long_holiday(minutes, codes):
    """Correction 10: 30 days."""
    cluster = ClusterFound("c", 3, {"offsets.retention.minutes": minutes})
    assert [each.code for each in judged(found(), cluster=cluster)] == codes


def test_a_topic_of_others_that_is_not_there_is_told():
    """Nobody of us may make it."""
    (finding,) = judged(found(), sources=["orders"])
    assert (finding.code, finding.severity, finding.subject) == ("K080", "warning", "orders")
