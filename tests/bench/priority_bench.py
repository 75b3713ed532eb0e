"""High jobs beside a backlog of 50,000 low ones: what they wait, and what it costs the others.

    python tests/bench/priority_bench.py [--backlog 50000] [--rate 20] [--kafka HOST:PORT]

Four inline stages, one process with agents and keeper. The backlog waits for the first stage when
the process starts; from then on `--rate` probes a second are submitted until it is done. Three
runs: the probes alone; everything of normal priority; the backlog low and the probes high.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import machine

from streams.blobs import BlobStore
from streams.broker.opening import open_log
from streams.broker.port import TopicPartition
from streams.client import Client, Submission
from streams.clock import SystemClock
from streams.engine.priority import Priority
from streams.settings import Settings
from streams.topology.plan import Naming

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests" / "processes" / "worker.py"
TICKS = os.sysconf("SC_CLK_TCK")
ALONE_SECONDS = 15.0
WARM_UP = 3.0
TEXT = "x" * 900
PIPELINE = """
pipeline: bench
plugins: {stages: [{callable: "bench_stages:work"}]}
stages:
  - {name: a, type: work}
  - {name: b, type: work}
  - {name: c, type: work}
  - {name: d, type: work}
"""
STAGES = """
from streams import stage


@stage(inline=True)
def work(document: object) -> object:
    return document
"""


class Run(NamedTuple):
    """What one run came to."""

    probes: list[float]
    """Milliseconds from the submission to the end, of each probe that was submitted while the
    backlog was there."""
    drained: float
    """Seconds until the last job of the backlog had ended."""
    cpu: float
    """Milliseconds of the worker's CPU for each job."""


class Bench:
    """A folder, a namespace and the processes of one run."""

    def __init__(self, folder: Path, kafka: str) -> None:
        self.folder = folder
        self.clock = SystemClock()
        (folder / "bench.pipeline.yaml").write_text(PIPELINE)
        (folder / "bench_stages.py").write_text(STAGES)
        name = f"priority-{os.getpid()}-{folder.name[-6:].replace('_', '-')}"
        lines = f"namespace: {name}\nlog_level: warning\n"
        if kafka:
            lines += f"kafka: {{bootstrap: '{kafka}'}}\n"
        (folder / "streams.yaml").write_text(lines)
        self.settings = Settings.load(cwd=folder)
        self.naming = Naming(name, "bench")
        self.log = open_log(self.settings, self.clock)
        self.client = Client(self.log, name, blobs=BlobStore("memory://bench"))
        self.ended: dict[str, float] = {}
        """Job → when its `done` event was seen."""

    def start(self, *what: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(WORKER), str(self.folder), "--name", "w", *what]
        return subprocess.Popen(
            command, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )

    async def info(self) -> Any:
        while True:
            names = [each.name for each in await self.client.pipelines()]
            if "bench" in names:
                return await self.client.pipeline("bench")
            await asyncio.sleep(0.1)

    async def submit(self, info: Any, jobs: Iterable[str], priority: Priority) -> None:
        wanted = (Submission(id=job, data={"text": TEXT}, priority=priority) for job in jobs)
        async for _ in self.client.submit_many(info, wanted):
            pass

    async def waiting(self) -> int:
        """Events of the first stage, all there ever were."""
        topic = self.naming.stage("a")
        count = (await self.log.topics())[topic].partitions
        marks = await self.log.watermarks([TopicPartition(topic, n) for n in range(count)])
        return sum(mark.high for mark in marks.values())

    async def watch(self) -> None:
        """Notes the end of every job, for ever."""
        topic = self.naming.done
        count = (await self.log.topics())[topic].partitions
        reader = self.log.reader()
        reader.assign({TopicPartition(topic, n): 0 for n in range(count)})
        try:
            while True:
                records = await reader.poll(1_000, 0.02)
                now = time.perf_counter()
                for record in records:
                    self.ended.setdefault((record.key or b"").decode(), now)
        finally:
            await reader.close()

    async def close(self) -> None:
        if self.settings.kafka.bootstrap:
            ours = f"{self.settings.namespace}."
            await self.log.delete_topics([t for t in await self.log.topics() if t.startswith(ours)])
        await self.log.close()


def cpu_of(process: subprocess.Popen[bytes]) -> float:
    """Seconds so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def measure(kafka: str, backlog: int, rate: float, low: Priority, high: Priority) -> Run:
    """One run, on a log of its own."""
    with tempfile.TemporaryDirectory(prefix="priority-") as folder:
        bench = Bench(Path(folder), kafka)
        keeper = bench.start("--keeper")
        info = await bench.info()
        jobs = [f"low-{n}" for n in range(backlog)]
        await bench.submit(info, jobs, low)
        while await bench.waiting() < backlog:
            await asyncio.sleep(0.2)
        keeper.terminate()
        keeper.wait(60)
        watching = asyncio.create_task(bench.watch())
        worker = bench.start("--agents", "--keeper")
        began = time.perf_counter()
        sent: dict[str, float] = {}
        try:
            while not _over(bench, jobs, began):
                probe = f"probe-{len(sent)}"
                sent[probe] = time.perf_counter()
                await bench.submit(info, [probe], high)
                left = began + len(sent) / rate - time.perf_counter()
                await asyncio.sleep(max(0.0, left))
            while not sent.keys() <= bench.ended.keys():
                await asyncio.sleep(0.05)
            used = cpu_of(worker)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            worker.terminate()
            worker.wait(60)
            await bench.close()
        last = max((bench.ended[job] for job in jobs), default=began)
        # Those before waited for the process to start, and for its keeper to read the ledger.
        at_work = min((bench.ended[job] for job in jobs), default=began) + WARM_UP
        took = [1000 * (bench.ended[job] - at) for job, at in sent.items() if at > at_work]
        return Run(took, last - began, 1000 * used / (backlog + len(sent)))


def _over(bench: Bench, jobs: list[str], began: float) -> bool:
    if not jobs:
        return time.perf_counter() > began + ALONE_SECONDS
    return len(bench.ended) >= len(jobs) and bench.ended.keys() >= set(jobs)


def row(name: str, run: Run, backlog: int) -> list[str]:
    cuts = statistics.quantiles(run.probes, n=100)
    rate = f"{backlog / run.drained:,.0f}" if backlog else "-"
    cpu = f"{run.cpu:.2f}" if backlog else "-"
    return [name, f"{cuts[49]:,.0f}", f"{cuts[98]:,.0f}", str(len(run.probes)), rate, cpu]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", type=int, default=50_000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--kafka", default="")
    given = parser.parse_args()
    n = given.backlog
    print(machine.described())
    rows = [
        row("probes alone", await measure(given.kafka, 0, given.rate, "low", "high"), 0),
        row("all normal", await measure(given.kafka, n, given.rate, "normal", "normal"), n),
        row("high past low", await measure(given.kafka, n, given.rate, "low", "high"), n),
    ]
    heads = ["run", "p50 ms", "p99 ms", "probes", "backlog jobs/s", "CPU ms/job"]
    print(machine.table(heads, rows))


if __name__ == "__main__":
    asyncio.run(main())
