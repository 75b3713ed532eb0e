"""What a stage costs in a run in this process, beside stageflow-core 1.2.0, in one run.

    python tests/bench/inprocess_bench.py [--rounds 20] [--memory 100000] [--peer-python PYTHON]

Stages that do nothing but answer `{"n": 1}`: a line of 10, and 100 beside each other between a
source and a join. Both packages take turns in one process, so that a neighbour's burst falls on
each alike; CPU time counts, not the clock on the wall; medians. Each makes its context and runs its
built graph, the way its own documentation shows, with its default settings.

The peer is a package that nothing here depends on. With `--peer-python` a virtual environment is
made for it, by that interpreter, which has to be of the version that runs this.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import described, table

from streams.authoring.context import ContextSnapshot
from streams.pipeline import Pipeline, StageGraph
from streams.stage import stage

PEER = "stageflow-core"
PEER_VERSION = "1.2.0"
GOAL = 1 / 3
"""Of the peer's overhead."""
ROUND_SECONDS = 0.02
"""About how long one case runs before the next has its turn."""

Shape = list[tuple[str, tuple[str, ...]]]
"""Stages and what each depends on."""


@dataclass
class Case:
    """One graph, run again and again."""

    name: str
    stages: int
    run: Callable[[], Awaitable[Any]]
    runs: int = 1
    took: list[float] = field(default_factory=list)
    """Microseconds of CPU a stage, by round."""

    async def turn(self) -> float:
        began = time.process_time()
        for _ in range(self.runs):
            await self.run()
        return (time.process_time() - began) / self.runs / self.stages * 1e6

    async def warm_up(self) -> None:
        await self.turn()
        one = await self.turn() * self.stages / 1e6
        self.runs = max(1, round(ROUND_SECONDS / max(one, 1e-6)))

    @property
    def median(self) -> float:
        return statistics.median(self.took)

    @property
    def best(self) -> float:
        return min(self.took)


def line(length: int) -> Shape:
    names = [f"s{n}" for n in range(length)]
    return [(name, tuple(names[n - 1 : n]) if n else ()) for n, name in enumerate(names)]


def fan(width: int) -> Shape:
    ways = [f"s{n}" for n in range(width)]
    middle: Shape = [(way, ("source",)) for way in ways]
    return [("source", ()), *middle, ("join", tuple(ways))]


# ── Ours ─────────────────────────────────────────────────────────────────────────────────────────


async def waiting(ctx: Any) -> dict[str, int]:
    return {"n": 1}


@stage(type="inline", inline=True)
def inline(ctx: Any) -> dict[str, int]:
    return {"n": 1}


def our_graph(shape: Shape, runner: Any) -> StageGraph:
    pipeline = Pipeline("bench")
    for name, before in shape:
        pipeline = pipeline.with_stage(name, runner, dependencies=before)
    return pipeline.build()


def ours(name: str, shape: Shape, runner: Any = waiting, *, reads: bool = False) -> Case:
    graph = our_graph(shape, runner)
    last = shape[-1][0]

    async def run() -> Any:
        results = await graph.run(ContextSnapshot(topology="bench"))
        return results.require(last).value if reads else results

    return Case(name, len(shape), run)


# ── The peer ─────────────────────────────────────────────────────────────────────────────────────


def theirs(name: str, shape: Shape, *, reads: bool = False) -> Case:
    from stageflow.api import Pipeline as Peer
    from stageflow.api import PipelineContext, StageKind, StageOutput

    async def nothing(ctx: Any) -> Any:
        return StageOutput.ok(n=1)

    pipeline = Peer(name="bench")
    for stage_name, before in shape:
        pipeline = pipeline.with_stage(stage_name, nothing, StageKind.TRANSFORM, before)
    graph = pipeline.build()
    last = shape[-1][0]

    async def run() -> Any:
        results = await graph.run(PipelineContext.create(topology="bench"))
        return results.require_ok(last).data if reads else results

    return Case(name, len(shape), run)


