"""Two workers under a steady load; one is killed, or stopped for longer than its session, again and
again. What the sink and the ledger hold afterwards, and how long the load was behind."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import threading
import time
from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from streams.engine import rows
from tests.bench.engines.cluster import Cluster
from tests.bench.engines.contestants import Contestant, Engine, Product
from tests.bench.engines.latency import PROBES, Arrival, Sink, feed_steadily
from tests.bench.engines.processes import Worker, workers
from tests.bench.engines.throughput import Bench, ledger

DOWN = 1.0
"""Seconds until a killed worker is started again, as a supervisor would."""
STALL = 10.0
PATIENCE = 60.0
"""Seconds without news after which what is missing is lost."""
BACK = 0.9
WINDOW = 1.0
OBSERVED = 15.0
"""Seconds after a fault in which the rate is looked at; less where the next fault comes earlier."""

SETTLED = 3.0
"""Seconds for the second worker to have its share, too."""

Fault = Literal["kill", "stall"]


class Verdict(NamedTuple):
    """What became of one run."""

    documents: int
    lost: int
    twice: int
    """Documents that reached the sink more than once."""
    ended: int
    """Documents that are through by the ledger."""
    stale: int
    """Ledger keys whose newest record is not the one that all records fold to."""
    back: tuple[float, ...]
    """Seconds from each fault until the sink's rate was at 90 % for good."""
    worst: tuple[float, ...]
    """The longest that a document took which was sent around the fault, in seconds."""
    self_exits: int


def measure(
    bench: Bench,
    contestant: Contestant,
    *,
    fault: Fault,
    times: int,
    rate: float,
    every: float = 8.0,
    seed: int = 7,
) -> Verdict:
    """One run of two workers."""
    run, cluster = bench.run_name(), bench.cluster
    engine = contestant.in_run(cluster, run)
    engine.prepare()
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    gap = every + (STALL if fault == "stall" else 0)
    count = int(rate * gap * (times + 1))
    sink, stop, chance = Sink(cluster, engine.topics.sink), threading.Event(), random.Random(seed)
    bench.output.write(f"== {run} {fault} {contestant}\n".encode())
    bench.output.flush()
    try:
        with workers(engine, 2, folder, bench.output) as running, sink.reading():
            source, record = engine.topics.source, engine.record
            sink.wait_for_light(cluster, source, record)
            time.sleep(SETTLED)
            feed = threading.Thread(
                target=feed_steadily,
                args=(cluster, source, record, range(count), sink, rate, stop),
            )
            feed.start()
            moments = []
            for _ in range(times):
                time.sleep(gap - (STALL if fault == "stall" else DOWN))
                moments.append(_strike(running[chance.randrange(2)], fault))
            feed.join()
            exits = _settle(sink, running, count)
            for worker in running:
                worker.stop()
        ended = ledger(cluster, engine)[1] - PROBES
        stale = _stale(cluster, engine)
    finally:
        stop.set()
        cluster.drop(run)
        shutil.rmtree(folder, ignore_errors=True)
    found = Counter(arrival.number for arrival in sink.arrivals if arrival.number < count)
    ends = [*moments[1:], max(sink.sent.values())]
    return Verdict(
        documents=count,
        lost=count - len(found),
        twice=sum(times > 1 for times in found.values()),
        ended=ended,
        stale=stale,
        back=tuple(
            _back(sink.arrivals, at, min(end, at + OBSERVED), rate)
            for at, end in zip(moments, ends, strict=True)
        ),
        worst=tuple(_worst(sink, at) for at in moments),
        self_exits=exits,
    )


def _strike(worker: Worker, fault: Fault) -> float:
    """When it struck."""
    at = time.time()
    if fault == "stall":
        worker.send(signal.SIGSTOP)
        time.sleep(STALL)
        worker.send(signal.SIGCONT)
    else:
        worker.kill()
        time.sleep(DOWN)
        worker.start()
    return at


def _settle(sink: Sink, running: list[Worker], count: int) -> int:
    """Returns when everything is there or nothing more comes: how many workers ended themselves."""
    exits, seen, moved = 0, 0, time.monotonic()
    while time.monotonic() - moved < PATIENCE:
        found = len({arrival.number for arrival in sink.arrivals if arrival.number < count})
        if found >= count:
            break
        if found != seen:
            seen, moved = found, time.monotonic()
        for worker in running:
            if not worker.runs:
                exits += 1
                worker.start()
        time.sleep(0.5)
    time.sleep(3)  # what comes twice may come late
    return exits


def _back(arrivals: list[Arrival], at: float, end: float, rate: float) -> float:
    """Seconds until the last moment at which a window's rate was below what was offered."""
    moments = sorted(arrival.at for arrival in arrivals)
    steps = int((end - at) / 0.1)
    back = 0.0
    for step in range(steps):
        until = at + step * 0.1
        found = bisect_left(moments, until) - bisect_left(moments, until - WINDOW)
        if found < BACK * rate * WINDOW:
            back = until - at
    return back


def _worst(sink: Sink, at: float) -> float:
    around = [each.late for each in sink.arrivals if at - 1 < sink.sent[each.number] < at + 8]
    return max(around, default=0.0)


def _stale(cluster: Cluster, engine: Engine) -> int:
    """Of the product only: a peer's rows have no order to fold by."""
    if not isinstance(engine, Product):
        return 0
    newest: dict[bytes, rows.Order] = {}
    last: dict[bytes, rows.Order] = {}
    for message in cluster.records(engine.topics.ledger):
        key, value = message.key(), message.value()
        if value is not None:
            last[key] = rows.head(value).order
            newest[key] = max(newest.get(key, last[key]), last[key])
    return sum(last[key] != newest[key] for key in last)
