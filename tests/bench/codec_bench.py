"""Microseconds to decode and encode one event, beside the `cloudevents` package, in one run.

    python tests/bench/codec_bench.py

The event has 1 KB of JSON data and eight `ce_` headers in binary mode; ids and times differ from
event to event, as they do in a stream. The goal is 8 µs for both directions together. The package
parses and writes the data as well, hence the row that adds `value()` and `make`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from streams.codec import kafka
from streams.event import Event, derived_id
from streams.event_rules import timestamp

GOAL = 8.0
EVENTS = 2000
ROUNDS = 25

DATA = msgspec.json.encode(
    {
        "doc": "doc-00000001",
        "n": 1,
        "title": "A document of some length",
        "tags": ["alpha", "beta", "gamma"],
        "meta": {"lang": "en", "pages": 12, "score": 0.731},
        "text": "lorem ipsum dolor sit amet " * 31,
    }
)


def sample(n: int) -> Event:
    """The n-th event of the stream: core attributes, subject, time and two extensions."""
    return Event(
        id=derived_id("job-1", "digest", "job-1", "parse", 1, 1, f"parent-{n}", 0),
        source="/pipelines/bench/stages/parse",
        type="org.bench.doc.parsed.v1",
        data=DATA,
        datacontenttype="application/json",
        subject=f"doc-{n:08d}",
        time=timestamp(1_795_266_000_000 + 7 * n),
        extensions={
            "partitionkey": f"doc-{n:08d}",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        },
    )


class Spread(NamedTuple):
    """Microseconds per event: the best round, and the median that a busy machine gives."""

    best: float
    median: float


def measure(works: dict[str, Callable[[], object]]) -> dict[str, Spread]:
    """The rounds of all works in turn, so that a neighbour's burst falls on each alike."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            took[name].append((time.perf_counter() - start) / EVENTS * 1e6)
    return {name: Spread(min(all_), statistics.median(all_)) for name, all_ in took.items()}


def main() -> int:
    """Prints the table; 1 if even the best round misses the goal."""
    from cloudevents.core.bindings import kafka as sdk
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    events = [sample(n) for n in range(EVENTS)]
    records = [kafka.encode(event) for event in events]
    values = [event.value() for event in events]
    assert [kafka.decode(*record) for record in records] == events
    assert sum(name.startswith("ce_") for name, _ in records[0][1]) == 8

    json_format = JSONFormat()
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    theirs = [
        CloudEvent(
            {
                "id": event.id,
                "source": event.source,
                "type": event.type,
                "datacontenttype": event.datacontenttype,
                "subject": event.subject,
                "time": moment,
                **event.extensions,
            },
            value,
        )
        for event, value in zip(events, values, strict=True)
    ]
    messages = [sdk.to_binary(event, json_format) for event in theirs]

    spreads = measure(
        {
            "decode": lambda: [kafka.decode(*record) for record in records],
            "encode": lambda: [kafka.encode(event) for event in events],
            "decode+value": lambda: [kafka.decode(*record).value() for record in records],
            "encode+value": lambda: [
                kafka.encode(event.with_(data=msgspec.json.encode(value)))
                for event, value in zip(events, values, strict=True)
            ],
            "package decode": lambda: [
                sdk.from_binary(message, json_format, CloudEvent) for message in messages
            ],
            "package encode": lambda: [sdk.to_binary(event, json_format) for event in theirs],
        }
    )

    def both(one: str, other: str) -> Spread:
        return Spread(*(a + b for a, b in zip(spreads[one], spreads[other], strict=True)))

    ours = both("decode", "encode")
    parsed = both("decode+value", "encode+value")
    package = both("package decode", "package encode")
    print(f"µs per event, {len(DATA)} bytes of JSON, {ROUNDS} rounds    best   median")
    for name, spread in spreads.items():
        print(f"  {name:<44}{spread.best:8.2f} {spread.median:8.2f}")
    for name, spread in (
        ("both directions, data kept as bytes", ours),
        ("both directions, data parsed and written", parsed),
        ("both directions, cloudevents package", package),
    ):
        ratios = [theirs_ / ours_ for theirs_, ours_ in zip(package, spread, strict=True)]
        print(
            f"{name:<46}{spread.best:8.2f} {spread.median:8.2f}"
            f"   package/this {ratios[0]:.1f} best, {ratios[1]:.1f} median"
        )
    print(
        f"goal {GOAL} µs: best {'met' if ours.best <= GOAL else 'MISSED'}, "
        f"median {'met' if ours.median <= GOAL else 'MISSED'}"
    )
    return 0 if ours.best <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
