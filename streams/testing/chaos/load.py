"""The load of a trial: five stages and two gates, and what is said to each job on its way."""

from __future__ import annotations

from typing import Literal

import msgspec

PIPELINE = "chaos"
SIDE_POOL = "side"
CANARY = "canary-8d1f0c5b7a"
"""A secret that must never be seen anywhere (C14)."""
STAGES = "chaos_stages"

HEAD = f"pipeline: {PIPELINE}\nplugins: {{stages: [{{callable: '{STAGES}:stages'}}]}}\n"
BASE = f"""{HEAD}
policies:
  patient: {{max_attempts: 3, backoff: {{strategy: linear, initial: 0.5, maximum: 1}}}}
gates:
  approve: {{after: parse, until: facts.approved}}
  window: {{after: embed, until: facts.window, timeout: 2s, on_timeout: continue}}
stages:
  - {{name: fetch, type: chaos-step}}
  - {{name: parse, type: chaos-step, depends_on: [fetch]}}
  - name: embed
    type: chaos-flaky
    policy: patient
    config: {{key: "${{{{ secrets.chaos_canary }}}}"}}
    depends_on: [parse]
  - {{name: index, type: chaos-step, depends_on: [embed]}}
  - {{name: notify, type: chaos-step, pool: {SIDE_POOL}, depends_on: [index]}}
"""
POISONED = f"""{HEAD}
policies:
  thrice: {{max_attempts: 3, timeout: 2s, backoff: {{strategy: none, initial: 0}}}}
stages:
  - {{name: harm, type: chaos-harm, policy: thrice}}
  - {{name: spin, type: chaos-spin, policy: thrice, depends_on: [harm]}}
  - {{name: notify, type: chaos-step, pool: {SIDE_POOL}, depends_on: [spin]}}
"""
HELD = f"""{HEAD}
gates:
  late: {{after: fetch, until: facts.never, timeout: 20s, on_timeout: continue}}
stages:
  - {{name: fetch, type: chaos-step}}
  - {{name: notify, type: chaos-step, pool: {SIDE_POOL}, depends_on: [fetch]}}
"""
SHOPPING = f"""{HEAD}
policies:
  once: {{max_attempts: 1}}
stages:
  - {{name: shop, type: chaos-shop, policy: once}}
  - {{name: notify, type: chaos-step, pool: {SIDE_POOL}, depends_on: [shop]}}
"""

Harm = Literal["", "raise", "exit", "segv", "memory", "loop"]


class Job(msgspec.Struct, frozen=True):
    """One submission."""

    id: str
    token: str
    harm: Harm = ""
    approved: bool = True
    """Whether the gate is opened for it on the way."""
    window: bool = False
    """Whether the second gate is opened before its time is over."""


def job(number: int, run: str, harm: Harm = "") -> Job:
    """The job of this number; every second one finds the second gate open."""
    return Job(f"{run}-{number}", f"{run}.{number}", harm, window=number % 2 == 0)
