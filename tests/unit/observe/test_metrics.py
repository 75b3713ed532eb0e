"""Names, labels and bounds of metrics (PR-1 to PR-4), and the text that Prometheus reads."""

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from streams.cli.explanations import all_explanations
from streams.observe import prometheus
from streams.observe.metrics import BUCKETS, BUDGET, OTHER, REASONS, Metrics, reason_of

ROOT = Path(__file__).parents[3]
LABELS = {"pipeline", "stage", "gate", "policy", "topic", "outcome", "reason"}


def definitions():
    return [family.definition for family in Metrics().families]


def text_of(metrics, accept=""):
    text, _ = prometheus.exposed(prometheus.collected(metrics.families), accept)
    return text.decode()


def samples(metrics):
    """Sample and values of its labels, in the order of their names → value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text_of(metrics))
        for sample in family.samples
    }


# -- names ----------------------------------------------------------------------------------


def test_the_set_is_that_of_the_conventions():
    """PR-4, but for lineage, which is not there yet. Dashboards and alerts use these names."""
    assert [(d.name, d.kind) for d in definitions()] == [
        ("streams_events_consumed_total", "counter"),
        ("streams_events_produced_total", "counter"),
        ("streams_process_duration_seconds", "histogram"),
        ("streams_end_to_end_duration_seconds", "histogram"),
        ("streams_inflight_events", "gauge"),
        ("streams_retries_total", "counter"),
        ("streams_dead_letters_total", "counter"),
        ("streams_consumer_lag_events", "gauge"),
        ("streams_consumer_lag_seconds", "gauge"),
        ("streams_gate_waiting_jobs", "gauge"),
        ("streams_gate_oldest_waiting_seconds", "gauge"),
        ("streams_ledger_rows", "gauge"),
        ("streams_ledger_restore_seconds", "gauge"),
        ("streams_rebalances_total", "counter"),
        ("streams_last_success_timestamp_seconds", "gauge"),
        ("streams_build_info", "gauge"),
    ]


@pytest.mark.parametrize("definition", definitions(), ids=lambda d: d.name)
def test_a_name_says_its_kind_and_its_labels_are_of_the_fixed_set(definition):
    """PR-1, PR-2: never an id, a key or a message; `partition` on lag only."""
    allowed = LABELS | ({"partition"} if "_lag_" in definition.name else set())
    if definition.name.endswith("_info"):
        allowed = {"version", "python"}

    assert re.fullmatch(r"streams(_[a-z]+)+", definition.name)
    assert definition.name.endswith("_total") is (definition.kind == "counter")
    assert set(definition.labels) <= allowed
    assert definition.meaning.endswith(".")


def test_every_metric_stands_in_the_docs_with_its_labels():
    """Style 29: one list, and what people read is that list."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(streams_\w+)` \| ([^|]*?) \|", page, re.MULTILINE))

    assert rows == {d.name: ", ".join(f"`{label}`" for label in d.labels) for d in definitions()}


def test_reasons_are_exactly_our_own_codes_of_what_can_fail():
    """PR-2: a new code is added to the list, or it is counted as `other`."""
    codes = {code for code in all_explanations() if code[0] in "BEGKSVX"}

    assert sorted(REASONS ^ codes) == []
    assert reason_of("S001") == "S001"
    assert reason_of("MY-OWN") == OTHER
    assert reason_of("S999") == OTHER


# -- bounds ---------------------------------------------------------------------------------


def test_all_families_together_keep_to_the_budget():
    """PR-2: 2,000 series a worker, those of the process itself included."""
    ours = sum(definition.series for definition in definitions())

    assert ours + 8 <= BUDGET


