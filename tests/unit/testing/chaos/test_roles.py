"""Whom row 6 kills: names are numbered as brokers number them."""

from streams.testing.chaos.roles import java_hash


def test_names_have_the_number_that_brokers_give_them():
    """The coordinator of a group or a transactional id leads the partition of its number."""
    assert [java_hash(name) for name in ("", "a", "abc")] == [0, 97, 96_354]
    assert java_hash("zzzzzz") == 685_785_664, "what Java takes for negative has lost its sign"
    assert java_hash("polygenelubricants") == 0, "the one number that has no opposite"
