"""The shipped policies, and what a file or a stage makes of them."""

from __future__ import annotations

import msgspec

from streams.topology.model import PolicyModel
from streams.topology.plan import Backoff, Policy

SHIPPED: dict[str, Policy] = {
    "default": Policy(3, 30.0, Backoff("exponential", 0.5, 30.0)),
    "gpu-bound": Policy(1, 60.0, Backoff("none", 0.0, 0.0)),
    "polite-io": Policy(10, 10.0, Backoff("linear", 1.0, 10.0)),
}
ALIASES = {"polite-api": "polite-io"}
ONCE = Policy()
"""Without a policy: one attempt, no time limit."""


def from_model(model: PolicyModel) -> Policy:
    """The policy as a plain value."""
    seconds = model.timeout / 1000 if model.timeout else model.timeout_seconds
    back = model.backoff
    return Policy(
        model.max_attempts,
        seconds,
        Backoff(back.strategy, back.initial, back.maximum, back.jitter),
    )


def named(name: str | None, own: dict[str, Policy]) -> Policy | None:
    """The policy of that name: the file's own first, then the shipped ones."""
    if name is None:
        return ONCE
    return own.get(name) or SHIPPED.get(ALIASES.get(name, name))


def at_stage(base: Policy, retry: int | None, timeout_ms: int | None) -> Policy | None:
    """The policy a stage's own `retry` and `timeout` make of its base; None without them."""
    if retry is None and timeout_ms is None:
        return None
    changes: dict[str, object] = {}
    if retry is not None:
        changes["max_attempts"] = retry + 1
    if timeout_ms is not None:
        changes["timeout_seconds"] = timeout_ms / 1000
    return msgspec.structs.replace(base, **changes)
