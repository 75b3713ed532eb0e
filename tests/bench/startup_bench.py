"""How long one waits for the package: its import, the help, and the check of a big file.

    python tests/bench/startup_bench.py [--repeat 7]

Each is a process of its own, measured from its start to its end, so Python's own start is in it.
The clock on the wall is what a user waits by; on a machine that is busy with other things, the CPU
time of the process says more. The bars are judged by the smaller of the two medians.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from machine import described, table

STAGES = 200
RUN = "import sys; from streams.cli.main import main; sys.exit(main())"
STAGE_CODE = """\
from streams import stage


@stage
def work(document: dict) -> dict:
    return document
"""


class Took(NamedTuple):
    """Seconds of one process."""

    wall: float
    cpu: float


class Case(NamedTuple):
    """What is started, and how long it may take."""

    name: str
    arguments: list[str]
    bar: float


def topology() -> str:
    """A file of 200 stages: a line of them, every tenth with a condition, one gate."""
    lines = [
        "pipeline: big", "version: 1", "params:", "  n: {type: integer, default: 1}",
        "plugins:", "  stages:", '    - callable: "bench_stages:work"',
        "gates:", "  ready:", "    after: s0", "    until: facts.ready",
        "stages:", "  - {name: s0, type: work}",
    ]  # fmt: skip
    for n in range(1, STAGES):
        condition = f', if: "params.n > {n}"' if n % 10 == 0 else ""
        lines.append(f"  - {{name: s{n}, type: work, depends_on: [s{n - 1}]{condition}}}")
    return "\n".join(lines) + "\n"


def once(arguments: list[str], folder: Path) -> Took:
    """One process, from start to end. Raises if it fails."""
    before, began = children(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall, cpu = time.perf_counter() - began, children() - before
    if done.returncode:
        raise SystemExit(f"{arguments} failed:\n{done.stdout}{done.stderr}")
    return Took(wall, cpu)


def children() -> float:
    """CPU seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Prints the table; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    given = parser.parse_args()
    cases = [
        Case("python alone", ["-c", "pass"], 0.0),
        Case("import streams", ["-c", "import streams"], 0.3),
        Case("streams --help", ["-c", RUN, "--help"], 0.5),
        Case(f"streams validate, {STAGES} stages", ["-c", RUN, "validate", "big.yaml"], 1.0),
    ]
    took: dict[str, list[Took]] = {case.name: [] for case in cases}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "big.yaml").write_text(topology(), encoding="utf-8")
        (folder / "bench_stages.py").write_text(STAGE_CODE, encoding="utf-8")
        for case in cases:
            once(case.arguments, folder)  # Writes the bytecode, warms the file cache.
        for _ in range(given.repeat):
            for case in cases:
                took[case.name].append(once(case.arguments, folder))
    rows, missed = [], []
    for case in cases:
        wall = statistics.median(each.wall for each in took[case.name])
        cpu = statistics.median(each.cpu for each in took[case.name])
        met = not case.bar or min(wall, cpu) <= case.bar
        missed += [] if met else [case.name]
        bar = [f"{case.bar:.1f}", "met" if met else "MISSED"] if case.bar else ["", ""]
        rows.append([case.name, f"{wall:.3f}", f"{cpu:.3f}", *bar])
    print(described())
    print(table([f"seconds, median of {given.repeat}", "wall", "CPU", "bar", ""], rows))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
