"""Who owns what is one pure function of the group, the same for every member that computes it."""

from hypothesis import given
from hypothesis import strategies as st

from streams.broker.local_groups import assignment
from streams.broker.port import TopicPartition

names = st.text("abcdef", min_size=1, max_size=3)
groups = st.dictionaries(names, st.sets(st.sampled_from(["t", "u", "v"])), max_size=6)
layouts = st.dictionaries(st.sampled_from(["t", "u", "v"]), st.integers(1, 9))


def places(topic, *numbers):
    return {TopicPartition(topic, number) for number in numbers}


def test_ranges_go_to_the_sorted_members():
    """Range keeps intake p and hold p together while all subscribe alike (protocol, 3)."""
    members = {"b": ["t", "u"], "a": ["t", "u"]}
    assert assignment(members, {"t": 3, "u": 2}) == {
        "a": places("t", 0, 1) | places("u", 0),
        "b": places("t", 2) | places("u", 1),
    }


def test_only_subscribers_of_a_topic_share_it():
    """Pools read different stages in one group."""
    members = {"a": ["t"], "b": ["t", "u"]}
    assert assignment(members, {"t": 2, "u": 2}) == {
        "a": places("t", 0),
        "b": places("t", 1) | places("u", 0, 1),
    }


def test_members_beyond_the_partitions_get_nothing():
    """They stand by."""
    assert assignment({"a": ["t"], "b": ["t"]}, {"t": 1}) == {"a": places("t", 0), "b": set()}


@given(groups, layouts)
def test_each_partition_with_a_subscriber_has_exactly_one_owner(members, topics):
    """Two owners would run an event twice, none would never run it."""
    shares = assignment(members, topics)
    given_out = [place for share in shares.values() for place in share]
    wanted = {topic for subscribed in members.values() for topic in subscribed}
    expected = {TopicPartition(t, p) for t, n in topics.items() if t in wanted for p in range(n)}
    assert sorted(given_out) == sorted(expected)
    assert all(p.topic in members[name] for name, share in shares.items() for p in share)


@given(groups, layouts)
def test_the_order_of_members_does_not_matter(members, topics):
    """Each process reads the members in its own order."""
    reversed_members = dict(reversed(members.items()))
    assert assignment(members, topics) == assignment(reversed_members, topics)
