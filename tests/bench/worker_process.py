"""A worker in a process of its own, and what it costs: for benches that ask for memory or CPU.

    python tests/bench/worker_process.py FOLDER line|gate [--no-agents]

SIGUSR1 lets it collect its garbage, SIGTERM ends it in order.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

from streams import StageRegistry, stage
from streams.blobs import BlobStore
from streams.broker.local import LocalLog
from streams.clock import SystemClock
from streams.observe import logs
from streams.runtime.execution import Execution
from streams.runtime.setup import apply
from streams.runtime.worker import Worker
from streams.secrets import Secrets
from streams.settings import Settings
from streams.topology.check import check_text
from streams.topology.plan import Naming, Plan

NAMING = Naming("default", "bench")
PARTITIONS = 4
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

PLANS = {
    "line": """
pipeline: bench
stages:
  - {name: a, type: work}
  - {name: b, type: work, depends_on: [a]}
  - {name: c, type: work, depends_on: [b]}
  - {name: d, type: work, depends_on: [c]}
""",
    "gate": """
pipeline: bench
gates: {go: {until: facts.go}}
stages:
  - {name: wait, type: gate, config: {gate: go}}
  - {name: two, type: work, depends_on: [wait]}
""",
}


@stage(inline=True)
def work(document: object) -> object:
    return document


def registry() -> StageRegistry:
    made = StageRegistry()
    made.register(work)
    return made


def plan_of(kind: str) -> Plan:
    plan, findings = check_text(PLANS[kind], "bench.yaml", registry())
    assert plan is not None, "\n".join(finding.render() for finding in findings)
    return plan


class Process:
    """One worker process on the log in `folder`."""

    def __init__(self, folder: Path, kind: str, *options: str) -> None:
        command = [sys.executable, __file__, str(folder), kind, *options]
        self.popen = subprocess.Popen(command)

    def _stat(self) -> list[str]:
        return Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> int:
        """Bytes of memory, after a collection of garbage asked for half a second ago."""
        return int(self._stat()[21]) * PAGE

    def collect(self) -> None:
        self.popen.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> None:
        self.popen.terminate()
        self.popen.wait(timeout=60)


async def run(folder: Path, kind: str, agents: bool) -> None:
    clock = SystemClock()
    log = LocalLog.open(folder / "log.db", clock=clock)
    partitions = await apply(log, NAMING, plan_of(kind), clock, PARTITIONS)
    blobs = BlobStore("memory://bench")
    execution = Execution(registry(), blobs, Secrets({}), clock)
    worker = Worker(
        log, NAMING, execution, blobs, clock, name="w", partitions=partitions,
        pools=None if agents else (), snapshots=folder / "snapshots",
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, worker.leave)
    loop.add_signal_handler(signal.SIGUSR1, gc.collect)
    try:
        await worker.run()
    finally:
        await execution.close()
        await log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind", choices=sorted(PLANS))
    parser.add_argument("--no-agents", action="store_true")
    given = parser.parse_args()
    logs.configure(Settings(log_level="warning"))
    asyncio.run(run(given.folder, given.kind, agents=not given.no_agents))


if __name__ == "__main__":
    main()
