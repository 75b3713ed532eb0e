"""docs/peers.md: which complaint about another system is a test here, read from the tests.

python -m tests.peers.citations > docs/peers.md
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
ISSUE = re.compile(r"\b([A-Za-z0-9-]+/[A-Za-z0-9._-]+)#(\d+)")

HEAD = """\
# What users of other systems asked for

<!-- Drawn from the tests' docstrings by `python -m tests.peers.citations`. -->

What users of Kafka Streams, Faust and Quix Streams met or asked for is an acceptance test here. Each
line is an issue or pull request of theirs, what it is about, and the test that shows what holds in
Interlock. Many are mended there by now; the tests see to it that they do not come up here. They run
on the real runtime with a log in memory, or on the engine alone.

| issue | what they met | what holds here | test |
|---|---|---|---|
"""


class Citation(NamedTuple):
    """A test and the issues that it answers."""

    file: str
    test: str
    issues: tuple[str, ...]
    complaint: str
    holds: str


def tests() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every test of this folder except those about the citations."""
    for file in sorted(FOLDER.glob("test_*_issues.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if node.name.startswith("test_"):
                    yield f"tests/peers/{file.name}", node


def citation(file: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Citation:
    """What the docstring says: `owner/repo#1: what they met. Here what holds.`"""
    text = " ".join((ast.get_docstring(node) or "").split())
    cited, _, rest = text.partition(": ")
    complaint, here, holds = rest.partition(" Here ")
    issues = tuple("#".join(found) for found in ISSUE.findall(cited))
    return Citation(file, node.name, issues, complaint, f"Here {holds}" if here else "")


def citations() -> list[Citation]:
    """In the order of the files and of the tests in them."""
    return [citation(file, node) for file, node in tests()]


def page() -> str:
    """The page as it should stand."""
    return HEAD + "".join(
        f"| {_linked(each.issues)} | {_cell(each.complaint)} | {_cell(each.holds)} "
        f"| `{each.file}::{each.test}` |\n"
        for each in citations()
    )


def _linked(issues: tuple[str, ...]) -> str:
    return ", ".join(
        f"[{issue}](https://github.com/{issue.replace('#', '/issues/')})" for issue in issues
    )


def _cell(text: str) -> str:
    plain = text.removeprefix("Here ").rstrip(".").replace("|", "\\|")
    return plain[:1].upper() + plain[1:]


if __name__ == "__main__":
    print(page(), end="")
