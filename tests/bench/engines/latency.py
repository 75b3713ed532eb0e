"""How long a document takes from the feed to the sink, at a steady rate, under read_committed."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.engines.cluster import Cluster
from tests.bench.engines.contestants import Contestant, Sent
from tests.bench.engines.documents import number_of
from tests.bench.engines.processes import cpu_of, workers
from tests.bench.engines.throughput import Bench

WARM_UP = 5.0
START_UP = 90.0
PATIENCE = 20.0
FIRST_PROBE = 90_000_000
PROBES = 20
"""Documents that only show that the workers work; they count nowhere."""

Record = Callable[[int, float], Sent]


class Arrival(NamedTuple):
    """A document in the sink."""

    number: int
    at: float
    late: float
    """Seconds since it was sent."""


class Sink:
    """Everything that arrives in the sink, as it arrives."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self.sent: dict[int, float] = {}
        self.arrivals: list[Arrival] = []
        self._consumer = cluster.reader(cluster.partitions(topic))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        while not self._over.is_set():
            for message in self._consumer.consume(500, 0.005):
                if message.error() is None:
                    now, number = time.time(), number_of(message.key())
                    self.arrivals.append(Arrival(number, now, now - self.sent[number]))
        self._consumer.close()

    def wait_for_light(self, cluster: Cluster, topic: str, record: Record) -> None:
        """Returns when the workers work: some documents have gone through, of every partition."""
        producer = cluster.producer(**{"linger.ms": 0})
        until = time.monotonic() + START_UP
        probes = range(FIRST_PROBE, FIRST_PROBE + PROBES)
        for number in probes:
            self.sent[number] = time.time()
            key, value, headers = record(number, self.sent[number])
            producer.produce(topic, value, key, headers=headers)
        producer.flush(60)
        while len(self.arrivals) < PROBES:
            assert time.monotonic() < until, f"nothing works after {START_UP:g} s"
            time.sleep(0.1)
        self.arrivals.clear()

    @contextmanager
    def reading(self) -> Iterator[Sink]:
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()


def feed_steadily(
    cluster: Cluster,
    topic: str,
    record: Record,
    numbers: Iterable[int],
    sink: Sink,
    rate: float,
    stop: threading.Event | None = None,
) -> None:
    """So many records a second, each at its own moment."""
    producer = cluster.producer(**{"linger.ms": 0})
    began = time.time()
    for count, number in enumerate(numbers):
        wait = began + count / rate - time.time()
        if wait > 0:
            time.sleep(wait)
        if stop is not None and stop.is_set():
            break
        sink.sent[number] = time.time()
        key, value, headers = record(number, sink.sent[number])
        producer.produce(topic, value, key, headers=headers)
        producer.poll(0)
    producer.flush(60)


class Latency(NamedTuple):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    worst: float
    lost: int
    cpu: float = 0.0
    """Percent of a core that the worker took meanwhile."""


def measure(bench: Bench, contestant: Contestant, rate: float, seconds: float) -> Latency:
    """One run of one contestant with one worker."""
    run, cluster = bench.run_name(), bench.cluster
    engine = contestant.in_run(cluster, run)
    engine.prepare()
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    count = int(rate * (WARM_UP + seconds))
    sink = Sink(cluster, engine.topics.sink)
    try:
        with workers(engine, 1, folder, bench.output) as (worker,), sink.reading():
            sink.wait_for_light(cluster, engine.topics.source, engine.record)
            used, began = cpu_of(worker.pid), time.monotonic()
            feed_steadily(cluster, engine.topics.source, engine.record, range(count), sink, rate)
            cpu = (cpu_of(worker.pid) - used) / (time.monotonic() - began) * 100
            until = time.monotonic() + PATIENCE
            while len(sink.arrivals) < count and time.monotonic() < until:
                time.sleep(0.1)
    finally:
        cluster.drop(run)
        shutil.rmtree(folder, ignore_errors=True)
    return figures(sink, rate * WARM_UP, count)._replace(cpu=cpu)


def figures(sink: Sink, first: float, count: int) -> Latency:
    """Of what arrived; numbers below the first were warm-up."""
    late = sorted(each.late * 1000 for each in sink.arrivals if each.number >= first)
    lost = count - len({each.number for each in sink.arrivals})
    if not late:
        return Latency(0, 0, 0, 0, lost)

    def share(part: float) -> float:
        return late[min(len(late) - 1, int(part * len(late)))]

    return Latency(share(0.5), share(0.9), share(0.99), late[-1], lost)
