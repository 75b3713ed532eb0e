"""A worker's name: stable over restarts, its own among all that live (R3)."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.clock import SystemClock
from streams.errors import UserError
from streams.runtime.slots import claimed_name

CLOCK = SystemClock()
HOLDER = """
import os, sys, time
from pathlib import Path
from streams.clock import SystemClock
from streams.runtime.slots import claimed_name
with claimed_name(Path(sys.argv[1]), SystemClock()) as name:
    if sys.argv[2] == "alone" or os.fork() == 0:
        print(name, flush=True)
    time.sleep(60)
"""


def holder(folder, how="alone"):
    """A process that holds a name of the folder, and the name."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), how],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        start_new_session=True,
    )
    return process, process.stdout.readline().strip()


def bury(process):
    """Nothing of it is left, whatever it forked."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_worker_that_comes_back_has_the_name_it_had(tmp_path):
    """R3: its seat and its transactional id wait for it."""
    with claimed_name(tmp_path, CLOCK) as first:
        pass
    with claimed_name(tmp_path, CLOCK) as second:
        assert second == first
    assert re.fullmatch(r"[A-Za-z0-9._-]+-[0-9a-f]{8}-0", first)


def test_two_workers_of_one_folder_never_share_a_name(tmp_path):
    """Of two with one name each would put the other out; the lowest free slot is taken."""
    with claimed_name(tmp_path, CLOCK) as first:
        with claimed_name(tmp_path, CLOCK) as second:
            assert (first[-2:], second[-2:]) == ("-0", "-1")
        with claimed_name(tmp_path, CLOCK) as third:
            assert third == second


def test_names_of_two_folders_differ(tmp_path):
    """Containers may have one host name, and their folders one path."""
    names = []
    for each in ("a", "b"):
        with claimed_name(tmp_path / each, CLOCK) as name:
            names.append(name)
    assert names[0] != names[1]


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_kill_9_frees_a_name_at_once(tmp_path, how):
    """Also while a child of the dead worker lives on: a lock is inherited over a fork."""
    process, name = holder(tmp_path, how)
    with claimed_name(tmp_path, CLOCK) as other:
        assert other != name
    process.kill()
    process.wait()
    with claimed_name(tmp_path, CLOCK) as again:
        assert again == name
    bury(process)


def test_a_name_that_was_given_wins(tmp_path):
    """The platform's own, of a StatefulSet say, is as stable as a name can be."""
    with claimed_name(tmp_path, CLOCK, "ingest-7") as name:
        assert name == "ingest-7"


def test_a_given_name_that_a_living_worker_has_is_refused(tmp_path):
    """Else the two would fence each other for ever."""
    with claimed_name(tmp_path, CLOCK, "ingest-7"):
        with pytest.raises(UserError, match="another worker of this folder runs as ingest-7") as e:
            with claimed_name(tmp_path, CLOCK, "ingest-7"):
                pass
    assert e.value.code == "C120"


def test_a_given_name_needs_no_folder(tmp_path):
    """A container may have a file system that cannot be written."""
    (tmp_path / "file").write_text("")
    with claimed_name(tmp_path / "file", CLOCK, "ingest-7") as name:
        assert name == "ingest-7"


def test_where_no_name_can_be_kept_one_is_asked_for(tmp_path):
    """A name made up anew with each start would wait out its former self's session each time."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no name for this worker") as caught:
        with claimed_name(tmp_path / "file", CLOCK):
            pass
    assert (caught.value.code, caught.value.help) == ("C121", "set worker.name")
