"""Which policy a stage has: its own words first, then the topology's, then the shipped ones."""

from __future__ import annotations

from streams.errors import UserError
from streams.topology.plan import Part, Plan, Policy
from streams.topology.policies import ALIASES, SHIPPED, named

SHIPPED_POLICIES: dict[str, Policy] = {
    **SHIPPED,
    **{alias: SHIPPED[name] for alias, name in ALIASES.items()},
}

EXPLANATIONS: dict[str, str] = {
    "S016": "**A stage names a policy that nobody defines.** Define it under `policies:` of the "
    "topology, or use a shipped one: `default`, `gpu-bound`, `polite-io`.",
}


def policy_of(plan: Plan, part: Part) -> Policy:
    """How often and how long a part may try. A part that names no policy has one attempt and no
    time limit: nothing is repeated or cut short unless somebody asked for it."""
    if part.retry is not None:
        return part.retry
    found = named(part.policy, plan.policies)
    if found is None:
        raise UserError(f"unknown policy {part.policy!r} of stage {part.path!r}", code="S016")
    return found
