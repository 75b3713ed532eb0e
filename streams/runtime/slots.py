"""A worker's name: the same after a restart, and nobody else's while it runs.

On a cluster the name is the worker's seat in its groups and the id of its transactions. Who comes
back under it takes its partitions at once and ends what its former self left open; under another
name it would wait for both to time out. Where the platform gives a stable name (a pod of a
StatefulSet), that is it: the setting `worker.name`. Else the worker takes a slot of its folder:
the lowest number whose file nobody has locked. The system lets go of a lock when its holder dies,
however it dies.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.clock import Clock
from streams.errors import UserError

FOLDER = "slots"
MOST = 1_000
"""Workers of one folder; far more than a machine has cores."""

EXPLANATIONS: dict[str, str] = {
    "C120": """\
**Another worker of this folder has this name.** The name is a worker's seat in its groups and the
id of its transactions: of two with one name each would put the other out.
Next: give each its own `worker.name` (`STREAMS_WORKER__NAME`), or leave the setting out; every
worker then takes a name of its own from the folder. Or stop the one that runs.""",
    "C121": """\
**No name for this worker.** Without the setting `worker.name` a worker takes its name from the
folder `slots` in the state dir, where it locks a file; that folder cannot be written, or its file
system has no locks.
Next: make the state dir writable, or set `worker.name` (`STREAMS_WORKER__NAME`) to a name that
stays the same over restarts and that no other worker has.""",
}

_held: set[int] = set()
"""Descriptors that hold a lock. A child process must not keep it beyond its parent's death."""


def _let_go_in_a_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_a_child)


@contextmanager
def claimed_name(state_dir: Path, clock: Clock, given: str = "") -> Iterator[str]:
    """The worker's name, its own while the block runs: the one given, else that of a free slot.

    Raises `UserError` if a living worker of this folder has the given one.
    """
    folder = state_dir / FOLDER
    descriptor: int | None = None
    try:
        if given:
            name, descriptor = given, _claim_given(folder, given)
        else:
            name, descriptor = _claim_free(folder, clock)
        if descriptor is not None:
            _held.add(descriptor)
        yield name
    finally:
        if descriptor is not None:
            _held.discard(descriptor)
            os.close(descriptor)


def _claim_given(folder: Path, name: str) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(folder / f"{name}.lock")
    except OSError:
        return None  # a folder that cannot be written is nobody else's either: the name stands
    if descriptor is None:
        raise UserError(
            f"another worker of this folder runs as {name}",
            code="C120",
            help="give each its own worker.name, or leave it out",
        )
    return descriptor


def _claim_free(folder: Path, clock: Clock) -> tuple[str, int]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        token = _token(folder / "id", clock)
        for number in range(MOST):
            descriptor = _locked(folder / f"{number}.lock")
            if descriptor is not None:
                return f"{_host()}-{token}-{number}", descriptor
    except OSError as error:
        why = f"{folder}: {error.strerror or error}"
    else:
        why = f"{MOST:,} workers run in {folder.parent}"
    raise UserError(f"no name for this worker: {why}", code="C121", help="set worker.name")


def _token(path: Path, clock: Clock) -> str:
    """What tells this folder from others; made by the first worker. The path would not do: the
    containers of one host may all have the same one, and the host's name."""
    with path.open("a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        token = file.read().strip()
        if not token:
            token = clock.new_id()[:8]
            file.write(token)
        return token


def _host() -> str:
    """The machine's name, as far as Kafka takes it in a name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64]


def _locked(path: Path) -> int | None:
    """The descriptor that holds the file's lock; None if another one does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
