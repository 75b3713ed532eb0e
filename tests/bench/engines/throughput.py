"""How many hops a second: preloaded documents, from the first stage's first output to the last
record in the sink, by the broker's own time stamps."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple

from tests.bench.engines.cluster import Cluster, counted
from tests.bench.engines.contestants import Contestant, Engine
from tests.bench.engines.processes import Worker, cpu_of, workers

STAGES = 4
STALLED = 45.0
"""Seconds without a record anywhere after which a run is given up."""


class Bench(NamedTuple):
    """Where everything is measured."""

    cluster: Cluster
    broker: int
    """Process id of the broker."""
    output: IO[bytes]
    """What the workers say."""
    fresh: list[int]
    """Numbers of runs given so far."""

    def run_name(self) -> str:
        """A name that no other run of this broker has."""
        self.fresh.append(len(self.fresh))
        return f"b{int(time.time()) % 10**7}x{len(self.fresh)}"


class Speed(NamedTuple):
    """One run."""

    hops: float
    """A second."""
    cpu: float
    """Microseconds a hop, all workers, from their start to their end."""
    broker: float
    """Microseconds a hop."""
    rss: float
    stop: float
    documents: int
    sink: int
    """Records."""
    unique: int
    """Documents among them."""
    ended: int
    """Documents whose ledger row says that they are through."""
    rows: int
    """Keys in the ledger."""
    rows_each: int

    @property
    def whole(self) -> bool:
        """Every document once in the sink, and the ledger says the same."""
        n = self.documents
        return self.sink == self.unique == self.ended == n and self.rows == n * self.rows_each


def measure(bench: Bench, contestant: Contestant, documents: int, count: int = 1) -> Speed:
    """One run of one contestant."""
    run, cluster = bench.run_name(), bench.cluster
    engine = contestant.in_run(cluster, run)
    engine.prepare()
    cluster.feed(engine.topics.source, range(documents), engine.record)
    bench.output.write(f"== {run} {contestant}\n".encode())
    bench.output.flush()
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    try:
        before = cpu_of(bench.broker)
        with workers(engine, count, folder, bench.output) as running:
            first = wait_for(cluster, engine, documents, running)
            broker = cpu_of(bench.broker) - before
            time.sleep(0.5)
            costs = [worker.stop() for worker in running]
        sink, last = counted(cluster.records(engine.topics.sink))
        rows, ended = ledger(cluster, engine)
    finally:
        cluster.drop(run)
        shutil.rmtree(folder, ignore_errors=True)
    hops = len(sink) * STAGES if first else 0
    return Speed(
        hops=hops / ((last - first) / 1000) if last > first else 0.0,
        cpu=sum(cost.cpu for cost in costs) / max(hops, 1) * 1e6,
        broker=broker / max(hops, 1) * 1e6,
        rss=max(cost.rss for cost in costs),
        stop=max(cost.stop for cost in costs),
        documents=documents,
        sink=sum(sink.values()),
        unique=len(sink),
        ended=ended,
        rows=rows,
        rows_each=engine.rows_each,
    )


def wait_for(cluster: Cluster, engine: Engine, documents: int, running: list[Worker]) -> int:
    """Returns when every document is in the sink, or when nothing more comes: when the first stage
    gave its first record (ms). That is looked up at once, for what was read may be deleted.

    Looks at offsets otherwise: a reader beside the workers would take from what they are measured on.
    """
    sink = cluster.partitions(engine.topics.sink)
    before = cluster.partitions(engine.topics.after_first)
    seen, moved, counted_at, first = (0, 0), time.monotonic(), 0, 0
    while time.monotonic() - moved < STALLED and any(worker.runs for worker in running):
        now = cluster.high(sink), cluster.high(before)
        if now != seen:
            seen, moved = now, time.monotonic()
        if now[1] and not first:
            first = cluster.first_append(engine.topics.after_first)
        # Offsets are more than records where there are transactions: then the records count.
        if now[0] >= documents and now[0] != counted_at:
            counted_at = now[0]
            if len(counted(cluster.records(engine.topics.sink))[0]) >= documents:
                break
        time.sleep(0.1)
    return first


def ledger(cluster: Cluster, engine: Engine) -> tuple[int, int]:
    """Keys of the ledger, and documents that are through by it."""
    last: dict[bytes, bytes | None] = {}
    for message in cluster.records(engine.topics.ledger):
        last[message.key()] = message.value()
    rows = {key: value for key, value in last.items() if value is not None}
    return len(rows), sum(engine.has_ended(key, value) for key, value in rows.items())
