"""The product and its peers, side by side on one broker of its own.

    python -m tests.bench.engines.setup                 # the peers, once
    python -m tests.bench.engines.compare --rounds 3 --write docs/benchmarks.md
    python -m tests.bench.engines.compare --short       # minutes; to see that all of it runs

`--sections` takes some of them only. What each worker says lands in the file of `--output`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from streams.broker.devbroker.broker import start_broker, stop_broker
from streams.observe import logs
from streams.settings import Settings
from tests.bench import kafka_gate_bench, kafka_ledger_bench, kafka_memory_bench, machine
from tests.bench.engines import physical, report, sections
from tests.bench.engines.cluster import Cluster
from tests.bench.engines.report import Section
from tests.bench.engines.sections import Amount
from tests.bench.engines.throughput import Bench

WARM_UPS = 3
SERVER = "-XX:TieredStopAtLevel=4 -Xmx1g"
Measure = Callable[[Bench, Amount], Section]


def chosen_sections(given: argparse.Namespace) -> dict[str, Measure]:
    """Every section, with what was asked for."""
    return {
        "throughput": sections.speed,
        "two-workers": partial(sections.speed, count=2),
        "latency": partial(sections.promptness, seconds=given.seconds),
        "lanes": sections.concurrency,
        "faults": partial(
            sections.survival, times=given.faults, rate=given.fault_rate, peers=given.fault_peers
        ),
        "gate": partial(kafka_gate_bench.section, jobs=given.parked),
        "ledger": partial(kafka_ledger_bench.section, rows=given.rows),
        "memory": partial(kafka_memory_bench.section, minutes=given.minutes),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=8, help="latency: measured for so long")
    parser.add_argument("--faults", type=int, default=5, help="so many in each run")
    parser.add_argument("--fault-rate", type=float, default=400, help="documents a second")
    parser.add_argument("--fault-peers", action="store_true", help="kill the peers' workers, too")
    parser.add_argument("--parked", type=int, default=100_000, help="jobs at the gate")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the ledger")
    parser.add_argument("--minutes", type=float, default=15, help="memory: at full load")
    parser.add_argument("--sections", default="", help="with commas; default: all")
    parser.add_argument("--short", action="store_true", help="one round of everything, smaller")
    parser.add_argument("--write", type=Path, help="the page whose tables are to be replaced")
    parser.add_argument("--note", default="", help="said beside the machine in the page")
    parser.add_argument("--output", type=Path, default=Path("bench-output.log"))
    given = parser.parse_args()
    if given.short:
        given.rounds, given.documents, given.seconds, given.faults = 1, 20_000, 5, 2
        given.fault_rate, given.parked, given.rows, given.minutes = 200, 10_000, 100_000, 1
    return given


def compare(given: argparse.Namespace, bench: Bench) -> int:
    """How many bars were missed."""
    known = chosen_sections(given)
    wanted = given.sections.split(",") if given.sections else list(known)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise SystemExit(f"no section {', '.join(unknown)}; there are {', '.join(known)}")
    amount = Amount(given.rounds, given.documents, lambda text: print(text, flush=True))
    missed = 0
    for name in wanted:
        before = machine.described()
        section = known[name](bench, amount)
        print(section.on_terminal(), flush=True)
        missed += sum(not bar.met for bar in section.bars)
        if given.write:
            today = dt.datetime.now(dt.UTC).date().isoformat()
            measured = f"{before}; {today}.{' ' + given.note if given.note else ''}"
            report.write(given.write, section.name, section.in_page(measured))
    return missed


@contextmanager
def as_a_server() -> Iterator[None]:
    """Java started in the block compiles fully and has room: what is good for a broker that starts
    in a second costs a third of its speed."""
    before = os.environ.get("_JAVA_OPTIONS")
    os.environ["_JAVA_OPTIONS"] = SERVER
    try:
        yield
    finally:
        os.environ.pop("_JAVA_OPTIONS")
        if before is not None:
            os.environ["_JAVA_OPTIONS"] = before


def main() -> int:
    given = arguments()
    # Workers and the broker end with this process, also when it is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logs.configure(Settings(log_level="error"))
    print(machine.described())
    with (
        tempfile.TemporaryDirectory(prefix="bench-broker-") as name,
        given.output.open("ab") as out,
    ):
        folder = Path(name)
        with as_a_server():
            broker = start_broker(folder, port=0, record_archive=False)
        try:
            cluster = Cluster(broker.bootstrap)
            with closing(cluster):
                bench = Bench(cluster, broker.nodes[0].pid, out, [])
                # Java compiles what it meets often: who comes first must not pay for that.
                for _ in range(WARM_UPS):
                    physical.measure(bench, given.documents)
                missed = compare(given, bench)
        finally:
            stop_broker(folder)
    print(f"\n{missed} of the bars missed" if missed else "\nevery bar met")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
