"""What follows a failed attempt: again after a delay, or the end.

Delays up to `IN_PLACE` seconds are waited out by the agent inside the same turn; longer ones are
rows (a `retry` to the keeper), so that nothing blocks behind them.
"""

from __future__ import annotations

from streams.topology.plan import Backoff, Policy

IN_PLACE = 2.0


def delay_after(policy: Policy, attempt: int, *, retriable: bool, jitter: float) -> float | None:
    """Seconds until the next attempt, or None when this one was the last. `jitter` in [0, 1)."""
    if not retriable or attempt >= policy.max_attempts:
        return None
    return backoff(policy.backoff, attempt, jitter)


def backoff(rule: Backoff, attempt: int, jitter: float) -> float:
    """The delay after attempt number `attempt` (from 1), within ±20 % when jittered."""
    if rule.strategy == "none":
        return 0.0
    if rule.strategy == "linear":
        delay = rule.initial * attempt
    else:
        delay = rule.initial * 2.0 ** min(attempt - 1, 60)
    delay = min(delay, rule.maximum)
    return delay * (0.8 + 0.4 * jitter) if rule.jitter else delay
