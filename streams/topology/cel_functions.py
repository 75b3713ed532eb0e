"""Functions added to CEL, and the meter that bounds what an expression may do.

A function that raises inside the engine is logged there and loses its type, so a failing function
notes its fault in the meter and answers null; the evaluation is then reported as failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from streams.errors import ExpressionError

MAX_STEPS = 50_000
MAX_STRING = 1 << 20


class Meter:
    """What one evaluation has used up so far, and the first fault in it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.steps = 0
        self.fault: ExpressionError | None = None

    def fail(self, code: str, message: str) -> None:
        if self.fault is None:
            self.fault = ExpressionError(message, code=code, source=self.source)

    def measure(self, value: Any) -> bool:
        """False, with a fault noted, if the value is larger than what is left."""
        pending = [value]
        while pending:
            item = pending.pop()
            self.steps += 1
            if isinstance(item, str | bytes):
                if len(item) > MAX_STRING:
                    self.fail("X003", f"a string of {len(item)} characters; at most {MAX_STRING}")
                    return False
                self.steps += len(item) >> 6
            elif isinstance(item, Mapping):
                self.steps += len(item)
                pending.extend(item.values() if self.steps <= MAX_STEPS else ())
            elif isinstance(item, list | tuple):
                pending.extend(item if self.steps + len(item) <= MAX_STEPS else ())
                self.steps += len(item)
            if self.steps > MAX_STEPS:
                self.fail("X003", f"the expression needs more than {MAX_STEPS} steps")
                return False
        return True

    # what CEL calls

    def each_(self, items: Any) -> Any:
        """The list a macro walks; empty once the budget is spent."""
        if not isinstance(items, list | dict):
            self.fail("X005", f"a list is expected, not {kind_of(items)}")
            return []
        self.steps += len(items) + 1
        if self.steps > MAX_STEPS:
            self.fail("X003", f"the expression needs more than {MAX_STEPS} steps")
        return [] if self.fault else items

    def grow_(self, value: Any) -> Any:
        """What a macro's body has built, if it is within the limits."""
        return value if not self.fault and self.measure(value) else None

    def upper(self, value: Any) -> str:
        return self._text("upper", value).upper()

    def lower(self, value: Any) -> str:
        return self._text("lower", value).lower()

    def title(self, value: Any) -> str:
        return self._text("title", value).title()

    def keys(self, value: Any) -> list[Any]:
        return list(self._mapping("keys", value))

    def values(self, value: Any) -> list[Any]:
        return list(self._mapping("values", value).values())

    def coalesce(self, *values: Any) -> Any:
        return next((value for value in values if value is not None), None)

    def _text(self, function: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        self.fail("X005", f"`{function}` takes text, not {kind_of(value)}")
        return ""

    def _mapping(self, function: str, value: Any) -> dict[Any, Any]:
        if isinstance(value, dict):
            return value
        self.fail("X005", f"`{function}` takes a map, not {kind_of(value)}")
        return {}

    def callables(self, names: frozenset[str]) -> list[tuple[str, Callable[..., Any]]]:
        """Those of `names` that CEL does not have by itself."""
        own = {"str": text_of}
        return [(name, own.get(name) or getattr(self, name)) for name in sorted(names & ADDED)]


ADDED: frozenset[str] = frozenset("each_ grow_ upper lower title str keys values coalesce".split())


def kind_of(value: Any) -> str:
    """The word for the kind of a value in messages."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "text", dict: "a map"}
    return kinds.get(type(value), "a list" if isinstance(value, list | tuple) else "a value")


def text_of(value: Any) -> str:
    """A value inside text: JSON's words for null and booleans, JSON for lists and maps."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
