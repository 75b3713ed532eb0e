"""The fenced blocks of README and docs/, as values.

A block is named by the page and the line its fence opens on. `file=NAME` behind the language
(```python file=stages.py) says that the reader saves it under that name.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>.*)$")


class Block(NamedTuple):
    """One fenced block."""

    page: str
    line: int
    language: str
    file: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page whose blocks are promises."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """The page's blocks, in order."""
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    body: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if fence is None:
            body.append(line)
        elif opened is None:
            opened, body = (number, fence["info"].strip()), []
        else:
            language, _, options = opened[1].partition(" ")
            name = options.removeprefix("file=") if options.startswith("file=") else ""
            page = path.relative_to(ROOT).as_posix()
            found.append(Block(page, opened[0], language, name, "\n".join(body) + "\n"))
            opened = None
    if opened is not None:
        raise ValueError(f"{path.name}:{opened[0]}: a block without an end")
    return found


def commands(block: Block) -> list[str]:
    """The lines a reader types: behind `$`, continuations joined, comments left out."""
    text = block.text.replace("\\\n", " ")
    typed = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s+#.*$", "", line).strip() for line in typed]
