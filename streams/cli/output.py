"""Results on stdout, talk on stderr; one item list, four forms."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

Item = TypeVar("Item")


class Form(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


FormOption = Annotated[
    Form, typer.Option("-o", "--output", help="How to print.", metavar="table|json|yaml|name")
]
PipelineOption = Annotated[
    str | None, typer.Option("--pipeline", "-p", help="Only this pipeline.", metavar="P")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; it is kept with the job.", metavar="TEXT")
]

_COLOURS = {
    "queued": "2",
    "running": "34",
    "waiting": "33",
    "retrying": "33",
    "succeeded": "32",
    "skipped": "2",
    "failed": "31",
    "cancelled": "35",
    "ok": "32",
    "warning": "33",
    "bold": "1",
    "dim": "2",
}


def coloured(stream: Any = None) -> bool:
    """Whether colour is welcome there."""
    return not os.environ.get("NO_COLOR") and (stream or sys.stdout).isatty()


def paint(text: str, style: str, *, on: bool | None = None) -> str:
    """The text in the colour of a status; as it is where colour is not welcome."""
    wanted = coloured() if on is None else on
    return f"\033[{_COLOURS[style]}m{text}\033[0m" if wanted and style in _COLOURS else text


def say(text: str) -> None:
    """Talk: for the person, never for the pipe."""
    # In one write: the lines of several processes on one terminal must not run into each other.
    print(f"{text}\n", end="", file=sys.stderr, flush=True)


def give(text: str) -> None:
    """A result."""
    print(f"{text}\n", end="", flush=True)


def show(
    items: Sequence[Item],
    form: Form,
    *,
    columns: Mapping[str, Callable[[Item], str]],
    name: Callable[[Item], str],
    plain: Callable[[Item], Any] | None = None,
    empty: str = "nothing to show",
) -> None:
    """Prints a list: a table for people; in JSON and YAML an array of objects; or the names."""
    objects = [(plain or builtins)(item) for item in items]
    if form is Form.JSON:
        give(as_json(objects))
    elif form is Form.YAML:
        give(as_yaml(objects))
    elif form is Form.NAME:
        for item in items:
            give(name(item))
    elif items:
        for line in table([[get(item) for get in columns.values()] for item in items], columns):
            give(line)
    else:
        say(empty)


def show_one(
    item: Item,
    form: Form,
    *,
    text: Callable[[], str],
    name: Callable[[Item], str],
    plain: Callable[[Item], Any] | None = None,
) -> None:
    """Prints one thing: as text for people; in JSON and YAML an object; or its name."""
    if form is Form.TABLE:
        give(text())
    elif form is Form.NAME:
        give(name(item))
    else:
        value = (plain or builtins)(item)
        give(as_json(value) if form is Form.JSON else as_yaml(value))


def table(rows: Sequence[Sequence[str]], titles: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Aligned lines under capital titles; statuses in their colour."""
    heads = [title.upper() for title in titles]
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    lines = ["  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True))]
    for row in rows:
        cells = [
            paint(cell, cell) + " " * (width - len(cell))
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(cells))
    return [line.rstrip() for line in lines]


def builtins(item: Any) -> Any:
    """Plain values, as JSON has them."""
    import msgspec

    return msgspec.to_builtins(item)


def as_json(value: Any) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def as_yaml(value: Any) -> str:
    from io import StringIO

    from ruamel.yaml import YAML

    writer = YAML(typ="safe")
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    target = StringIO()
    writer.dump(builtins(value), target)
    return target.getvalue().rstrip("\n").removesuffix("\n...")
