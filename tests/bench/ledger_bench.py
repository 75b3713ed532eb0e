"""Taking over a ledger of 1,000,000 rows: from the log alone, and from the former owner's copy.

    python tests/bench/ledger_bench.py [--rows 1000000] [--repeat 3]

Embedded log on file, four partitions, rows of about 300 B: jobs of five rows that have ended, and
every twentieth one waits at a gate. Each restore is a process of its own that takes all partitions,
one after another, as a keeper does when it starts alone.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
from ledger_rows import ROWS_A_JOB, SIZE, rows_of
from worker_process import NAMING, PARTITIONS, plan_of, registry

from streams.blobs import BlobStore
from streams.broker.local import LocalLog
from streams.broker.port import Outgoing
from streams.clock import SystemClock
from streams.engine.rows import Address
from streams.observe import logs
from streams.runtime.commit import partition_of
from streams.runtime.execution import Execution
from streams.runtime.setup import apply
from streams.runtime.worker import Worker
from streams.secrets import Secrets
from streams.settings import Settings

COLD_GOAL, COPY_GOAL, RSS_GOAL = 20.0, 3.0, 1_500.0


async def fill(folder: Path, rows: int) -> None:
    """The ledger, with jobs of all partitions in between each other."""
    clock = SystemClock()
    log = LocalLog.open(folder / "log.db", clock=clock)
    plan = plan_of("gate")
    await apply(log, NAMING, plan, clock, PARTITIONS)
    batch: list[Outgoing] = []
    for n in range(rows // ROWS_A_JOB):
        job = f"job-{n:08}"
        partition = partition_of(job, PARTITIONS)
        for part, data in rows_of(job, n % 20 == 0, plan.digest):
            batch.append(Outgoing(NAMING.ledger, Address(job, part).key, data, (), partition))
        if len(batch) >= 5_000:
            await log.publish(batch)
            batch = []
    await log.publish(batch)
    await log.close()


async def restore(folder: Path) -> None:
    """Prints seconds, seconds of CPU, rows, and MB at the peak; leaves its copies behind."""
    clock = SystemClock()
    log = LocalLog.open(folder / "log.db", clock=clock)
    blobs = BlobStore("memory://bench")
    execution = Execution(registry(), blobs, Secrets({}), clock)
    worker = Worker(
        log, NAMING, execution, blobs, clock, name="w", partitions=PARTITIONS, pools=(),
        snapshots=folder / "snapshots",
    )  # fmt: skip
    began, used = time.perf_counter(), time.process_time()
    running = asyncio.create_task(worker.run())
    while worker.keeper is None or len(worker.keeper.owned) < PARTITIONS:
        await asyncio.sleep(0.01)
        if running.done():
            running.result()
    took, used = time.perf_counter() - began, time.process_time() - used
    rows = sum(len(state.table) for state in worker.keeper.states)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(took, used, rows, rss)
    worker.leave()
    await running
    await execution.close()
    await log.close()


def restored(folder: Path, rows: int) -> tuple[float, float, float]:
    """Seconds, seconds of CPU, MB."""
    command = [sys.executable, __file__, "--restore", str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    took, used, found, rss = map(float, output.split())
    assert found == rows, f"{found} rows of {rows}"
    return took, used, rss


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--restore", type=Path)
    given = parser.parse_args()
    logs.configure(Settings(log_level="error"))
    if given.restore:
        asyncio.run(restore(given.restore))
        return 0
    print(machine.described())
    cold, copied = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(fill(folder, given.rows))
        for _ in range(given.repeat):
            shutil.rmtree(folder / "snapshots", ignore_errors=True)
            cold.append(restored(folder, given.rows))
            copied.append(restored(folder, given.rows))
        copies = sum(path.stat().st_size for path in folder.glob("snapshots/*")) / 1e6
    print(f"{given.rows:,} rows of {SIZE} B, {PARTITIONS} partitions, copies of {copies:,.0f} MB")
    lines = []
    for what, found, goal in (
        ("from the log", cold, COLD_GOAL),
        ("from the copy", copied, COPY_GOAL),
    ):
        took, used, rss = (statistics.median(column) for column in zip(*found, strict=True))
        met = "met" if took <= goal and rss <= RSS_GOAL else "MISSED"
        goals = f"{goal:g} s, {RSS_GOAL:,.0f} MB"
        lines.append((what, f"{took:.2f}", f"{used:.2f}", f"{rss:,.0f}", goals, met))
    heads = (f"median of {given.repeat}", "seconds", "CPU s", "peak RSS MB", "goal", "")
    print(machine.table(heads, lines))
    return sum(line[-1] != "met" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
