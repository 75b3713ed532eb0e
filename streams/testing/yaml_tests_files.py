"""Which files are tests of a pipeline. Imports next to nothing: pytest asks this of every file."""

from __future__ import annotations

import re
from pathlib import Path

SUFFIXES = (".test.yaml", ".test.yml")
LARGEST = 512 * 1024
_SIGNS = re.compile(rb"^topology\s*:", re.MULTILINE), re.compile(rb"^tests\s*:", re.MULTILINE)


def is_ours(path: Path) -> bool:
    """Whether it is named and looks like one: other tools have files of that name too."""
    if not path.name.endswith(SUFFIXES):
        return False
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST)
    except OSError:
        return False
    return all(sign.search(text) for sign in _SIGNS)
