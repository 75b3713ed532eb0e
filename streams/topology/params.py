"""Parameters of a job: what a submission gives, read as the declared types."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from streams.errors import UserError
from streams.topology.findings import did_you_mean, listed
from streams.topology.plan import Param, ParamType, Plan

_WHOLE = re.compile(r"[-+]?\d{1,19}")
_PLAIN_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def bind_params(plan: Plan, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a job: converted, with defaults; raises UserError with every fault."""
    if plan.params is None:
        return dict(given)
    known = {param.name: param for param in plan.params}
    faults: list[tuple[str, str]] = []
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known, "parameters")
            faults.append(("P001", f"`{name}` is no parameter of `{plan.pipeline}` ({hint})"))
    bound: dict[str, Any] = {}
    for name, param in known.items():
        value = given.get(name, param.default)
        if name not in given and param.required and param.default is None:
            faults.append(("P002", f"`{name}` is required ({param.type})"))
        elif value is None:
            if name in given or not param.required:
                bound[name] = None
        else:
            _bind(param, value, bound, faults)
    if faults:
        raise UserError(
            "; ".join(message for _, message in faults),
            code=faults[0][0],
            help=f"streams explain {faults[0][0]}",
        )
    return bound


def _bind(param: Param, value: Any, bound: dict[str, Any], faults: list[tuple[str, str]]) -> None:
    if param.choices:
        chosen = [choice for choice in param.choices if value == choice or value == str(choice)]
        if not chosen:
            choices = listed([str(choice) for choice in param.choices])
            faults.append(("P004", f"`{param.name}`: `{value}` is none of {choices}"))
            return
        value = chosen[0]
    try:
        bound[param.name] = converted(value, param.type)
    except ValueError as error:
        faults.append(("P003", f"`{param.name}` is {error}"))


def converted(value: Any, kind: ParamType) -> Any:
    """The value as its type; text is read. ValueError: "not a whole number: `x`"."""
    if kind == "choice":
        return value
    reader = _READERS[kind]
    try:
        return reader(value)
    except (ValueError, InvalidOperation, OverflowError):
        raise ValueError(f"not {_WORDS[kind]}: `{str(value)[:60]}`") from None


def _string(value: Any) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError
    return str(value)


def _integer(value: Any) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise ValueError
    return value


def _number(value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    number = float(value) if not isinstance(value, int) else value
    if not abs(number) < 1e300:
        raise ValueError
    return number


def _decimal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    number = Decimal(str(value).strip())
    if not number.is_finite():
        raise ValueError
    return str(number)


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError
    return value


def _date(value: Any) -> str:
    if not isinstance(value, str) or not _PLAIN_DATE.fullmatch(value.strip()):
        raise ValueError
    return date.fromisoformat(value.strip()).isoformat()


def _datetime(value: Any) -> str:
    if not isinstance(value, str) or len(value.strip()) < 10:
        raise ValueError
    return datetime.fromisoformat(value.strip()).isoformat()


def _list(value: Any) -> list[Any]:
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, list):
        raise ValueError
    return found


def _map(value: Any) -> dict[str, Any]:
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise ValueError
    return found


_READERS = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "decimal": _decimal,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "list": _list,
    "map": _map,
}
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "decimal": "a decimal number",
    "boolean": "true or false",
    "date": "a date (2026-03-01)",
    "datetime": "a date and time (2026-03-01T12:30:00+00:00)",
    "list": "a list (as JSON)",
    "map": "a map (as JSON)",
}
