"""Worker processes: started, measured, stopped, killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from tests.bench.engines.contestants import Engine

TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """What a worker took, from its start to its end."""

    cpu: float
    """Seconds."""
    rss: float
    """MB at the peak."""
    stop: float
    """Seconds from SIGTERM to the end."""


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a living process has used; 0 of one that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pid: int, field: str = "VmRSS") -> float:
    """MB, by the system's account; `VmHWM` is the peak."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


class Worker:
    """One worker process, started again under the same number and folder."""

    def __init__(self, engine: Engine, number: int, folder: Path, output: IO[bytes]) -> None:
        self._engine = engine
        self._number = number
        self._folder = folder
        self._output = output
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        command, environment = self._engine.start(self._number, self._folder)
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )
        self._ended: Cost | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        """It has not ended by itself."""
        with contextlib.suppress(ChildProcessError):
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, flags) is None
        return False

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """It is gone as in a power cut."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def stop(self, patience: float = 20.0) -> Cost:
        """It has ended in order, or was killed after so many seconds."""
        if self._ended is not None:
            return self._ended
        peak = memory_of(self.pid, "VmHWM")
        began = time.monotonic()
        self.send(signal.SIGTERM)
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - began > patience:
                self.send(signal.SIGKILL)
                pid, status, usage = os.wait4(self.pid, 0)
                break
            time.sleep(0.02)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        took = time.monotonic() - began
        self._ended = Cost(usage.ru_utime + usage.ru_stime, peak, took)
        return self._ended


@contextlib.contextmanager
def workers(engine: Engine, count: int, folder: Path, output: IO[bytes]) -> Iterator[list[Worker]]:
    """So many workers run during the block; none does after it."""
    started = [Worker(engine, number, folder / f"w{number}", output) for number in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            if worker.runs:
                worker.stop()
