"""A gate as others write it: a stage that sleeps and looks, every 10 s. Measured beside ours.

    python tests/bench/polling_gate.py [--jobs 1000] [--poll 10]

The wait strategy is the documented one: the stage's `execute` reads a field of the job's ledger
entry, sleeps `poll_interval_seconds`, and gives up when a timer that it started itself has passed
`timeout_seconds`. The ledger is a SQLite file here, so that another process can change it, and each
waiting job has a thread, since a sleeping stage keeps its worker.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SCHEMA = "CREATE TABLE IF NOT EXISTS ledger(job TEXT PRIMARY KEY, ready INTEGER, at REAL)"


class PollingGate:
    """The gate stage of the documents."""

    def __init__(self, ledger: Path, timeout_seconds: float, poll_interval_seconds: float) -> None:
        self.ledger = ledger
        self.timeout_seconds = timeout_seconds
        self.poll_interval_seconds = poll_interval_seconds

    def execute(self, job: str) -> bool:
        """True once the field is set; False if that took too long."""
        started = time.monotonic()
        while True:
            with sqlite3.connect(self.ledger, timeout=30) as file:
                row = file.execute("SELECT ready FROM ledger WHERE job = ?", (job,)).fetchone()
            file.close()
            if row is not None and row[0]:
                return True
            if time.monotonic() - started >= self.timeout_seconds:
                return False
            time.sleep(self.poll_interval_seconds)


class Figures(NamedTuple):
    """Seconds, but for `cpu` (share of a core) and `memory` (bytes a job)."""

    median: float
    p99: float
    cpu: float
    memory: float
    times_out_after: float
    """A gate of 25 s whose process is killed after 12 s and started again."""


def wait_in_threads(ledger: Path, jobs: int, timeout: float, poll: float) -> None:
    """The worker: prints `job moment outcome` for each job that goes on."""
    threading.stack_size(256 * 1024)
    gate = PollingGate(ledger, timeout, poll)

    def run(job: str, delay: float) -> None:
        time.sleep(delay)  # jobs reach the gate one after another, not all at once
        passed = gate.execute(job)
        sys.stdout.write(f"{job} {time.time()} {passed}\n")
        sys.stdout.flush()

    threads = [threading.Thread(target=run, args=(f"j{n}", poll * n / jobs)) for n in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _start(ledger: Path, jobs: int, timeout: float, poll: float) -> subprocess.Popen[str]:
    arguments = [str(ledger), str(jobs), str(timeout), str(poll)]
    return subprocess.Popen(
        [sys.executable, __file__, "--worker", *arguments], stdout=subprocess.PIPE, text=True
    )


def _cpu(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _rss(process: subprocess.Popen[str]) -> int:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[21]) * PAGE


def measure(jobs: int, poll: float) -> Figures:
    """Waits, flips each job's field at a moment of its own within two intervals, kills."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.db"
        file = sqlite3.connect(ledger, isolation_level=None, timeout=30)
        file.execute("PRAGMA journal_mode = WAL")
        file.execute(SCHEMA)
        few = _start(ledger, 1, 3600, poll)
        time.sleep(1)
        empty = _rss(few)
        few.kill()
        few.wait()
        process = _start(ledger, jobs, 3600, poll)
        time.sleep(poll + 1)
        used, began = _cpu(process), time.monotonic()
        memory = (_rss(process) - empty) / jobs
        flipped: dict[str, float] = {}
        pause = 2 * poll / jobs
        for n in random.Random(4).sample(range(jobs), jobs):
            flipped[f"j{n}"] = time.time()
            file.execute("INSERT INTO ledger VALUES (?, 1, 0)", (f"j{n}",))
            time.sleep(pause)
        cpu = (_cpu(process) - used) / (time.monotonic() - began)
        output, _ = process.communicate(timeout=3 * poll + 30)
        waited = sorted(
            float(moment) - flipped[job]
            for job, moment, _ in (line.split() for line in output.splitlines())
        )
        file.execute("DELETE FROM ledger")
        began = time.monotonic()
        first = _start(ledger, 1, 25, poll)
        time.sleep(12)
        first.kill()
        first.wait()
        second = _start(ledger, 1, 25, poll)
        second.communicate(timeout=120)
        late = time.monotonic() - began
        file.close()
    p99 = waited[len(waited) * 99 // 100]
    return Figures(statistics.median(waited), p99, cpu, memory, late)


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        ledger, jobs, timeout, poll = sys.argv[2:]
        wait_in_threads(Path(ledger), int(jobs), float(timeout), float(poll))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--poll", type=float, default=10.0)
    given = parser.parse_args()
    found = measure(given.jobs, given.poll)
    print(f"{given.jobs} jobs at a gate that looks every {given.poll:g} s")
    print(f"released after: median {found.median * 1000:,.0f} ms, p99 {found.p99 * 1000:,.0f} ms")
    print(f"CPU {found.cpu:.2%} of a core, {found.memory:,.0f} B a waiting job")
    print(
        f"a timeout of 25 s, the process killed at 12 s: passes after {found.times_out_after:.1f} s"
    )


if __name__ == "__main__":
    main()
