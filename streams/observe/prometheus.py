"""Metrics as the text that Prometheus scrapes.

`collected` takes the numbers as they stand, quickly, on the loop; `exposed` makes text of them and
may run in a thread. prometheus-client is loaded by the first of them, not by importing this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from streams.observe.metrics import BUCKETS, Family, Histogram

if TYPE_CHECKING:
    from prometheus_client import Metric

_BOUNDS = [*(str(bound) for bound in BUCKETS), "+Inf"]


def collected(families: Iterable[Family]) -> list[Metric]:
    """All families as they stand now; nothing in it changes any more."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )

    found: list[Metric] = []
    for family in families:
        known = family.definition
        if isinstance(family, Histogram):
            histogram = HistogramMetricFamily(known.name, known.meaning, labels=known.labels)
            for labels, spread in family.values.items():
                counts = zip(_BOUNDS, map(float, accumulate(spread.counts)), strict=True)
                histogram.add_metric(labels, list(counts), spread.total)
            found.append(histogram)
        elif known.name.endswith("_info"):
            name = known.name.removesuffix("_info")
            info = InfoMetricFamily(name, known.meaning, labels=())
            for labels in family.values:
                info.add_metric((), dict(zip(known.labels, labels, strict=True)))
            found.append(info)
        else:
            kind = CounterMetricFamily if known.kind == "counter" else GaugeMetricFamily
            plain = kind(known.name, known.meaning, labels=known.labels)
            for labels, value in family.values.items():
                plain.add_metric(labels, value)
            found.append(plain)
    return found


def exposed(metrics: Sequence[Metric], accept: str = "") -> tuple[bytes, str]:
    """Text and content type: OpenMetrics for who accepts it, else the older form. This process's
    memory, CPU time and open files stand beside what was handed in."""
    from prometheus_client import ProcessCollector, exposition
    from prometheus_client.openmetrics import exposition as openmetrics

    both = _Given([*metrics, *ProcessCollector(registry=None).collect()])
    if "application/openmetrics-text" in accept:
        text = openmetrics.generate_latest(both, version="1.0.0")  # type: ignore[no-untyped-call]
        return text, "application/openmetrics-text; version=1.0.0; charset=utf-8"
    return exposition.generate_latest(both), exposition.CONTENT_TYPE_PLAIN_0_0_4


class _Given:
    """What prometheus-client asks for metrics."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics
