"""Imports go downwards only (style 3.2); the linter itself runs as a phase of tests/run.py."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path):
    """The tree's source and contracts, free to be broken."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "streams", tmp_path / "streams")
    (tmp_path / "streams" / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("place", "line", "contract"),
    [
        ("streams/engine/rows.py", "import streams.runtime", "imports go downwards only"),
        ("streams/errors.py", "import streams.event", "imports go downwards only"),
        ("streams/runtime/__init__.py", "import sqlite3", "clients stay in broker/"),
        ("streams/ledger/__init__.py", "import rich", "terminal belongs to cli/"),
    ],
)
def test_an_import_upwards_breaks_its_contract(copy, place, line, contract):
    """A contract that never breaks may have stopped looking."""
    with (copy / place).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")

    said = contracts(copy)

    assert said.returncode == 1, said.stdout + said.stderr
    broken = [row for row in said.stdout.splitlines() if " BROKEN" in row]
    assert any(contract in row for row in broken), said.stdout


def test_a_module_without_a_layer_is_refused(copy):
    """`utils.py` has no place: a new module is given one in pyproject first."""
    (copy / "streams" / "utils.py").write_text("")

    assert contracts(copy).returncode == 1
