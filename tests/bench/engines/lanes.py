"""What one partition can do at a time: a slow key beside others, and work that waits."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Message

from tests.bench.engines.contestants import Agents, Contestant
from tests.bench.engines.documents import number_of
from tests.bench.engines.processes import Worker, workers
from tests.bench.engines.throughput import Bench

SLOW = 0
"""Number of the document that `slow_for_one` takes a second for."""
SLOW_EVERY = 1_000
PATIENCE = 300.0

Fed = list[tuple[int, int]]
"""Number and turn."""


def slow_key(bench: Bench, documents: int) -> tuple[float, float]:
    """Documents a second of all other keys: without the slow one, and with it."""
    others: Fed = [(number, 1) for number in range(1, documents + 1)]
    mixed: Fed = []
    for number, turn in others:
        if number % SLOW_EVERY == 1:
            mixed.append((SLOW, len(mixed) + 1))
        mixed.append((number, turn))
    without = _rate(bench, "slow_key.yaml", others, documents)
    return without, _rate(bench, "slow_key.yaml", mixed, documents)


def waiting(bench: Bench, documents: int) -> tuple[float, float]:
    """Documents a second where each waits 10 ms: one after the other, and as shipped."""
    fed: Fed = [(number, 1) for number in range(1, documents + 1)]
    few = fed[: max(50, documents // 10)]
    in_turn = _rate(bench, "waiting_in_turn.yaml", few, len(few))
    return in_turn, _rate(bench, "waiting.yaml", fed, documents)


def _rate(bench: Bench, file: str, fed: Fed, others: int) -> float:
    run, cluster = bench.run_name(), bench.cluster
    engine = Agents(Contestant("product", options=f"file={file},partitions=1"), cluster, run)
    engine.prepare()
    producer = cluster.producer(**{"linger.ms": 20})
    for count, (number, turn) in enumerate(fed):
        key, value, headers = engine.record(number, time.time(), turn)
        producer.produce(engine.topics.source, value, key, headers=headers)
        if count % 1_000 == 0:
            producer.poll(0)
    producer.flush(60)
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    try:
        with workers(engine, 1, folder, bench.output) as running:
            stamps = list(_others(bench, engine, running, others))
    finally:
        cluster.drop(run)
        shutil.rmtree(folder, ignore_errors=True)
    return (len(stamps) - 1) / ((max(stamps) - min(stamps)) / 1000)


def _others(bench: Bench, engine: Agents, running: list[Worker], others: int) -> Iterator[int]:
    """When each record of the other keys was appended to the sink."""
    places = bench.cluster.partitions(engine.topics.sink)
    consumer = bench.cluster.reader(places)
    until, found = time.monotonic() + PATIENCE, 0
    try:
        while found < others:
            assert time.monotonic() < until, f"{found} of {others} documents in {PATIENCE:g} s"
            assert all(worker.runs for worker in running), "the worker is gone"
            for message in _good(consumer.consume(1_000, 0.5)):
                if number_of(message.key()) != SLOW:
                    found += 1
                    yield message.timestamp()[1]
    finally:
        consumer.close()


def _good(messages: list[Message]) -> Iterator[Message]:
    return (message for message in messages if message.error() is None)
