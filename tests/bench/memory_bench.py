"""Memory of a worker while jobs come and go: flat from 10,000 to 200,000 of them.

    python tests/bench/memory_bench.py [--jobs 200000] [--open 400]

Embedded log on file, four stages, events of 1 KB, the default retention of a week: every job that
has ended is still there, and can be asked for, but not in memory. The worker is a process of its
own; this one submits, never more than `--open` jobs ahead.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import machine
from worker_process import NAMING, PARTITIONS, Process, plan_of

from streams.blobs import BlobStore
from streams.broker.local import LocalLog
from streams.broker.port import TopicPartition
from streams.client import Client, Submission
from streams.clock import SystemClock
from streams.runtime.setup import apply

STEPS = 20
DONE = [TopicPartition(NAMING.done, n) for n in range(PARTITIONS)]
GROWTH = 0.10
"""More than that from the first tenth to the end is not flat."""


async def bench(folder: Path, jobs: int, ahead: int) -> list[tuple[int, float, float, float]]:
    """(jobs ended, RSS in MB, ms of CPU a job since the last line, seconds)."""
    clock = SystemClock()
    log = LocalLog.open(folder / "log.db", clock=clock)
    await apply(log, NAMING, plan_of("line"), clock, PARTITIONS)
    client = Client(log, "default", blobs=BlobStore("memory://bench"), clock=clock)
    info = await client.pipeline("bench")
    process = Process(folder, "line")
    lines = []
    began, used, submitted, looked = time.perf_counter(), 0.0, 0, 0
    try:
        while looked < jobs:
            ended = sum(mark.high for mark in (await log.watermarks(DONE)).values())
            more = min(ahead - (submitted - ended), jobs - submitted)
            if more >= ahead // 4 or (more and submitted + more == jobs):
                new = range(submitted, submitted + more)
                todo = (Submission(id=f"job-{n:08}", data={"text": "x" * 900}) for n in new)
                async for _ in client.submit_many(info, todo):
                    pass
                submitted += more
            if ended >= looked + jobs // STEPS:
                process.collect()
                await asyncio.sleep(0.5)
                spent = process.cpu()
                each = (spent - used) / (ended - looked) * 1000
                lines.append((ended, process.rss() / 1e6, each, time.perf_counter() - began))
                print("{:>8,} {:>8.1f} {:>8.3f} {:>8.1f}".format(*lines[-1]), flush=True)
                looked, used = ended, spent
            await asyncio.sleep(0.02)
            assert process.popen.poll() is None, "the worker is gone"
        process.stop()
    finally:
        if process.popen.poll() is None:
            process.kill()
        await log.close()
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--open", type=int, default=400)
    given = parser.parse_args()
    print(machine.described())
    print("    jobs   RSS MB   ms/job  seconds")
    with tempfile.TemporaryDirectory() as folder:
        lines = asyncio.run(bench(Path(folder), given.jobs, given.open))
        copies = sum(path.stat().st_size for path in Path(folder).glob("snapshots/*")) / 1e6
        size = (Path(folder) / "log.db").stat().st_size / 1e6
    first, last = lines[0][1], lines[-1][1]
    growth = last / first - 1
    print(f"log {size:,.0f} MB, local copies of the ledger {copies:,.0f} MB")
    print(
        f"RSS {first:.1f} MB → {last:.1f} MB: {growth:+.1%} (goal at most {GROWTH:+.0%}): "
        f"{'met' if growth <= GROWTH else 'MISSED'}"
    )
    return 0 if growth <= GROWTH else 1


if __name__ == "__main__":
    raise SystemExit(main())
