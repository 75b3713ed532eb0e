"""Whose outputs a stage is given: its dependencies, seen through parts without user code.

A stage behind a gate depends on the gate, and works on what the stage before the gate has made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streams.topology.plan import USER_CODE, Plan


def inputs_of(plan: Plan, path: str) -> tuple[str, ...]:
    """Paths of the stages whose outputs this part is given, in the author's order."""
    return seen_through(
        path,
        lambda other: plan.by_path[other].needs,
        lambda other: plan.by_path[other].kind in USER_CODE,
    )


def seen_through(
    path: str, needs: Callable[[str], Sequence[str]], has_code: Callable[[str], bool]
) -> tuple[str, ...]:
    """The nearest parts with user code on the ways back from `path`."""
    found: dict[str, None] = {}
    passed: set[str] = set()
    pending = list(reversed(needs(path)))
    while pending:
        before = pending.pop()
        if has_code(before):
            found[before] = None
        elif before not in passed:
            passed.add(before)
            pending.extend(reversed(needs(before)))
    return tuple(found)
