"""Hops a second of a four-stage pipeline with ledger rows on the embedded log, in one process.

    python tests/bench/pipeline_bench.py [--jobs 5000] [--file] [--repeat 3] [--profile]

Events of 1 KB, intake to `done`, keeper in the same process. A figure for this machine and this
moment: compare runs of one sitting only. Where others use the machine too, the CPU column holds:
hops for each second of this process's CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import platform
import pstats
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from streams import StageRegistry, stage
from streams.blobs import BlobStore
from streams.broker.local import LocalLog
from streams.broker.port import TopicPartition
from streams.client import Client, Submission
from streams.clock import SystemClock
from streams.observe import logs
from streams.runtime.collecting import calm_collector
from streams.runtime.execution import Execution
from streams.runtime.setup import apply
from streams.runtime.worker import Worker
from streams.secrets import Secrets
from streams.settings import Settings
from streams.topology.plan import Edge, Naming, Part, Plan

STAGES = ("a", "b", "c", "d")


@stage(inline=True)
def work(document: Any) -> Any:
    return document


def plan() -> Plan:
    parts = [
        Part(
            name,
            "stage",
            "work",
            needs=STAGES[n - 1 : n] if n else (),
            edges=(Edge(STAGES[n + 1], carry=(name,)),) if n + 1 < len(STAGES) else (),
        )
        for n, name in enumerate(STAGES)
    ]
    return Plan("bench", "1", tuple(parts))


class Speed(NamedTuple):
    """Hops a second: by the clock on the wall, and by the CPU this process used."""

    wall: float
    cpu: float


async def once(jobs: int, file: Path | None) -> Speed:
    """From the worker's start to the last `done`."""
    clock = SystemClock()
    log = LocalLog.open(file, clock=clock)
    naming, blobs = Naming("default", "bench"), BlobStore("memory://bench")
    partitions = await apply(log, naming, plan(), clock, 4)
    registry = StageRegistry()
    registry.register(work)
    execution = Execution(registry, blobs, Secrets({}), clock)
    client = Client(log, "default", blobs=blobs, clock=clock)
    info = await client.pipeline("bench")
    submissions = (Submission(id=f"j{n}", data={"text": "x" * 900}) for n in range(jobs))
    async for _ in client.submit_many(info, submissions):
        pass
    worker = Worker(
        log, naming, execution, blobs, clock, name="w", partitions=partitions, pools=None
    )
    places = [TopicPartition(naming.done, n) for n in range(partitions)]
    began, used = time.perf_counter(), time.process_time()
    running = asyncio.create_task(worker.run())
    while sum(mark.high for mark in (await log.watermarks(places)).values()) < jobs:
        await asyncio.sleep(0.02)
        if running.done():
            running.result()
    took, used = time.perf_counter() - began, time.process_time() - used
    worker.leave()
    await running
    await execution.close()
    await log.close()
    hops = jobs * len(STAGES)
    return Speed(hops / took, hops / used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--file", action="store_true")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    logs.configure(Settings(log_level="error"))
    calm_collector()  # as a worker's process does
    figures: list[Speed] = []
    profile = cProfile.Profile() if given.profile else None
    for _ in range(given.repeat):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "log.db" if given.file else None
            gc.collect()  # what a run leaves behind is no business of the next one
            if profile:
                profile.enable()
            figures.append(asyncio.run(once(given.jobs, file)))
            if profile:
                profile.disable()
    kind = "file" if given.file else "memory"
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{platform.machine()}, Python {platform.python_version()}, {given.jobs} jobs, {kind}")
    for name, rates in zip(("hops/s", "hops/CPU-s"), zip(*figures, strict=True), strict=True):
        print(
            f"{name:<11} min {min(rates):,.0f}  median {statistics.median(rates):,.0f}"
            f"  max {max(rates):,.0f}"
        )
    median = statistics.median(figure.cpu for figure in figures)
    print(f"{1e6 / median:,.0f} us CPU a hop, peak RSS {rss} MB")
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
