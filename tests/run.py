#!/usr/bin/env python3
"""Passes the tests on a machine that has Python 3.11 and pip: `python3 tests/run.py`.

Makes a virtual environment beside the checkout, builds the wheel and installs it with its
development tools, then checks style, types and import contracts, tries the installed commands,
and runs the suite. Further arguments go to pytest (`python3 tests/run.py -k settings`). Standard
library only; the first failing phase ends the run.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-test"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / "installed-from"
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")
"""Most of the suite's time is waiting for brokers and sessions. A file's tests share a broker."""


def main(pytest_arguments: list[str]) -> int:
    """0 when every phase passed, else the code of the phase that failed."""
    if sys.version_info < (3, 11):
        print(f"Python 3.11 or later is needed; this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    prepare()
    phase("style", [tool("ruff"), "check", "streams", "tests"])
    phase("format", [tool("ruff"), "format", "--check", "streams", "tests"])
    phase("types", [tool("mypy")])
    phase("import contracts", [tool("lint-imports")])
    phase("docstrings", [tool("interrogate"), "-q", *documented()])
    with tempfile.TemporaryDirectory() as elsewhere:
        # Away from the checkout, so that it is the wheel that answers.
        phase("installed command", [tool("streams"), "version"], cwd=Path(elsewhere))
    phase("tests", [tool("python"), "-m", "pytest", *SIDE_BY_SIDE, *pytest_arguments])
    return 0


def prepare() -> None:
    """Afterwards the environment holds this checkout's wheel and the tools it asks for."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    pip = [tool("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not STAMP.exists() or STAMP.read_text() != wanted:
        announce("environment", VENV.name)
        venv.create(VENV, with_pip=True, clear=True)
        phase("install", [*pip, f"{ROOT}[dev,aio,broker,faust]"])
        STAMP.write_text(wanted)
        return
    again = ["--force-reinstall", "--no-deps", "--no-build-isolation", str(ROOT)]
    phase("install", [*pip, *again])


def documented() -> list[str]:
    """What stage authors and users read: there a docstring is owed."""
    read = ["app.py", "errors.py", "event.py", "settings.py", "stage.py", "stages"]
    return [str(ROOT / "streams" / name) for name in read]


def tool(name: str) -> str:
    """The command of the test environment."""
    return str(BIN / name)


def announce(name: str, detail: str) -> None:
    """One line a phase."""
    print(f"== {name}: {detail}", flush=True)


def phase(name: str, command: list[str], cwd: Path = ROOT) -> None:
    """Returns when the command succeeded; ends the run with its code when it did not."""
    announce(name, " ".join([Path(command[0]).name, *command[1:]]).replace(str(ROOT), "."))
    began = time.monotonic()
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    # CI: a suite that needs a server fails where it cannot have one, instead of being skipped.
    environment = {"CI": "1", **os.environ, "PATH": path, "VIRTUAL_ENV": str(VENV)}
    code = subprocess.run(command, cwd=cwd, env=environment, check=False).returncode
    if code:
        print(f"== {name} failed with {code}", file=sys.stderr, flush=True)
        sys.exit(code)
    if name != "tests":  # pytest's own summary is the last word
        print(f"   {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
