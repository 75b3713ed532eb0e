"""Prints how big files and functions are, docstrings left out: a trend to watch, not a gate.

`python -m tests.architecture.sizes`
"""

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Sizes(NamedTuple):
    """Lines of each file and function, parameters of each function; biggest first."""

    files: list[tuple[int, str]]
    functions: list[tuple[int, str]]
    parameters: list[tuple[int, str]]


def measure(folder: Path) -> Sizes:
    """The sizes of every module below `folder`."""
    files, functions, parameters = [], [], []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        place = path.relative_to(folder.parent).as_posix()
        tree = ast.parse(text)
        files.append((len(text.splitlines()) - _docstring(tree), place))
        for node in ast.walk(tree):
            if isinstance(node, Function):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring(node)
                functions.append((lines, f"{place}:{node.name}"))
                given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                named = [a for a in given if a.arg not in {"self", "cls"}]
                parameters.append((len(named), f"{place}:{node.name}"))
    return Sizes(*(sorted(rows, reverse=True) for rows in (files, functions, parameters)))


def _docstring(node: ast.Module | Function) -> int:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())) as text, *_]:
            return (text.end_lineno or text.lineno) - text.lineno + 1
        case _:
            return 0


def report(sizes: Sizes) -> str:
    """Median, p90 and the ten biggest of each kind."""
    lines = []
    for kind, rows in sizes._asdict().items():
        ordered = sorted(size for size, _ in rows)
        median, p90 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.9)]
        lines.append(f"{kind}: {len(rows)}, median {median}, p90 {p90}")
        lines += [f"  {size:5d}  {place}" for size, place in rows[:10]]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(measure(ROOT / "streams")))
