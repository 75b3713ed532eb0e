"""100,000 jobs parked at a gate on Kafka: released one by one at 1,000 a second, a keeper that is
killed and comes back, and all the rest at once.

Part of `python -m tests.bench.engines.compare --sections gate`. The keeper is `streams worker` as
shipped, in a process of its own; a release is a record in the next stage's topic.
"""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.bench.engines.contestants import Contestant, Keepers
from tests.bench.engines.latency import Sink, feed_steadily, figures
from tests.bench.engines.processes import Worker, cpu_of, memory_of
from tests.bench.engines.report import Bar, Section
from tests.bench.engines.sections import Amount
from tests.bench.engines.throughput import Bench, ledger

RATE = 1_000
FLIPS = 10_000
PATIENCE = 300.0
SETTLED = 5.0


class Gate(NamedTuple):
    """One run."""

    parked: float
    """A second."""
    memory: float
    """MB of the keeper with all of them parked."""
    p50: float
    """Milliseconds from the fact to the release, at 1,000 a second."""
    p99: float
    cpu: float
    """Microseconds of the keeper's CPU for each of them."""
    again: float
    """Seconds from the start of a killed keeper to its first release, with its copy of the rows."""
    cold: float
    """The same without the copy."""
    storm: float
    """Releases a second when one fact lets all pass."""
    wrong: int
    """Jobs released not exactly once."""


def measure(bench: Bench, jobs: int) -> Gate:
    """One run with one keeper."""
    run, cluster = bench.run_name(), bench.cluster
    engine = Keepers(Contestant("keepers"), cluster, run)
    engine.prepare()
    folder = Path(tempfile.mkdtemp(prefix="gate-"))
    sink = Sink(cluster, engine.topics.sink)
    order = random.Random(4).sample(range(jobs), jobs)
    flips = min(FLIPS, jobs // 4)
    worker = Worker(engine, 0, folder, bench.output)
    try:
        with sink.reading():
            parked = _park(bench, engine, worker, jobs)
            time.sleep(SETTLED)
            memory, used = memory_of(worker.pid), cpu_of(worker.pid)
            feed_steadily(cluster, engine.topics.source, engine.opening, order[:flips], sink, RATE)
            _until(worker, sink, flips)
            one_by_one = figures(sink, 0, flips)
            cpu = (cpu_of(worker.pid) - used) / flips * 1e6
            again = _comes_back(bench, engine, worker, sink, order[flips])
            shutil.rmtree(folder / "snapshots", ignore_errors=True)
            cold = _comes_back(bench, engine, worker, sink, order[flips + 1])
            storm = _storm(bench, engine, worker, sink, order[flips + 2 :])
        released = Counter(arrival.number for arrival in sink.arrivals)
    finally:
        worker.stop()
        cluster.drop(run)
        shutil.rmtree(folder, ignore_errors=True)
    wrong = sum(released[number] != 1 for number in range(jobs))
    return Gate(parked, memory, one_by_one.p50, one_by_one.p99, cpu, again, cold, storm, wrong)


def _park(bench: Bench, engine: Keepers, worker: Worker, jobs: int) -> float:
    """Every job waits at the gate: so many a second."""
    cluster, places = bench.cluster, bench.cluster.partitions(engine.topics.ledger)
    began = time.monotonic()
    cluster.feed(engine.topics.source, range(jobs), engine.record)
    while cluster.high(places) < jobs * engine.rows_each:
        _check(worker, began)
        time.sleep(0.1)
    while ledger(cluster, engine)[1] < jobs:
        _check(worker, began)
        time.sleep(0.5)
    return jobs / (time.monotonic() - began)


def _comes_back(bench: Bench, engine: Keepers, worker: Worker, sink: Sink, number: int) -> float:
    """Seconds from the new start to the release of a job whose fact came meanwhile."""
    expected = len(sink.arrivals) + 1
    worker.kill()
    _send(bench, engine, [number], sink)
    began = time.time()
    worker.start()
    _until(worker, sink, expected)
    return sink.arrivals[-1].at - began


def _storm(bench: Bench, engine: Keepers, worker: Worker, sink: Sink, left: list[int]) -> float:
    """Releases a second."""
    expected = len(sink.arrivals) + len(left)
    began = time.time()
    sink.sent.update(dict.fromkeys(left, began))
    producer = bench.cluster.producer()
    key, value, headers = engine.opening_for_all()
    producer.produce(engine.topics.source, value, key, headers=headers)
    producer.flush(60)
    _until(worker, sink, expected)
    took = sink.arrivals[-1].at - began
    time.sleep(SETTLED)  # what is released twice may come late
    return len(left) / took


def _send(bench: Bench, engine: Keepers, numbers: Iterable[int], sink: Sink) -> None:
    feed_steadily(bench.cluster, engine.topics.source, engine.opening, numbers, sink, RATE)


def _until(worker: Worker, sink: Sink, count: int) -> None:
    """So many have been released."""
    began = time.monotonic()
    while len(sink.arrivals) < count:
        _check(worker, began)
        time.sleep(0.02)


def _check(worker: Worker, began: float) -> None:
    assert worker.runs, "the keeper is gone"
    assert time.monotonic() - began < PATIENCE, f"nothing more after {PATIENCE:g} s"


def section(bench: Bench, amount: Amount, jobs: int) -> Section:
    """Every figure of it, medians."""
    runs = []
    for _ in range(amount.rounds):
        runs.append(measure(bench, jobs))
        amount.say(f"gate: {runs[-1]}")
    found = Gate(*(statistics.median(field) for field in zip(*runs, strict=True)))
    worst = max(run.wrong for run in runs)
    bars = [
        Bar(f"release p99 at {RATE:,}/s", f"{found.p99:.0f} ms", "≤ 250 ms", found.p99 <= 250),
        Bar("a killed keeper's first release", f"{found.again:.1f} s", "≤ 10 s", found.again <= 10),
        Bar("the same without its copy", f"{found.cold:.1f} s", "≤ 10 s", found.cold <= 10),
        Bar("not released exactly once", f"{worst}", "0", not worst),
    ]
    rows = [
        ("parked, jobs/s", f"{found.parked:,.0f}"),
        ("keeper's RSS with all parked, MB", f"{found.memory:,.0f}"),
        ("release p50 at 1,000/s, ms", f"{found.p50:.0f}"),
        ("release p99 at 1,000/s, ms", f"{found.p99:.0f}"),
        ("keeper's CPU for each, µs", f"{found.cpu:.0f}"),
        ("one fact for all that are left, releases/s", f"{found.storm:,.0f}"),
    ]
    how = f"Medians of {len(runs)}, {jobs:,} jobs of 1 KB at a gate, one keeper."
    return Section("gate", ("jobs at a gate", "found"), rows, bars, how)
