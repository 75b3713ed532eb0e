"""The garbage collector in a process that does nothing but work."""

from __future__ import annotations

import gc

YOUNG = 10_000
"""Objects that may come before the youngest are looked at; Python's own number is 700."""


def calm_collector() -> None:
    """What was loaded until now is never looked at again, and what is new less often.

    Nearly all that an event makes is gone by reference count before the next one, so looking for
    cycles finds nothing, and each full look passes over every module there is: that was an eighth
    of a worker's CPU time. For a process of its own (`streams worker`), once everything is
    imported; a library has no business with the collector of somebody else's process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
