"""What the broker and the client library allow: one process that copies bytes, parses nothing, and
writes a ledger record for each, in transactions."""

from __future__ import annotations

import time
from typing import NamedTuple

from tests.bench.engines import documents
from tests.bench.engines.throughput import Bench

ROW = b'{"doc":"doc-00000000","stage":1,"attempts":1,"status":"running","hops":1}'
SECONDS = 30


class Copied(NamedTuple):
    hops: float
    cpu: float
    """Microseconds a hop."""


def measure(bench: Bench, count: int) -> Copied:
    """So many documents, one hop each."""
    run, cluster = bench.run_name(), bench.cluster
    source, sink, ledger = f"{run}-s0", f"{run}-s1", f"{run}-ledger"
    cluster.create([source, sink])
    cluster.create([ledger], compact=True)
    keys = [documents.key_of(number).encode() for number in range(count)]
    cluster.feed(
        source,
        range(count),
        lambda number, sent: (keys[number], documents.cloudevent(number, sent), documents.HEADERS),
    )
    producer = cluster.producer(
        **{"transactional.id": run, "linger.ms": 5, "batch.size": 1_000_000}
    )
    producer.init_transactions(SECONDS)
    consumer = cluster.reader(cluster.partitions(source), **{"queued.min.messages": 100_000})
    began, used, done = time.perf_counter(), time.process_time(), 0
    while done < count:
        messages = [m for m in consumer.consume(3_000, 0.05) if m.error() is None]
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce(sink, message.value(), message.key(), headers=documents.HEADERS)
            producer.produce(ledger, ROW, message.key())
        producer.commit_transaction(SECONDS)
        done += len(messages)
    took, used = time.perf_counter() - began, time.process_time() - used
    consumer.close()
    cluster.drop(run)
    return Copied(count / took, used / count * 1e6)
