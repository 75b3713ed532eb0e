"""Metrics: every name, kind, label and meaning, and this process's numbers.

Counting is dictionaries and lists, so that it costs next to nothing where events are counted;
`prometheus` makes text of them when somebody asks. Labels come from fixed sets (PR-2): never an
id, a key or a message. Each family has a bound on its label sets; what comes beyond it is counted
under `other`, so that one worker never gives more than `BUDGET` series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Literal

import msgspec

Labels = tuple[str, ...]
"""Values, in the order of the family's labels."""

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of every histogram, in seconds (PR-3)."""
BUDGET = 2_000
"""Series of one worker (PR-2)."""
OTHER = "other"
"""The label of whatever has no label of its own."""

REASONS: frozenset[str] = frozenset(
    (
        "B001 B002 B003 B004 E000 E001 E404 G001 G002 K000 K010 K011 K012 K013 K014 K015 "
        "K020 K021 K022 K023 K024 K025 K026 K027 K028 K030 K031 K040 K041 K042 K043 K044 "
        "K060 K061 K062 K063 K064 K065 K066 K070 K071 "
        "K080 K081 K082 K083 K085 K086 K087 K088 K089 "
        "S001 S002 S010 S011 S012 S013 S014 S015 S016 S020 S021 S022 S030 S040 S041 S404 S405 S406 "
        "V001 V002 V003 V004 V005 V006 V007 V008 V009 V010 V011 V012 V013 V014 V015 V016 V017 V018 "
        "V019 V020 V021 V040 V041 V042 V043 V044 V045 V046 V047 V048 V049 "
        "V050 V051 V060 V061 V062 V063 V064 V065 K090 K091 K092 K093 K094 K095 K096 "
        "X001 X002 X003 X004 X005 X006 X007 X008 X020"
    ).split()
)
"""Our own codes that an event can fail with. A stage may fail with any code of its own."""
ASKED = "asked"
"""Reason of a retry that the stage asked for with the verdict `retry`."""


def reason_of(code: str) -> str:
    """The label for an error's code: itself if it is ours, else `other`."""
    return code if code in REASONS else OTHER


class Definition(msgspec.Struct, frozen=True):
    """What one family of series is called and means."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: Labels
    most: int
    """Label sets, the one of `other` included."""

    @property
    def series(self) -> int:
        """Lines that the family can have at most."""
        each = len(BUCKETS) + 3 if self.kind == "histogram" else 1
        return each * self.most

    def bounded(self, labels: Labels, known: Mapping[Labels, object]) -> Labels:
        """The labels, or those of `other` where there is no room for new ones."""
        if labels in known or len(known) < self.most - 1:
            return labels
        return (OTHER,) * len(self.labels)


class Counter:
    """Only rises."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.values: dict[Labels, float] = {}

    def add(self, labels: Labels, n: float = 1) -> None:
        values = self.values
        if labels not in values:
            labels = self.definition.bounded(labels, values)
            values.setdefault(labels, 0)
        values[labels] += n


class Gauge:
    """As it is now. What shares `other` is added up, or of times the greatest is taken."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.values: dict[Labels, float] = {}
        self._takes_greatest = definition.name.endswith("_seconds")

    def set(self, labels: Labels, value: float) -> None:
        self.values[self.definition.bounded(labels, self.values)] = value

    def replace(self, found: Mapping[Labels, float]) -> None:
        """Exactly these from now on."""
        values: dict[Labels, float] = {}
        for labels, value in found.items():
            held = self.definition.bounded(labels, values)
            before = values.get(held)
            if before is None:
                values[held] = value
            else:
                values[held] = max(before, value) if self._takes_greatest else before + value
        self.values = values


class Distribution(msgspec.Struct):
    """How often which values came."""

    counts: list[int]
    """By bucket, not added up; the last one is what is above them all."""
    total: float = 0.0


class Histogram:
    """Durations, in seconds."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.values: dict[Labels, Distribution] = {}

    def observe(self, labels: Labels, seconds: float) -> None:
        found = self.values.get(labels)
        if found is None:
            labels = self.definition.bounded(labels, self.values)
            found = self.values.setdefault(labels, Distribution([0] * (len(BUCKETS) + 1)))
        found.counts[bisect_left(BUCKETS, seconds)] += 1
        found.total += seconds


