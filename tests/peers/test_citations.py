"""Every test of this folder answers somebody: it cites the issue, and says what holds here."""

import pytest

from tests.docs.pages import ROOT
from tests.peers.citations import Citation, citations, page


def by_name(each: Citation) -> str:
    return each.test


@pytest.mark.parametrize("each", citations(), ids=by_name)
def test_a_test_cites_its_issue_and_says_what_holds(each):
    """A reader has to find the complaint, and what was done about it, without the code."""
    assert each.issues, "the docstring begins with owner/repo#number:"
    assert each.complaint.endswith(".")
    assert each.holds.endswith(".")


def test_more_than_twenty_issues_are_answered():
    """Issue 4 asks for twenty, of three systems."""
    cited = {issue for each in citations() for issue in each.issues}
    owners = {issue.split("/")[0] for issue in cited}

    assert len(cited) >= 40
    assert {"DependencyTrack", "faust-streaming", "robinhood", "quixio"} <= owners


def test_no_issue_is_counted_twice():
    """Two tests for one complaint would make the count say more than is there."""
    cited = [issue for each in citations() for issue in each.issues]

    assert sorted(cited) == sorted(set(cited))


def test_the_page_says_what_the_tests_say():
    """After a change here: `python -m tests.peers.citations > docs/peers.md`."""
    assert (ROOT / "docs/peers.md").read_text(encoding="utf-8") == page()
