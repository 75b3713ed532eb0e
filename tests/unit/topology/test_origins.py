"""`source:` of a topology file: what it may say, and where it is said that it may not."""

import json

import pytest

from streams.topology.graph import render
from streams.topology.plan import Plan, SourceTopic
from tests.unit.topology.checking import codes, findings_of, only, plan_of

STAGES = "\nstages:\n  - {id: a, echo: hi}\n"


def source(text):
    return f"source: {text}{STAGES}"


def test_one_source_or_several_are_read_with_their_defaults():
    """Issue 5, item 4: one mapping or a list."""
    one = plan_of(source("{topic: orders}")).sources
    several = plan_of(source("[{topic: orders}, {topic: b.c, format: json}]")).sources

    assert one == (
        SourceTopic("orders", "cloudevents", None, "earliest", "dead", "skip", "", None),
    )
    assert [each.topic for each in several] == ["orders", "b.c"]


def test_a_time_to_begin_at_is_kept_in_ms():
    """`start: <time>`, whatever its zone."""
    found = plan_of(source("{topic: t, start: '2026-03-01T01:00:00+01:00'}")).sources

    assert found[0].start == 1_772_323_200_000


def test_the_schema_of_a_file_becomes_part_of_the_plan(tmp_path):
    """Workers read plans, not files."""
    (tmp_path / "order.avsc").write_text('{"type": "record", "name": "O", "fields": []}')
    text = source("{topic: t, format: avro, schema: order.avsc}")

    found = plan_of(text, name=str(tmp_path / "p.yaml")).sources[0]

    assert found.schema == {"type": "record", "name": "O", "fields": []}
    assert found.is_avro


@pytest.mark.parametrize(
    ("text", "code", "column"),
    [
        ("{topic: 'a b'}", "T110", 17),
        ("{topic: '..'}", "T110", 17),
        ("{topic: 5}", "T108", 17),
        ("{format: json}", "T109", 9),
        ("{topic: t, format: xml}", "T108", 28),
        ("{topic: t, fromat: json}", "T104", 20),
        ("{topic: t, start: yesterday}", "T140", 27),
        ("{topic: t, start: 2026-03-01T00:00:00}", "T140", 27),
        ("{topic: t, on_error: ignore}", "T108", 30),
        ("{topic: t, format: json, registry: 'http://r'}", "T113", 34),
        ("{topic: t, format: avro, registry: 'ftp://r'}", "T142", 44),
        ("{topic: t, format: avro, registry: 'http://u:p@r'}", "T142", 44),
        ("{topic: t, format: avro, schema: none.avsc}", "T141", 42),
        ("{topic: t, format: avro, schema: ../up.avsc}", "T141", 42),
        ("{topic: t, id: fixed}", "T113", 24),
        ("{topic: t, id: '${{ params.x }}'}", "T125", 24),
        ("{topic: t, id: '${{ data. }}'}", "X001", 24),
        ("{topic: t, format: json, id: '${{ event.id }}'}", "T125", 38),
        ("[{topic: t}, {topic: t}]", "T111", 30),
        ("[{topic: t}, 3]", "T108", 22),
    ],
)
def test_a_fault_has_its_code_and_its_place(text, code, column):
    """Whole-file checking: line, column, code (design §5)."""
    finding = only(source(text), code)

    assert (finding.line, finding.column) == (1, column)


def test_all_faults_of_a_source_are_told_at_once():
    """A faulty topic does not hide what else is wrong."""
    text = source("{topic: 'a b', start: never, id: '${{ params.x }}'}")

    assert codes(text) == ["T110", "T140", "T125"]


def test_a_schema_that_is_none_is_refused(tmp_path):
    """JSON is not yet Avro."""
    (tmp_path / "x.avsc").write_text('{"a": 1}')
    text = source("{topic: t, format: avro, schema: x.avsc}")

    (finding,) = findings_of(text, name=str(tmp_path / "p.yaml"))

    assert (finding.code, finding.message) == ("T141", "`x.avsc` is JSON, but no Avro schema")


@pytest.mark.parametrize("root", ["key", "headers", "event"])
def test_what_a_record_has_is_known_in_the_id_only(root):
    """Elsewhere the record is gone; in list macros the names stay free."""
    text = f"stages:\n  - {{id: a, echo: '${{{{ {root} }}}}'}}\n"
    free = f"stages:\n  - {{id: a, echo: '${{{{ data.list.map({root}, {root} + 1) }}}}'}}\n"

    assert only(text, "T125").message == f"`{root}` " + (
        "are there in the `id` of a `source` only"
        if root == "headers"
        else "is there in the `id` of a `source` only"
    )
    assert codes(free) == []


def test_a_plan_without_sources_is_encoded_as_before_there_were_any():
    """Recorded digests stay true."""
    plan = plan_of(STAGES)

    assert b"sources" not in plan.encoded
    assert plan.encoded.endswith(b'"tags":[]}')
    assert Plan.decode(plan.encoded) == plan


def test_a_plan_with_sources_reads_back_as_it_was():
    """Through the control topic."""
    plan = plan_of(source("{topic: t, format: json, id: '${{ key }}', start: latest}"))

    assert Plan.decode(plan.encoded) == plan
    assert Plan.decode(plan.encoded).digest == plan.digest


def test_the_picture_shows_what_is_read():
    """`streams graph`."""
    plan = plan_of(source("{topic: orders, format: json, id: '${{ data.id }}'}"))

    assert (
        render(plan).splitlines()[1].split()
        == (
            "topic orders json -> a from earliest; id ${{ data.id }}; broken records: dead;"
            " deletions: skip"
        ).split()
    )
    assert '    t0[/"orders"/]\n    t0 --> s0' in render(plan, "mermaid")
    assert json.loads(render(plan, "json"))["sources"] == [
        {
            "topic": "orders",
            "format": "json",
            "id": "${{ data.id }}",
            "start": "earliest",
            "on_error": "dead",
            "deletes": "skip",
        }
    ]