Family = Counter | Gauge | Histogram


class Metrics:
    """All families of one process. Made once, at the composition root."""

    def __init__(self) -> None:
        self.families: list[Family] = []
        self.consumed = self._counter(
            "streams_events_consumed_total",
            "Events finished, counted when their offset was committed.",
            ("pipeline", "stage", "topic", "outcome"),
            200,
        )
        self.produced = self._counter(
            "streams_events_produced_total",
            "Events written to a topic, counted when their transaction was committed.",
            ("pipeline", "topic"),
            100,
        )
        self.process_duration = self._histogram(
            "streams_process_duration_seconds",
            "Time of one call of a stage's code; each attempt is a call.",
            ("pipeline", "stage"),
            40,
        )
        self.end_to_end = self._histogram(
            "streams_end_to_end_duration_seconds",
            "Time from a job's submission to its end, by how it ended.",
            ("pipeline", "outcome"),
            8,
        )
        self.inflight = self._gauge(
            "streams_inflight_events",
            "Events taken by this worker and not finished yet.",
            ("pipeline", "topic"),
            100,
        )
        self.retries = self._counter(
            "streams_retries_total",
            "Attempts that are followed by another one, by the reason.",
            ("pipeline", "stage", "reason"),
            120,
        )
        self.dead_letters = self._counter(
            "streams_dead_letters_total",
            "Dead letters, counted when their transaction was committed.",
            ("pipeline", "stage", "reason"),
            120,
        )
        self.lag_events = self._gauge(
            "streams_consumer_lag_events",
            "Events in a partition of this worker that are not finished.",
            ("pipeline", "topic", "partition"),
            120,
        )
        self.lag_seconds = self._gauge(
            "streams_consumer_lag_seconds",
            "Age of the oldest event in a partition of this worker that is not finished.",
            ("pipeline", "topic", "partition"),
            120,
        )
        self.gate_waiting = self._gauge(
            "streams_gate_waiting_jobs",
            "Jobs that wait at a gate, in the partitions of this worker.",
            ("pipeline", "gate"),
            50,
        )
        self.gate_oldest = self._gauge(
            "streams_gate_oldest_waiting_seconds",
            "How long the job that came first has waited at a gate; 0 where nobody waits.",
            ("pipeline", "gate"),
            50,
        )
        self.ledger_rows = self._gauge(
            "streams_ledger_rows", "Ledger rows this worker holds in memory.", ("pipeline",), 10
        )
        self.ledger_restore = self._gauge(
            "streams_ledger_restore_seconds",
            "Time the newest restore of a partition's table took, or has taken so far.",
            ("pipeline",),
            10,
        )
        self.rebalances = self._counter(
            "streams_rebalances_total",
            "Changes of the partitions that a member of this worker owns; "
            "`lost`: it had been declared dead.",
            ("pipeline", "outcome"),
            20,
        )
        self.last_success = self._gauge(
            "streams_last_success_timestamp_seconds",
            "When a stage last finished an event well (Unix time), once committed.",
            ("pipeline", "stage"),
            50,
        )
        self.build = self._gauge(
            "streams_build_info", "Always 1; what runs here.", ("version", "python"), 2
        )

    def _counter(self, name: str, meaning: str, labels: Labels, most: int) -> Counter:
        family = Counter(Definition(name, "counter", meaning, labels, most))
        self.families.append(family)
        return family

    def _gauge(self, name: str, meaning: str, labels: Labels, most: int) -> Gauge:
        family = Gauge(Definition(name, "gauge", meaning, labels, most))
        self.families.append(family)
        return family

    def _histogram(self, name: str, meaning: str, labels: Labels, most: int) -> Histogram:
        family = Histogram(Definition(name, "histogram", meaning, labels, most))
        self.families.append(family)
        return family
