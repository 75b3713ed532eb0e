"""Which policy a stage has: its own words first, then the topology's, then the shipped ones.

A job is pinned to the stages of its plan, not to the numbers of its policies: those follow the
newest plan, so that a limit which turned out wrong is mended for jobs under way too.
"""

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


class Policies:
    """The policies of every pipeline of a process, by the newest plan that was heard of."""

    def __init__(self) -> None:
        self._newest: dict[str, Plan] = {}

    def follow(self, plan: Plan) -> None:
        """This plan's policies hold from now on, for all jobs of its pipeline."""
        self._newest[plan.pipeline] = plan

    def of(self, plan: Plan, part: Part) -> Policy:
        """The policy of a part of this plan, as it is today."""
        newest = self._newest.get(plan.pipeline)
        if part.policy is not None and newest is not None and part.policy in newest.policies:
            return policy_of(newest, part)
        return policy_of(plan, part)


def policy_of(plan: Plan, part: Part) -> Policy:
    """How often and how long a part may try. A part that names no policy has one attempt and no
    time limit: nothing is repeated or cut short unless somebody asked for it."""
    if part.retry is not None:
        return part.retry
    found = named(part.policy, plan.policies)
    if found is None:
        raise UserError(f"unknown policy {part.policy!r} of stage {part.path!r}", code="S016")
    return found
