"""The one table from surprises in user code to verdicts, and how a failure is told safely."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable

from streams.authoring.faults import StageInputError, StageOutputError
from streams.engine.rows import Failure
from streams.errors import StreamsError
from streams.outcome import Fail

TEXT_LIMIT = 2000
"""Characters of an error's message; the whole stands in the attempt's log."""

TABLE: tuple[tuple[type[BaseException], str, bool], ...] = (
    (StageInputError, "S010", False),
    (StageOutputError, "S011", False),
    (TimeoutError, "S020", True),
    (asyncio.CancelledError, "S022", True),
    (MemoryError, "S001", True),
    (RecursionError, "S001", True),
    (Exception, "S001", True),
    (BaseException, "S021", True),
)
"""(what was raised, code, retriable): the first that fits. Errors of the package itself bring
their own code and say themselves whether trying again can help."""


def fail_of(error: BaseException) -> Fail:
    """The verdict for whatever user code raised."""
    if isinstance(error, StreamsError):
        return Fail(bounded(told(error)), error.code, error.retriable)
    _, code, retriable = next(row for row in TABLE if isinstance(error, row[0]))
    text = told(error)
    name = type(error).__name__
    return Fail(bounded(f"{name}: {text}" if text else name), code, retriable)


def told(error: BaseException) -> str:
    """The error's own words; an error whose words raise keeps its name only."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - the last line of defence: `__str__` is user code too
        return "(its message could not be made)"


def trace_of(error: BaseException) -> str:
    """The traceback, newest call last, without the frames of this package."""
    try:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "/streams/runtime/call" not in frame.filename]
        lines = traceback.format_list(traceback.StackSummary.from_list(own[-20:]))
        return "".join(lines) + f"{type(error).__name__}: {told(error)}"
    except Exception:  # noqa: BLE001 - as above
        return type(error).__name__


def bounded(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 1]}…"


def failure_of(fail: Fail, log: str, redact: Callable[[str], str]) -> Failure:
    """What a row keeps of a failure."""
    message = bounded(redact(fail.message)).encode("utf-8", "replace").decode()
    return Failure(code=redact(fail.code), message=message, log=log)
