"""Jobs parked at a gate: memory, idle CPU, one flip, a storm with a kill -9 in its middle.

    python tests/bench/gate_bench.py [--jobs 100000] [--flips 1000] [--polling 1000]

Embedded log on file; the keeper is a process of its own and the only one that works, so that each
job released is exactly one event in the next stage's topic. `--polling` jobs wait at a 10 s polling
gate beside it (`polling_gate`); 0 leaves that out.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import machine
import polling_gate
from worker_process import NAMING, PARTITIONS, Process, plan_of

from streams.blobs import BlobStore
from streams.broker.local import LocalLog
from streams.broker.port import TopicPartition
from streams.client import Client, Submission
from streams.clock import SystemClock
from streams.engine.messages import SignalData
from streams.runtime.setup import apply

TEXT = "x" * 900
IDLE_SECONDS = 20.0
SETTLED = 65.0
"""By then the keeper has copied what it parked, which it does once a minute, and is idle."""
NEXT = NAMING.stage("two")


class Figures(NamedTuple):
    """What one run came to."""

    parked_a_second: float
    memory: float
    """Bytes of RSS a waiting job, its event not counted."""
    idle: float
    """Share of a core."""
    median: float
    p99: float
    storm: float
    """Seconds from the shared fact to the last release, the kill included."""
    restored: float
    """Seconds from the new keeper's start to its first release."""
    wrong: int
    """Jobs released not exactly once."""


class Bench:
    """One log, one keeper process, one client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.log = LocalLog.open(folder / "log.db", clock=self.clock)
        self.client = Client(self.log, "default", blobs=BlobStore("memory://bench"))
        self.info: Any = None
        self.process: Process | None = None

    async def begin(self) -> None:
        await apply(self.log, NAMING, plan_of("gate"), self.clock, PARTITIONS)
        self.info = await self.client.pipeline("bench")

    def start(self) -> Process:
        self.process = Process(self.folder, "gate", "--no-agents")
        return self.process

    async def high(self, topic: str) -> int:
        places = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        return sum(mark.high for mark in (await self.log.watermarks(places)).values())

    async def until(self, topic: str, high: int) -> None:
        while await self.high(topic) < high:
            await asyncio.sleep(0.02)
            assert self.process is not None
            assert self.process.popen.poll() is None, "the keeper is gone"

    async def park(self, first: int, end: int) -> None:
        """These jobs wait at the gate: input, job and gate rows are in the ledger."""
        jobs = (Submission(id=name(n), data={"text": TEXT}) for n in range(first, end))
        async for _ in self.client.submit_many(self.info, jobs):
            pass
        await self.until(NAMING.ledger, 3 * end)

    async def flip(self, job: str, reader: Any) -> float:
        """Seconds from the fact's publication to the event of the next stage; no other is there."""
        began = time.perf_counter()
        fact = SignalData(kind="fact", facts={"go": True}, by="bench")
        await self.client.signal(self.info, fact, job)
        records = await reader.poll(10, 30.0)
        took = time.perf_counter() - began
        assert [record.key.decode() for record in records] == [job], (job, records)
        return took

    async def released(self) -> Counter[str]:
        """Job → events of the next stage."""
        reader = self.log.reader()
        places = [TopicPartition(NEXT, n) for n in range(PARTITIONS)]
        marks = await self.log.watermarks(places)
        reader.assign({place: marks[place].low for place in places})
        found: Counter[str] = Counter()
        while any(reader.position(place) < marks[place].high for place in places):
            found.update((r.key or b"").decode() for r in await reader.poll(1_000, 0.1))
        await reader.close()
        return found


def name(n: int) -> str:
    return f"job-{n:08}"


