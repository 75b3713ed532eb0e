"""Taking over a ledger of 1,000,000 rows on Kafka: from the log alone, and from the keeper's copy.

Part of `python -m tests.bench.engines.compare --sections ledger`. Rows of 300 B as `ledger_bench`
makes them; the keeper is `streams worker` as shipped, and what it says of itself is what counts.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from streams.engine.rows import Address
from tests.bench.engines.contestants import Contestant, Keepers
from tests.bench.engines.processes import Worker
from tests.bench.engines.report import Bar, Section
from tests.bench.engines.sections import Amount
from tests.bench.engines.throughput import Bench
from tests.bench.ledger_rows import ROWS_A_JOB, SIZE, rows_of

PATIENCE = 300.0
RSS_GOAL = 1_000.0


class Restored(NamedTuple):
    """One start."""

    seconds: float
    """Until the last partition's table stood, from the moment the first one was begun."""
    ready: float
    """From the start of the process until it was ready, the group's own seconds included."""
    cpu: float
    rss: float


def fill(bench: Bench, engine: Keepers, rows: int) -> None:
    """The ledger, with jobs of all partitions in between each other."""
    producer = bench.cluster.producer(**{"linger.ms": 20})
    for number in range(rows // ROWS_A_JOB):
        job = f"job-{number:08}"
        for part, data in rows_of(job, number % 20 == 0, engine.plan.digest):
            # By the job, as the engine does: the key is longer than what the partition is made of.
            producer.produce(
                engine.topics.ledger, data, Address(job, part).key, bench.cluster.place(job)
            )
        if number % 200 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0


def restored(engine: Keepers, folder: Path, rows: int) -> Restored:
    """A keeper has started and taken everything over; then it ended in order."""
    output = folder / "output.jsonl"
    with output.open("wb") as file:
        began = time.monotonic()
        worker = Worker(engine, 0, folder, file)
        try:
            while "worker.ready" not in (said := _said(output)):
                assert worker.runs, f"the keeper is gone: {output.read_text()}"
                assert time.monotonic() - began < PATIENCE, f"not ready after {PATIENCE:g} s"
                time.sleep(0.02)
            ready = time.monotonic() - began
        finally:
            cost = worker.stop(60)
    found = sum(line["rows"] for line in said["ledger.restored"])
    assert found == rows, f"{found:,} rows of {rows:,}"
    seconds = sum(line["seconds"] for line in said["ledger.restored"])
    return Restored(seconds, ready, cost.cpu, cost.rss)


def _said(output: Path) -> dict[str, list[dict[str, float]]]:
    """Event → what the worker's log says with it."""
    found: dict[str, list[dict[str, float]]] = {}
    for line in output.read_bytes().splitlines():
        try:
            said = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue  # a line for people, or half of one
        found.setdefault(said["event"], []).append(said)
    return found


def section(bench: Bench, amount: Amount, rows: int) -> Section:
    """Cold, and from the copy, in turn."""
    run = bench.run_name()
    engine = Keepers(Contestant("keepers", options="log=info"), bench.cluster, run)
    engine.prepare()
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    cold, copied = [], []
    try:
        fill(bench, engine, rows)
        for _ in range(amount.rounds):
            shutil.rmtree(folder / "snapshots", ignore_errors=True)
            cold.append(restored(engine, folder, rows))
            amount.say(f"cold: {cold[-1]}")
            copied.append(restored(engine, folder, rows))
            amount.say(f"from the copy: {copied[-1]}")
    finally:
        bench.cluster.drop(run)
        shutil.rmtree(folder, ignore_errors=True)
    table, bars = [], []
    for what, runs, goal in (("from the log", cold, 10.0), ("from its copy", copied, 2.0)):
        found = Restored(*(statistics.median(field) for field in zip(*runs, strict=True)))
        table.append(
            (
                what,
                f"{found.seconds:.1f}",
                f"{found.ready:.1f}",
                f"{found.cpu:.1f}",
                f"{found.rss:,.0f}",
            )
        )
        taken = f"{found.seconds:.1f} s"
        bars.append(Bar(f"restored {what}", taken, f"≤ {goal:g} s", found.seconds <= goal))
        met = found.rss <= RSS_GOAL
        bars.append(Bar(f"RSS, {what}", f"{found.rss:,.0f} MB", f"≤ {RSS_GOAL:,.0f} MB", met))
    heads = ("taking a ledger over", "restored s", "ready s", "CPU s", "peak RSS MB")
    how = f"Medians of {amount.rounds}, {rows:,} rows of {SIZE} B in four partitions, one keeper."
    return Section("ledger", heads, table, bars, how)
