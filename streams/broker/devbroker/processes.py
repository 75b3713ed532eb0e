"""Processes that outlive us: begun, recognised later by their command line, ended.

A process id alone says nothing: after a crash or a reboot it may be anybody's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from streams.broker.devbroker import faults
from streams.clock import Clock

KILL_SECONDS = 10.0
LOOK_SECONDS = 0.02
"""Between two looks at something that only looking can tell."""
LOOKS = 25
"""At a process that is there and has no command line."""
PROCESSES = Path("/proc")


def spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """The process runs in a session of its own, so that Ctrl-C here is not meant for it.

    Its output goes to `log`. Not subprocess.Popen: that one wants to see the end of its child.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        command[0],
        list(command),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def runs(pid: int, mark: str) -> bool:
    """Whether the process lives and has `mark` in its command line."""
    words = command_line(pid) if pid > 0 else ""
    return bool(words) and mark in words


def command_line(pid: int) -> str:
    """Its words, "" if there is no such process or it has ended.

    A process has none for a moment while it is replaced by another program, and while it is ending
    and still holds its ports: neither is an end.
    """
    if not (PROCESSES / "self" / "cmdline").exists():
        return _told_by_ps(pid)
    for _ in range(LOOKS):
        if _has_ended(PROCESSES / str(pid)):
            return ""
        try:
            words = (PROCESSES / str(pid) / "cmdline").read_bytes()
        except OSError:
            return ""
        if words:
            return words.decode(errors="replace")
        pause()
    return ""


def end(marks: Mapping[int, str], seconds: float, clock: Clock) -> bool:
    """None of the processes runs; whether all went by themselves within `seconds`."""
    _signal(marks, signal.SIGTERM)
    orderly = _gone(marks, seconds, clock)
    if not orderly:
        _signal(marks, signal.SIGKILL)
        if not _gone(marks, KILL_SECONDS, clock):
            left = next(pid for pid, mark in marks.items() if runs(pid, mark))
            raise faults.cannot_end(left, "it is still there after SIGKILL")
    for pid in marks:
        _bury(pid)
    return orderly


def pause() -> None:
    """A moment passes."""
    threading.Event().wait(LOOK_SECONDS)


def _has_ended(process: Path) -> bool:
    """Gone, or dead and not yet buried by whoever started it, with every thread of it."""
    try:
        state = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        return state in {"Z", "X"} and len(list((process / "task").iterdir())) <= 1
    except (OSError, IndexError):
        return True


def _told_by_ps(pid: int) -> str:
    """The same, where processes are no files."""
    done = subprocess.run(  # noqa: S603 -- a number is all that is not ours
        ["ps", "-ww", "-o", "state=", "-o", "command=", "-p", str(pid)],  # noqa: S607 -- on the PATH
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, words = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else words


def _bury(pid: int) -> None:
    """The system forgets it, if it was a child of ours and has ended."""
    with suppress(ChildProcessError):  # else somebody else started it, and buries it
        os.waitpid(pid, os.WNOHANG)


def _signal(marks: Mapping[int, str], number: signal.Signals) -> None:
    for pid, mark in marks.items():
        if not runs(pid, mark):
            continue
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError as error:
            raise faults.cannot_end(pid, str(error)) from None


def _gone(marks: Mapping[int, str], seconds: float, clock: Clock) -> bool:
    limit = clock.monotonic() + seconds
    while any(runs(pid, mark) for pid, mark in marks.items()):
        if clock.monotonic() > limit:
            return False
        pause()
    return True