async def measure(folder: Path, jobs: int, flips: int) -> Figures:
    bench = Bench(folder)
    await bench.begin()
    process = bench.start()
    try:
        warm = min(2_000, jobs // 10)
        await bench.park(0, warm)
        process.collect()
        await asyncio.sleep(1)
        before, began = process.rss(), time.perf_counter()
        await bench.park(warm, jobs)
        rate = (jobs - warm) / (time.perf_counter() - began)
        await asyncio.sleep(2)
        process.collect()
        await asyncio.sleep(1)
        memory = (process.rss() - before) / (jobs - warm)
        await asyncio.sleep(SETTLED)
        used = process.cpu()
        await asyncio.sleep(IDLE_SECONDS)
        idle = (process.cpu() - used) / IDLE_SECONDS

        reader = bench.log.reader()
        reader.assign({TopicPartition(NEXT, n): 0 for n in range(PARTITIONS)})
        chosen = random.Random(4).sample(range(jobs), flips)
        times = sorted([await bench.flip(name(n), reader) for n in chosen])
        await reader.close()

        began = time.perf_counter()
        fact = SignalData(kind="fact", facts={"go": True}, everywhere=True, by="bench")
        await bench.client.signal(bench.info, fact)
        await bench.until(NEXT, flips + (jobs - flips) // 2)
        process.kill()
        half = await bench.high(NEXT)
        again = time.perf_counter()
        process = bench.start()
        await bench.until(NEXT, half + 1)
        restored = time.perf_counter() - again
        await bench.until(NEXT, jobs)
        storm = time.perf_counter() - began
        await asyncio.sleep(2)
        released = await bench.released()
        wrong = sum(released[name(n)] != 1 for n in range(jobs)) + len(released) - jobs
        process.stop()
    finally:
        if process.popen.poll() is None:
            process.kill()
        await bench.log.close()
    p99 = times[len(times) * 99 // 100]
    return Figures(rate, memory, idle, statistics.median(times), p99, storm, restored, wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--flips", type=int, default=1_000)
    parser.add_argument("--polling", type=int, default=1_000)
    given = parser.parse_args()
    print(machine.described())
    with tempfile.TemporaryDirectory() as folder:
        ours = asyncio.run(measure(Path(folder), given.jobs, given.flips))
    wanted = [
        ("memory a waiting job", f"{ours.memory:,.0f} B", "<= 1,500 B", ours.memory <= 1_500),
        ("idle CPU of a core", f"{ours.idle:.2%}", "< 2 %", ours.idle < 0.02),
        ("one flip, p99", f"{ours.p99 * 1000:.1f} ms", "< 50 ms", ours.p99 < 0.05),
        ("not released exactly once", f"{ours.wrong}", "0", ours.wrong == 0),
    ]
    more = [
        ("one flip, median", f"{ours.median * 1000:.1f} ms"),
        ("parked", f"{ours.parked_a_second:,.0f}/s"),
        ("a fact for all, killed in the middle", f"{ours.storm:.1f} s"),
        ("from the new start to a release", f"{ours.restored:.1f} s"),
    ]
    print(f"{given.jobs:,} jobs with an event of 1 KB at a gate, {given.flips:,} single flips")
    rows = [(what, found, goal, "met" if met else "MISSED") for what, found, goal, met in wanted]
    rows += [(what, found, "", "") for what, found in more]
    print(machine.table(("", "found", "goal", ""), rows))
    if given.polling:
        theirs = polling_gate.measure(given.polling, 10.0)
        print(f"\n{given.polling:,} jobs at a gate that sleeps and looks every 10 s")
        polled = [
            ("memory a waiting job, a thread each", f"{theirs.memory:,.0f} B"),
            ("CPU of a core", f"{theirs.cpu:.2%}"),
            ("one flip, median", f"{theirs.median * 1000:,.0f} ms"),
            ("one flip, p99", f"{theirs.p99 * 1000:,.0f} ms"),
            ("25 s timeout, killed after 12 s: passes", f"{theirs.times_out_after:.1f} s"),
        ]
        print(machine.table(("", "found"), polled))
    return 0 if all(met for *_, met in wanted) else 1


if __name__ == "__main__":
    raise SystemExit(main())
