"""What has to be allowed on a cluster, and what of it is missing."""

from streams.runtime.access import Acl, acls, groups, missing, transactional_ids
from streams.runtime.topics import topics
from streams.topology.plan import Naming, Part, Plan, SourceTopic

NAMING = Naming("ns", "p")
PLAN = Plan("p", "1", (Part("a", "stage", "t"), Part("b", "stage", "t", pool="gpu")))


def of(role, resource="topic"):
    wanted = topics(NAMING, [PLAN], 4)
    found = acls(NAMING, wanted, groups(NAMING, [PLAN]), ["elsewhere"])
    return {
        acl.name: (acl.pattern, acl.operations)
        for acl in found
        if (acl.role, acl.resource) == (role, resource)
    }


def test_there_is_a_group_for_each_pool_and_one_for_the_coordinators():
    """And their transactional ids begin with the group's name: the worker's follows."""
    assert groups(NAMING, [PLAN]) == ["ns.p.keeper", "ns.p.pool-default", "ns.p.pool-gpu"]
    assert transactional_ids(["ns.p.keeper"]) == ["ns.p.keeper."]


def test_a_plan_that_reads_the_topics_of_others_has_a_group_for_it():
    """Its positions are committed like any other."""
    plan = Plan("p", "1", PLAN.parts, sources=(SourceTopic("elsewhere"),))
    assert groups(NAMING, [plan])[-1] == NAMING.source_group


def test_a_worker_writes_to_the_intake_only_what_it_reads_of_others():
    """Without a source it submits nothing."""
    found = acls(NAMING, topics(NAMING, [PLAN], 2), groups(NAMING, [PLAN]))
    (intake,) = [each for each in found if each.role == "worker" and each.name == "ns.p.intake"]
    assert intake.operations == ("read", "describe_configs")


def test_a_worker_may_do_what_it_does_and_no_more():
    """Least privilege: it does not read what only users read."""
    assert of("worker") == {
        "ns.p.intake": ("literal", ("read", "write", "describe_configs")),
        "ns.p.hold": ("literal", ("read", "write", "delete", "describe_configs")),
        "ns.p.ledger": ("literal", ("read", "write", "describe_configs")),
        "ns.p.control": ("literal", ("read", "write", "describe_configs")),
        "ns.p.done": ("literal", ("write", "describe_configs")),
        "ns.p.dead": ("literal", ("write", "describe_configs")),
        "ns.p.a": ("literal", ("read", "write", "delete", "describe_configs")),
        "ns.p.b": ("literal", ("read", "write", "delete", "describe_configs")),
        "elsewhere": ("literal", ("read",)),
    }
    assert of("worker", "transactional_id") == {
        "ns.p.keeper.": ("prefixed", ("write",)),
        "ns.p.pool-default.": ("prefixed", ("write",)),
        "ns.p.pool-gpu.": ("prefixed", ("write",)),
    }


def test_a_client_writes_to_the_intake_only():
    """It never writes a row: it publishes events."""
    writable = [name for name, (_, operations) in of("client").items() if "write" in operations]
    assert writable == ["ns.p.intake"]


def test_only_apply_may_create():
    """Workers of production need not be able to."""
    assert all("create" not in operations for _, operations in of("worker").values())
    assert all("create" in operations for _, operations in of("apply").values())


def test_what_is_not_granted_is_named_with_its_operations():
    """Describing comes with reading and writing; what the cluster does not say is believed."""
    needed = [
        Acl("apply", "topic", "t", ("describe", "read", "write")),
        Acl("apply", "topic", "unknown", ("read",)),
        Acl("apply", "group", "g", ("read",)),
    ]
    granted = {
        ("topic", "t"): frozenset({"write"}),
        ("group", "g"): frozenset({"all"}),
        ("topic", "unknown"): None,
    }
    assert [str(acl) for acl in missing(needed, granted)] == ["read on topic t"]


def test_a_prefix_is_told_as_one():
    """Whoever grants it has to know."""
    acl = Acl("worker", "transactional_id", "ns.p.keeper.", ("write",), "prefixed")
    assert str(acl) == "write on transactional id ns.p.keeper. (prefix)"
