"""When a load has recovered from a fault."""

from streams.testing.chaos.rates import Rates
from streams.testing.chaos.verdict import Verdict, markdown


def rates(*stretches):
    """Ten rows a second in each stretch."""
    return Rates([n / 10 for begin, end in stretches for n in range(begin * 10, end * 10)])


def test_a_load_has_recovered_when_its_rate_stays_what_it_was():
    """90 % of the rate before, in windows of two seconds: the first may miss a tenth of its rows."""
    seconds = rates((0, 20), (25, 60)).recovered(20.0, 10.0, 60.0)

    assert seconds is not None
    assert round(seconds, 1) == 4.7


def test_a_fault_that_nobody_noticed_needs_no_recovery():
    """Nothing fell within three seconds."""
    assert rates((0, 60)).recovered(20.0, 10.0, 60.0) == 0.0


def test_a_load_that_does_not_come_back_has_not_recovered():
    """Half of the rate is not the rate."""
    slow = Rates([*(n / 10 for n in range(200)), *(20 + n / 5 for n in range(200))])

    assert slow.recovered(20.0, 10.0, 60.0) is None


def test_the_longest_silence_counts_from_edge_to_edge():
    """What readers notice of a transaction that nobody ends."""
    assert rates((0, 10), (14, 20)).longest_silence(5.0, 19.0) == 14.0 - 9.9


def test_a_verdict_fails_with_its_reasons():
    """The table says which rule was broken; a row that was not run is never passed."""
    good = Verdict(2, "SIGTERM", repeats=2)
    good.recovered(1.26, 20.0)
    bad = Verdict(3, "SIGSTOP", repeats=1)
    bad.recovered(None, 20.0)
    left_out = Verdict(5, "broker", skipped="not on a cluster that others use")

    assert [each.result for each in (good, bad, left_out)] == ["passed", "failed", "skipped"]
    assert markdown([good, bad, left_out]) == (
        "| row | fault | verdict | repeats | recovery p50 / p95 / max | figures |\n"
        "|---|---|---|---|---|---|\n"
        "| 2 | SIGTERM | passed | 2 | 1.3 / 1.3 / 1.3 s |  |\n"
        "| 3 | SIGSTOP | failed | 1 |  |  |\n"
        "| 5 | broker | SKIP: not on a cluster that others use | 0 |  |  |\n"
        "\nRow 3 broke:\n\n- the rate did not come back in time\n"
    )
