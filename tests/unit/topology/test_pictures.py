"""A plan as text, Mermaid and JSON; the schema for editors; the texts of the codes."""

import json
import re
from pathlib import Path

import pytest

from streams.topology import codes as code_table
from streams.topology.graph import render
from streams.topology.schema import schema_text, topology_schema
from tests.unit.topology.checking import plan_of

ROOT = Path(__file__).parents[3]
PDF = """
pipeline: pdf-two-phase
version: 3
gates:
  pdf_ir_ready: {field: metadata.pdf_ir_ready, equals: true, timeout: 30m, on_timeout: late}
stages:
  - {name: download, type: download, policy: polite-io}
  - {name: wait_ir, type: gate, depends_on: [download], config: {gate: pdf_ir_ready}}
  - {name: 'Chunk "it"', id: chunk, type: chunk, depends_on: [wait_ir], pool: gpu, if: params.x}
  - {name: late, echo: too late}
"""


def test_the_text_picture_shows_ways_and_conditions():
    assert render(plan_of(PDF)).splitlines()[1:] == [
        "  download  download  -> wait_ir",
        "  wait_ir   gate      -> chunk, late (timeout)  pdf_ir_ready == true; after 30m: go to late",
        "  chunk     chunk     (end)                     if params.x; pool gpu",
        "  late      echo      (end)",
    ]


def test_the_mermaid_picture_escapes_names():
    assert render(plan_of(PDF), "mermaid").splitlines() == [
        "flowchart TD",
        '    s0["download"]',
        '    s1{{"wait_ir"}}',
        '    s2["chunk: Chunk #34;it#34;"]',
        '    s3["late"]',
        "    s0 --> s1",
        "    s1 --> s2",
        "    s1 -. timeout .-> s3",
    ]


def test_the_json_picture_names_stages_and_edges():
    picture = json.loads(render(plan_of(PDF), "json"))

    assert [stage["id"] for stage in picture["stages"]] == ["download", "wait_ir", "chunk", "late"]
    assert {"from": "wait_ir", "to": "late", "kind": "timeout", "carry": []} in picture["edges"]


def test_the_schema_in_the_repository_is_the_one_the_models_give():
    """Drift: run `streams.topology.schema.export` after a change of the grammar."""
    assert (ROOT / "schemas" / "topology.json").read_text("utf-8") == schema_text()


@pytest.mark.parametrize("field", ["gates", "stages", "params", "name", "pipeline", "version"])
def test_the_schema_knows_the_fields_of_a_file(field):
    assert field in topology_schema()["properties"]


def test_the_schema_knows_other_spellings():
    stage = topology_schema()["$defs"]["StageModel"]["properties"]

    assert {"depends_on", "depends-on", "needs", "with", "args", "if"} <= set(stage)


def test_every_code_used_here_is_explained_and_every_explained_code_is_used():
    used = set()
    for path in (ROOT / "streams" / "topology").glob("*.py"):
        if path.name != "codes.py":
            used |= set(re.findall(r'"([TXP]\d{3})"', path.read_text("utf-8")))

    assert used == set(code_table.EXPLANATIONS)
