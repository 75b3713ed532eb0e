"""Declared parameters of a file: types, defaults and choices, checked against each other."""

from __future__ import annotations

import re
from collections.abc import Mapping

from streams.topology.model import ParamModel
from streams.topology.params import converted
from streams.topology.plan import Param, ParamType
from streams.topology.source import Path, Source

ALIASES: dict[str, ParamType] = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean", "array": "list",
    "dict": "map",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z_]\w{0,99}")


def declared(source: Source, models: Mapping[str, ParamModel]) -> tuple[Param, ...]:
    """The declarations by name, their defaults checked and converted."""
    return tuple(_declared(source, name, models[name]) for name in sorted(models))


def _declared(source: Source, name: str, model: ParamModel) -> Param:
    place: Path = ("params", name)
    if not _NAME.fullmatch(name):
        hint = "letters, digits and `_`"
        source.fault("T110", f"`{name}` cannot be a parameter's name", place, hint, key=True)
    kind: ParamType = ALIASES.get(model.type, model.type)  # type: ignore[arg-type]
    choices = tuple(model.choices)
    if kind == "choice" and not choices:
        source.fault("T109", f"the choice `{name}` lists no `choices`", place)
    default = model.default
    if default is None and choices and not model.required:
        default = choices[0]
    if default is not None:
        path = (*place, "default")
        try:
            default = converted(default, kind)
        except ValueError as error:
            source.fault("T126", f"the default of `{name}` is {error}", path)
        else:
            if choices and default not in choices:
                source.fault("T126", f"the default of `{name}` is none of its choices", path)
    return Param(name, kind, model.required, default, choices, model.desc)