def test_a_worker_with_too_many_stages_folds_the_rest_and_loses_no_count():
    """PR-2, the worst case in full: every family asked for 500 label sets."""
    metrics = Metrics()
    for family in metrics.families:
        width = len(family.definition.labels)
        for n in range(500):
            labels = tuple(f"v{n}" for _ in range(width))
            if family.definition.kind == "counter":
                family.add(labels)
            elif family.definition.kind == "histogram":
                family.observe(labels, 1.0)
            else:
                family.set(labels, 1)
    lines = [line for line in text_of(metrics).splitlines() if not line.startswith("#")]

    assert len(lines) <= BUDGET
    assert metrics.consumed.values[(OTHER,) * 4] == 500 - 199
    assert sum(metrics.consumed.values.values()) == 500
    assert sum(s.counts[7] for s in metrics.process_duration.values.values()) == 500


def test_gauges_that_share_a_label_are_added_or_of_times_the_greatest_is_taken():
    """PR-1: what stands under `other` still means what the name says."""
    metrics = Metrics()
    lags = {("p", "t", str(n)): n for n in range(130)}
    metrics.lag_events.replace(lags)
    metrics.lag_seconds.replace(lags)

    assert metrics.lag_events.values[(OTHER,) * 3] == sum(range(119, 130))
    assert metrics.lag_seconds.values[(OTHER,) * 3] == 129


def test_what_is_gone_is_not_shown_any_more():
    """A partition that went to another worker is that one's to tell."""
    metrics = Metrics()
    metrics.lag_events.replace({("p", "t", "0"): 1})
    metrics.lag_events.replace({("p", "t", "1"): 2})

    assert metrics.lag_events.values == {("p", "t", "1"): 2}


# -- text -----------------------------------------------------------------------------------


def test_a_histogram_adds_up_its_buckets():
    """PR-3: a bound belongs to its bucket; what is above all of them is in +Inf."""
    metrics = Metrics()
    for seconds in (0.005, 0.006, 299.0, 301.0):
        metrics.process_duration.observe(("p", "s"), seconds)
    found = samples(metrics)
    name = "streams_process_duration_seconds"

    assert len(BUCKETS) == 15
    assert found[f"{name}_bucket", "0.005", "p", "s"] == 1
    assert found[f"{name}_bucket", "0.01", "p", "s"] == 2
    assert found[f"{name}_bucket", "120.0", "p", "s"] == 2
    assert found[f"{name}_bucket", "300.0", "p", "s"] == 3
    assert found[f"{name}_bucket", "+Inf", "p", "s"] == 4
    assert found[f"{name}_count", "p", "s"] == 4
    assert found[f"{name}_sum", "p", "s"] == pytest.approx(600.011)


def test_the_text_holds_counters_gauges_info_and_the_process():
    """What the first scrape of a worker shows."""
    metrics = Metrics()
    metrics.produced.add(("p", "t.p.one"), 3)
    metrics.gate_waiting.set(("p", "go"), 7)
    metrics.build.set(("1.2.3", "3.11.9"), 1)
    found = samples(metrics)

    assert found["streams_events_produced_total", "p", "t.p.one"] == 3
    assert found["streams_gate_waiting_jobs", "go", "p"] == 7
    assert found["streams_build_info", "3.11.9", "1.2.3"] == 1
    assert found[("process_resident_memory_bytes",)] > 0


def test_a_label_may_hold_anything_without_breaking_the_text():
    """A topic's name comes from a file."""
    metrics = Metrics()
    metrics.produced.add(('p"\\\n', "ü{}"), 1)

    assert samples(metrics)["streams_events_produced_total", 'p"\\\n', "ü{}"] == 1


def test_open_metrics_is_spoken_to_who_accepts_it():
    """What Prometheus asks for first."""
    metrics = Metrics()
    metrics.produced.add(("p", "t"), 1)
    metrics.end_to_end.observe(("p", "succeeded"), 2.0)
    metrics.build.set(("1", "3"), 1)
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    text, kind = prometheus.exposed(prometheus.collected(metrics.families), accept)

    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert text.endswith(b"# EOF\n")
    families = openmetrics_parser.text_string_to_metric_families(text.decode())
    assert {f.name for f in families} >= {"streams_events_produced", "streams_build"}
