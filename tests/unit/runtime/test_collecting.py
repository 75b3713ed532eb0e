"""A worker's process and the garbage collector."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import gc
from streams.runtime.collecting import calm_collector
calm_collector()
print(gc.isenabled(), gc.get_freeze_count() > 1000, gc.get_threshold()[0])
"""


def test_what_is_loaded_is_not_looked_at_again_and_cycles_are_still_found():
    """In a process of its own, for the collector belongs to the whole process."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "True", "10000"]
