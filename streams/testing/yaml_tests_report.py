"""A result as people read it: where, what was expected, what there was, why the job stands there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from streams.testing.yaml_tests_run import Result, Unmet
from streams.topology.findings import Finding

Why = Callable[[Unmet], list[str]]
"""Lines that say why the job stands where it stands."""

CODE = "U110"

EXPLANATIONS: dict[str, str] = {
    CODE: """\
**An expectation does not hold.** Shown are what the file expects, what there was, and where the
job stands and why. Of a mapping only the keys that are named are compared, anything else exactly.
Next: if the pipeline is right, write down what it does.""",
}


def report(result: Result, why: Why | None = None) -> str:
    """Everything that does not hold, in the style of findings."""
    return "\n".join(_one(result, unmet, why or _one_line) for unmet in result.unmet)


def _one(result: Result, unmet: Unmet, why: Why) -> str:
    finding = Finding(
        CODE,
        f"{unmet.what}: expected {plain(unmet.expected)}, got {plain(unmet.got)}",
        result.file,
        unmet.line,
        unmet.column,
        text=unmet.text,
        notes=tuple(why(unmet)),
    )
    return finding.render()


def _one_line(unmet: Unmet) -> list[str]:
    return [unmet.why] if unmet.why else []


def plain(value: Any) -> str:
    """The value on one line; words without quotes."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def as_object(result: Result) -> dict[str, Any]:
    """The same for programs."""
    return {
        "file": result.file,
        "line": result.line,
        "name": result.name,
        "passed": result.passed,
        "failures": [
            {
                "what": each.what,
                "expected": each.expected,
                "got": each.got,
                "line": each.line,
                "column": each.column,
                "job": each.job.view.id if each.job else None,
                "why": each.why,
            }
            for each in result.unmet
        ],
    }
