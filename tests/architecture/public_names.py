"""Prints the public names with their signatures; the committed copy is public_names.txt.

A change of that file needs a changelog fragment:
`python -m tests.architecture.public_names > tests/architecture/public_names.txt`
"""

import enum
import importlib
import inspect

MODULES = ("streams", "streams.testing")
PLAIN = (bool, int, float, str, type(None))


def describe() -> str:
    """One line a name, one indented line a public method or member."""
    lines = []
    for module in MODULES:
        space = importlib.import_module(module)
        for name in sorted(getattr(space, "__all__", [])):
            value = getattr(space, name)
            lines.append(f"{module}.{name}{_signature(value)}")
            if inspect.isclass(value):
                lines += [f"    {line}" for line in _members(value)]
    return "\n".join(lines) + "\n"


def _members(owner: type) -> list[str]:
    if issubclass(owner, enum.Enum):
        return [f"{member.name} = {member.value!r}" for member in owner]
    return [
        f"{name}{_signature(getattr(owner, name))}"
        for name, member in sorted(vars(owner).items())
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod)))
    ]


def _signature(value: object) -> str:
    if not callable(value) or (inspect.isclass(value) and issubclass(value, enum.Enum)):
        return ""
    whole = inspect.signature(value)
    parameters = [p for p in whole.parameters.values() if not p.name.startswith("_")]
    shown = [_parameter(p) for p in parameters]
    named = next((i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if named is not None and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        shown.insert(named, "*")
    back = "" if inspect.isclass(value) else _annotation(" -> ", whole.return_annotation)
    return f"({', '.join(shown)}){back}"


def _parameter(given: inspect.Parameter) -> str:
    """Name and type; a default is shown if it is plain, so that no address gets in."""
    star = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    shown = star.get(given.kind, "") + given.name + _annotation(": ", given.annotation)
    if given.default is not inspect.Parameter.empty:
        shown += f" = {given.default!r}" if isinstance(given.default, PLAIN) else " = ..."
    return shown


def _annotation(before: str, kind: object) -> str:
    if kind is inspect.Signature.empty:
        return ""
    return before + (kind if isinstance(kind, str) else inspect.formatannotation(kind))


if __name__ == "__main__":
    print(describe(), end="")
