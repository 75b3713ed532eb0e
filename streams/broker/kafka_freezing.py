"""Ends a process that the client library has frozen.

The library calls back with Python's lock in its hands, and asks its own thread something from
there. If that thread never answers, no thread of Python ever goes on: no watchdog of ours, no
signal handler, and whoever waits for this process sees one that lives. It is known to happen while
a member is closed (librdkafka #4884: an assignment that waits to be told when the group ends is
answered by nobody). Only what needs no lock can end such a process: the thread of `faulthandler`,
which says where every other one stands and ends it all. Its supervisor then starts it anew.
"""

from __future__ import annotations

import contextlib
import faulthandler
import threading
from collections.abc import Iterator

FROZEN = 20.0
"""Seconds without a single step of Python after which the process is given up."""
LOOK = 1.0
STDERR = 2


class FreezeWatch:
    """While something is done under it, the process ends rather than stand still for good.

    One of them for a process: `faulthandler` has a single timer. Whoever else sets that (a test
    runner, for instance) has lost it when this is done.
    """

    def __init__(self, seconds: float = FROZEN, look: float = LOOK) -> None:
        self._seconds = seconds
        self._look = look
        self._lock = threading.Lock()
        self._watched = 0
        self._over = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Ends the process with code 1 if all of Python stands still in this block. A call that
        only takes long does no harm: others go on meanwhile."""
        with self._lock:
            self._watched += 1
            if self._watched == 1:
                self._over = threading.Event()
                self._set_off()
                threading.Thread(
                    target=self._go_on, args=(self._over,), name="kafka.freezing", daemon=True
                ).start()
        try:
            yield
        finally:
            with self._lock:
                self._watched -= 1
                if not self._watched:
                    self._over.set()
                    faulthandler.cancel_dump_traceback_later()

    def _go_on(self, over: threading.Event) -> None:
        """Puts the end off for as long as it is given Python's lock."""
        while not over.wait(self._look):
            with self._lock:
                if not over.is_set():
                    self._set_off()

    def _set_off(self) -> None:
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=STDERR)


freezing = FreezeWatch()
