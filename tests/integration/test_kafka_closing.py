"""Members that are closed in the midst of a rebalance, as happens when brokers die."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

PROGRAM = Path(__file__).with_name("closing_members.py")


def test_members_are_closed_while_they_are_being_given_partitions(kafka):
    """Row 6, librdkafka #4884: the library waited for ever with Python's lock held, and with it
    the whole worker; in a process of its own, for that is what stood still."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), kafka],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (0, "all closed\n"), done.stderr[-2000:]