def install_peer(python: str, folder: Path) -> None:
    """The peer can be imported here, behind everything that is installed already."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = str(folder / "bin" / "python")
    wanted = f"{PEER}=={PEER_VERSION}"
    subprocess.run([inside, "-m", "pip", "install", "--quiet", wanted], check=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([inside, "-c", ask], check=True, capture_output=True, text=True)
    sys.path.append(found.stdout.strip())


def missing_peer() -> str | None:
    """What is wrong with the peer, if anything is."""
    if importlib.util.find_spec("stageflow") is None:
        return f"{PEER} is not installed"
    version = importlib.metadata.version(PEER)
    return None if version == PEER_VERSION else f"{PEER} is {version}, not {PEER_VERSION}"


# ── The table ────────────────────────────────────────────────────────────────────────────────────


def comparisons() -> list[tuple[Case, Case]]:
    ten, wide = line(10), fan(100)
    return [
        (ours("line of 10", ten), theirs("line of 10", ten)),
        (ours("100 wide, joined", wide), theirs("100 wide, joined", wide)),
        (
            ours("line of 10, last value read", ten, reads=True),
            theirs("line of 10, last value read", ten, reads=True),
        ),
        (ours("1,000 wide, joined", fan(1000)), theirs("1,000 wide, joined", fan(1000))),
    ]


def alone() -> list[Case]:
    return [
        ours("line of 1", line(1)),
        ours("line of 1,000", line(1000)),
        ours("line of 10, inline", line(10), inline),
        ours("100 wide, inline", fan(100), inline),
        ours("1,000 wide, inline", fan(1000), inline),
    ]


async def measure(cases: list[Case], rounds: int) -> None:
    for case in cases:
        await case.warm_up()
    for _ in range(rounds):
        for case in cases:
            case.took.append(await case.turn())


def report(pairs: list[tuple[Case, Case]], singles: list[Case]) -> None:
    rows = [
        [
            mine.name, f"{mine.median:.1f}", f"{mine.best:.1f}",
            f"{peer.median:.1f}", f"{peer.best:.1f}",
            f"{mine.median / peer.median:.2f}", f"{mine.best / peer.best:.2f}",
        ]
        for mine, peer in pairs
    ]  # fmt: skip
    rows += [
        [case.name, f"{case.median:.1f}", f"{case.best:.1f}", "", "", "", ""] for case in singles
    ]
    heads = ["µs of CPU a stage", "median", "best", "peer's", "best", "ratio", "of bests"]
    print(table(heads, rows))


async def memory(runs: int) -> None:
    """RSS while one graph is run again and again."""
    graph = our_graph(line(10), waiting)
    marks = []
    for tenth in range(11):
        if tenth:
            for _ in range(runs // 10):
                await graph.run()
        marks.append([f"{tenth * runs // 10:,}", f"{resident():.1f}"])
    print(table(["runs of a line of 10", "RSS in MB"], marks))


def resident() -> float:
    for text in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if text.startswith("VmRSS"):
            return int(text.split()[1]) / 1024
    return 0.0


def main() -> int:
    """Prints the tables; 1 if a goal is missed, 2 if there is nothing to compare with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--memory", type=int, default=0, metavar="RUNS")
    parser.add_argument("--peer-python", metavar="PYTHON")
    given = parser.parse_args()
    with ExitStack() as stack:
        if given.peer_python:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            install_peer(given.peer_python, Path(folder))
        problem = missing_peer()
        if problem is not None:
            print(f"{problem}: {sys.executable} -m pip install {PEER}=={PEER_VERSION}")
            print("or give --peer-python, and it gets an environment of its own")
            return 2
        print(described())
        print(f"Python stages that do nothing, {given.rounds} rounds, peer: {PEER} {PEER_VERSION}")
        pairs, singles = comparisons(), alone()
        every = [case for pair in pairs for case in pair] + singles
        asyncio.run(measure(every, given.rounds))
        report(pairs, singles)
        if given.memory:
            asyncio.run(memory(given.memory))
    missed = [mine.name for mine, peer in pairs[:2] if mine.median > GOAL * peer.median]
    print(f"goal: at most {GOAL:.2f} of the peer's; " + (f"missed: {missed}" if missed else "met"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
