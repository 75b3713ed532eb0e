"""The rules of a run. A history that breaks none of them is one that the protocol promises.

Nothing is asked of the code under judgement but how its records are to be read: rows are decoded by
`engine.rows`, conditions have the meaning that the engine's language gives them, and which changes
of a row are legal stands in `engine.transitions`. Everything else is worked out from the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streams.testing.checker import (
    aborted,
    attempts,
    duplicates,
    fold,
    gates,
    ids,
    legal,
    lost,
    order,
    torn,
    versions,
)
from streams.testing.checker.evidence import Evidence
from streams.testing.history import History, Violation

Rule = Callable[[Evidence], Iterator[Violation]]

RULES: tuple[Rule, ...] = (
    lost.check,
    duplicates.check,
    ids.check,
    aborted.check,
    order.check,
    fold.check,
    versions.check,
    torn.check,
    gates.check,
    attempts.check,
    legal.check,
)
"""C1 to C9, and the table of transitions."""


def check(history: History) -> list[Violation]:
    """Everything in the history that must not be; empty for an honest one."""
    evidence = Evidence(history)
    return [violation for rule in RULES for violation in rule(evidence)]
