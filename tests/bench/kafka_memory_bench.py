"""Memory of a worker at full load on Kafka: flat over a quarter of an hour.

Part of `python -m tests.bench.engines.compare --sections memory`. Four stages, intake to `done`,
the keeper in the same process; never more than some thousand jobs wait, and never none.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from tests.bench.engines.cluster import Cluster
from tests.bench.engines.contestants import Contestant, Jobs
from tests.bench.engines.processes import memory_of, workers
from tests.bench.engines.report import Bar, Section
from tests.bench.engines.sections import Amount
from tests.bench.engines.throughput import Bench

AHEAD = 10_000
CHUNK = 2_000
EVERY = 1.0
WARM_UP = 0.2
"""Share of the time after which memory is to be flat: buffers and tables have their size by then."""
STEPS = 6
"""Lines of the table, and the parts whose medians are compared."""
FLAT = 0.05


def section(bench: Bench, amount: Amount, minutes: float) -> Section:
    """One long run."""
    run, cluster = bench.run_name(), bench.cluster
    engine = Jobs(Contestant("product_jobs"), cluster, run)
    engine.prepare()
    folder = Path(tempfile.mkdtemp(prefix="memory-"))
    samples: list[tuple[float, float, int]] = []
    try:
        with workers(engine, 1, folder, bench.output) as (worker,):
            done = cluster.partitions(engine.topics.sink)
            fed, began = 0, time.monotonic()
            while (elapsed := time.monotonic() - began) < minutes * 60:
                assert worker.runs, "the worker is gone"
                ended = cluster.high(done)  # a few more than there are: control records
                while fed - ended < AHEAD:
                    cluster.feed(engine.topics.source, range(fed, fed + CHUNK), engine.record)
                    fed += CHUNK
                samples.append((elapsed, memory_of(worker.pid), ended))
                _trim(cluster, engine)
                time.sleep(EVERY)
    finally:
        cluster.drop(run)
        shutil.rmtree(folder, ignore_errors=True)
    later = [sample for sample in samples if sample[0] >= minutes * 60 * WARM_UP]
    parts = [later[n * len(later) // STEPS : (n + 1) * len(later) // STEPS] for n in range(STEPS)]
    medians = [statistics.median(rss for _, rss, _ in part) for part in parts]
    middle = statistics.median(medians)
    off = max(abs(rss - middle) / middle for rss in medians)
    rows = [
        (f"{part[-1][0] / 60:.1f}", f"{part[-1][2]:,}", f"{rss:,.0f}", f"{rss / middle - 1:+.1%}")
        for part, rss in zip(parts, medians, strict=True)
    ]
    for row in rows:
        amount.say(f"memory: {row}")
    heads = ("minutes", "jobs ended", "RSS MB", "to the median")
    bars = [Bar("RSS at full load", f"± {off:.1%}", "± 5 %", off <= FLAT)]
    how = f"{minutes:g} minutes at full load, one worker with its keeper."
    return Section("memory", heads, rows, bars, how)


def _trim(cluster: Cluster, engine: Jobs) -> None:
    """What was read long ago is deleted: a run writes gigabytes."""
    for topic in (engine.topics.source, *(engine.naming.stage(part) for part in "abcd")):
        cluster.trim(topic, keep=2 * AHEAD)
