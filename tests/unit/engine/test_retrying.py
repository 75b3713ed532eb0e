"""Delays between attempts, as a table."""

import pytest

from streams.engine.retrying import delay_after
from streams.topology.plan import Backoff, Policy

EXPONENTIAL = Backoff("exponential", 0.5, 30, jitter=False)


@pytest.mark.parametrize(
    ("rule", "delays"),
    [
        (EXPONENTIAL, [0.5, 1, 2, 4, 8, 16, 30, 30]),
        (Backoff("linear", 1, 10, jitter=False), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Backoff("linear", 4, 10, jitter=False), [4, 8, 10, 10, 10, 10, 10, 10]),
        (Backoff("none", 7, 10, jitter=True), [0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_the_delay_after_each_attempt_follows_its_strategy(rule, delays):
    """Capped by `maximum`."""
    policy = Policy(max_attempts=100, backoff=rule)
    found = [delay_after(policy, n, retriable=True, jitter=0.9) for n in range(1, 9)]
    assert found == delays


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 0.8), (0.5, 1.0), (0.999999, 1.2)])
def test_jitter_stays_within_a_fifth(jitter, delay):
    """±20 %: jobs that failed together do not come back together."""
    policy = Policy(max_attempts=2, backoff=Backoff("linear", 1, 10))
    found = delay_after(policy, 1, retriable=True, jitter=jitter)
    assert found == pytest.approx(delay, abs=1e-5)


@pytest.mark.parametrize(
    ("most", "attempt", "retriable", "delay"),
    [(1, 1, True, None), (3, 2, True, 1.0), (3, 3, True, None), (3, 4, True, None),
     (3, 1, False, None)],
)  # fmt: skip
def test_the_last_attempt_and_a_fault_that_stays_are_the_end(most, attempt, retriable, delay):
    """`retriable` False spends no further attempt."""
    policy = Policy(max_attempts=most, backoff=EXPONENTIAL)
    assert delay_after(policy, attempt, retriable=retriable, jitter=0.5) == delay


def test_a_thousandth_attempt_has_a_delay_too():
    """No overflow in the power."""
    policy = Policy(max_attempts=10**6, backoff=EXPONENTIAL)
    assert delay_after(policy, 5_000, retriable=True, jitter=0.5) == 30
