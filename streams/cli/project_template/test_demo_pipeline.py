"""Tests of the whole pipeline, in virtual time: two workers, three partitions, no broker."""

from collections.abc import Callable

import pytest

from streams.testing import TopologyTester

THIN = {"title": "Salt", "text": "It melts ice. Shoes suffer."}


@pytest.fixture
def demo(topology_tester: Callable[..., TopologyTester]) -> TopologyTester:
    """The pipeline, with a thin summary submitted."""
    tester = topology_tester("pipeline.yaml")
    tester.submit(id="doc-1", params=THIN)
    tester.run_until_idle()
    return tester


def test_a_thin_summary_waits_until_somebody_has_looked_at_it(demo: TopologyTester) -> None:
    assert demo.held("review") == ["doc-1"]

    demo.fact("doc-1", reviewed=True)
    demo.run_until_idle()

    assert demo.outputs("publish") == {"doc-1": {"line": "Salt: It melts ice."}}


def test_a_crash_in_the_middle_publishes_once(demo: TopologyTester) -> None:
    demo.fact("doc-1", reviewed=True)
    demo.crash_before_commit("publish")
    demo.run_until_idle()

    assert demo.crashes == 1
    assert demo.job("doc-1").status == "succeeded"
    assert demo.done == {"doc-1": "succeeded"}
