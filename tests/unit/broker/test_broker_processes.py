"""Processes that outlive us, and strangers that have inherited their number."""

import os
import sys

import pytest

from streams.broker.devbroker import processes
from streams.clock import SystemClock

PATIENT = "import signal; signal.pause()"
AGAIN = """
import os, signal, sys
left = int(sys.argv[-1])
if left:
    os.execv(sys.executable, [*sys.orig_argv[:-1], str(left - 1)])
signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
signal.pause()
"""


@pytest.fixture
def spawned(tmp_path):
    """Starts Python with this code and a mark; what is left is ended with the test."""
    pids = []

    def spawn(code, *words):
        log = tmp_path / "log"
        command = [sys.executable, "-S", "-E", "-c", code, *words]
        pids.append(processes.spawn(command, os.environ, log))
        return pids[-1]

    yield spawn
    for pid in pids:
        processes.end({pid: ""}, 0, SystemClock())


def test_a_process_is_known_from_its_first_moment(spawned):
    """It has no command line yet while it is being replaced; seen then, it would be a stranger."""
    pids = [spawned(PATIENT, f"mark-{n}") for n in range(10)]

    assert [processes.runs(pid, f"mark-{n}") for n, pid in enumerate(pids)] == [True] * 10


def test_it_is_known_while_it_is_replaced_by_another_program(spawned):
    """A `java` that is a script and becomes the real one; for a moment it has no words at all."""
    pid = spawned(AGAIN, "mark", "40")

    assert [processes.runs(pid, "mark") for _ in range(5000)] == [True] * 5000


def test_without_a_folder_of_processes_ps_is_asked(spawned, monkeypatch, tmp_path):
    """As on a Mac."""
    pid = spawned(PATIENT, "mark")
    ended = spawned("pass", "mark")
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(processes, "PROCESSES", tmp_path)

    assert processes.runs(pid, "mark")
    assert not processes.runs(pid, "another")
    assert not processes.runs(ended, "mark")
    assert not processes.runs(2**22 + 1, "mark")


def test_a_number_that_belongs_to_another_is_not_ours(spawned):
    """After a reboot a stale file names whoever got the number."""
    pid = spawned(PATIENT, "somebody else")

    assert not processes.runs(pid, "/our/server.properties")


def test_one_that_has_ended_does_not_run_even_if_nobody_buried_it(spawned):
    pid = spawned("pass", "mark")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert not processes.runs(pid, "mark")


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_a_number_that_is_none_does_not_run(pid):
    """0 and -1 would be everybody."""
    assert not processes.runs(pid, "")


def test_one_that_obeys_is_gone_and_that_was_orderly(spawned):
    pid = spawned(PATIENT, "mark")

    assert processes.end({pid: "mark"}, 10, SystemClock())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_that_does_not_is_gone_all_the_same(spawned, tmp_path):
    """Whoever stops a broker wants it stopped."""
    pid = spawned(STUBBORN, "mark")
    while (tmp_path / "log").read_text() != "deaf\n":
        processes.pause()

    assert not processes.end({pid: "mark"}, 0.1, SystemClock())
    assert not processes.runs(pid, "mark")


def test_a_stranger_is_left_alone(spawned):
    """Ending is by number and mark, never by number."""
    pid = spawned(PATIENT, "somebody else")

    assert processes.end({pid: "mark"}, 10, SystemClock())
    assert processes.runs(pid, "somebody else")
