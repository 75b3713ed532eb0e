"""Topics as a pipeline wants them (KT-2, KT-3)."""

from streams.runtime.topics import EFFECTS, topics
from streams.topology.plan import Naming, Part, Plan

NAMING = Naming("ns", "p")
PLAN = Plan("p", "1", (Part("a", "stage", "t"), Part("g", "gate", "gate"), Part("b", "uses", "t")))
DAY = 86_400_000


def by_name(**more):
    return {spec.name: spec for spec in topics(NAMING, [PLAN], 6, **more)}


def test_a_pipeline_has_six_topics_and_one_for_each_stage_with_user_code():
    """Decision 3: gates and all that is the keeper's have none of their own."""
    assert {name: spec.partitions for name, spec in by_name().items()} == {
        "ns.p.intake": 6,
        "ns.p.hold": 6,
        "ns.p.ledger": 6,
        "ns.p.control": 1,
        "ns.p.done": 6,
        "ns.p.dead": 6,
        "ns.p.a": 6,
        "ns.p.b": 6,
    }


def test_a_stage_that_only_an_older_plan_has_keeps_its_topic():
    """Jobs that began with that plan still need it."""
    older = Plan("p", "0", (Part("gone", "stage", "t"),))
    names = [spec.name for spec in topics(NAMING, [PLAN, older], 6)]
    assert "ns.p.gone" in names
    assert len(names) == len(set(names))


def test_what_waits_does_not_expire_and_what_is_over_does():
    """KT-3, correction 10: a stage that is down for 8 days must not lose jobs."""
    kept = {name: spec.settings.get("retention.ms") for name, spec in by_name().items()}
    assert kept == {
        "ns.p.intake": str(30 * DAY),
        "ns.p.hold": "-1",
        "ns.p.ledger": None,
        "ns.p.control": None,
        "ns.p.done": str(30 * DAY),
        "ns.p.dead": str(30 * DAY),
        "ns.p.a": "-1",
        "ns.p.b": "-1",
    }


def test_tables_are_compacted_in_time_and_show_deletions_for_long_enough():
    """KT-2: the open segment is never compacted; a late reader must still see deletions."""
    for name in ("ns.p.ledger", "ns.p.control"):
        assert by_name()[name].settings == {
            "cleanup.policy": "compact",
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": "1048588",
            "min.cleanable.dirty.ratio": "0.1",
            "segment.ms": "3600000",
            "segment.bytes": "67108864",
            "max.compaction.lag.ms": "86400000",
            "delete.retention.ms": "604800000",
        }


def test_from_three_replicas_on_two_must_have_each_record():
    """With fewer replicas the setting would stop all writing when one broker is away."""
    three, one = by_name(replicas=3), by_name(replicas=1)
    assert {spec.settings["min.insync.replicas"] for spec in three.values()} == {"2"}
    assert {spec.replicas for spec in three.values()} == {3}
    assert not any("min.insync.replicas" in spec.settings for spec in one.values())


def test_every_setting_has_an_effect_that_can_be_told():
    """A warning without its effect helps nobody."""
    settings = {key for spec in by_name(replicas=3).values() for key in spec.settings}
    assert settings <= EFFECTS.keys()
