"""The clock, chance, the environment and the terminal each have one place (lint TID251, T20)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(source: str, place: str) -> str:
    """What the project's lint says of this text if it stood at `place`."""
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251,T20", "--no-cache"]
    done = subprocess.run(
        [*command, "--output-format", "concise", "--stdin-filename", place, "-"],
        input=source,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


EVERYTHING = """
import asyncio
import os
import random
import time
import uuid
from datetime import datetime

time.time()
time.monotonic()
time.sleep(1)
asyncio.sleep(1)
uuid.uuid4()
random.random()
os.environ["X"]
datetime.now()
print()
"""


@pytest.mark.parametrize(
    "place", ["streams/engine/x.py", "streams/runtime/x.py", "streams/event.py"]
)
def test_direct_calls_are_refused_where_a_clock_is_handed_in(place):
    """Nine ways round the Clock, the settings and the log; each must be named."""
    said = lint(EVERYTHING, place)

    banned = ["time.time", "time.monotonic", "time.sleep", "asyncio.sleep", "uuid.uuid4"]
    banned += ["random", "os.environ", "datetime.datetime.now"]
    assert [name for name in banned if f"`{name}`" not in said] == []
    assert "T201" in said


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("streams/clock.py", "import time\ntime.time()\n"),
        ("streams/settings.py", "import os\nos.environ\n"),
        ("streams/cli/run.py", "print()\n"),
    ],
)
def test_the_one_place_for_each_is_let_through(place, source):
    """The exceptions are files, not lines."""
    assert "All checks passed" in lint(source, place)
