"""A process that a C library has frozen, with Python's lock in its hands, ends all the same."""

import subprocess
import sys

PROGRAM = """
import ctypes, threading, time
from streams.broker.kafka_freezing import FreezeWatch
from tests.unit.broker.test_kafka_freezing import {name}
watch = FreezeWatch(0.5, 0.1)
{name}(watch)
print("went on")
"""


def frozen(watch):
    """`PyDLL` keeps the lock during a call: nothing of Python goes on."""
    import ctypes

    with watch.watching():
        ctypes.PyDLL(None).sleep(30)


def slow(watch):
    """A call that gives the lock away, and another one that does nothing, meanwhile."""
    import time

    with watch.watching(), watch.watching():
        time.sleep(1.2)


def frozen_afterwards(watch):
    """Outside the block nobody is watched."""
    import ctypes

    with watch.watching():
        pass
    ctypes.PyDLL(None).usleep(900_000)


def ran(name):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)],
        check=False,
        capture_output=True,
        timeout=60,
    )


def test_a_frozen_process_ends_and_says_where_it_stood():
    """Row 6: a keeper that stood still for good held its seat, and no watchdog of its own could
    run; its supervisor can only mend what has ended."""
    done = ran("frozen")
    assert done.returncode == 1
    assert b"in frozen" in done.stderr
    assert b"went on" not in done.stdout


def test_a_call_that_only_takes_long_does_no_harm():
    """While the brokers are away a client takes seconds to close; others go on meanwhile."""
    done = ran("slow")
    assert (done.returncode, done.stdout) == (0, b"went on\n")


def test_nothing_is_watched_outside():
    """What user code does with the lock is its own business."""
    done = ran("frozen_afterwards")
    assert (done.returncode, done.stdout) == (0, b"went on\n")
