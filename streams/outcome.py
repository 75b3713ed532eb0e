"""What a stage may answer: a closed set of verdicts.

A stage may simply return its value; exceptions mean surprise and one table maps them to verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Verdict(msgspec.Struct, frozen=True):
    """Root of the closed set."""


class Ok(Verdict, frozen=True):
    """Done. `metadata` becomes fields of the job's ledger view."""

    value: Any = None
    metadata: Mapping[str, Any] = {}


class Skip(Verdict, frozen=True):
    """Nothing to do; whoever depends on it still runs."""

    reason: str = ""


class Fail(Verdict, frozen=True):
    """Failed. `retriable` False spends no further attempt."""

    message: str
    code: str = "S001"
    retriable: bool = True
    metadata: Mapping[str, Any] = {}


class Retry(Verdict, frozen=True):
    """Not now: again after this many seconds. No attempt is spent."""

    after: float
    reason: str = ""


class Cancel(Verdict, frozen=True):
    """Stops the whole job."""

    reason: str = ""


class Route(Verdict, frozen=True):
    """Done, and only the dependent named `branch` goes on."""

    branch: str
    value: Any = None
    metadata: Mapping[str, Any] = {}


class StageOutput:
    """The verdicts under the names that stage authors use."""

    @staticmethod
    def ok(value: Any = None, /, *, metadata: Mapping[str, Any] | None = None, **data: Any) -> Ok:
        """Success with a value, or with named data (then the value is a mapping)."""
        return Ok(data if data and value is None else value, metadata or {})

    @staticmethod
    def skip(reason: str = "") -> Skip:
        return Skip(reason)

    @staticmethod
    def fail(
        error: str = "",
        *,
        code: str = "S001",
        retriable: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> Fail:
        return Fail(error, code, retriable, metadata or {})

    @staticmethod
    def retry(after: float, reason: str = "") -> Retry:
        return Retry(after, reason)

    @staticmethod
    def cancel(reason: str = "") -> Cancel:
        return Cancel(reason)

    @staticmethod
    def route(
        branch: str, value: Any = None, *, metadata: Mapping[str, Any] | None = None
    ) -> Route:
        return Route(branch, value, metadata or {})
