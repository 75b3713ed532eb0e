"""Every YAML block of the source documents: 003 as files, 000 and 001 as parts of one."""

import textwrap
from pathlib import Path

import pytest

from streams.topology.check import check_text
from streams.topology.load import load_files
from tests.unit.topology.checking import Types, plan_of

DATA = Path(__file__).parents[2] / "data"
BLOCKS = sorted((DATA / "003").glob("*.yaml"))
RUN_NOW = {"01", "02", "03", "11", "12", "13", "25", "26"}


def test_all_blocks_are_there():
    assert len(BLOCKS) == 28


@pytest.mark.parametrize("path", BLOCKS, ids=lambda path: path.stem)
def test_a_block_of_document_003_loads_or_is_told_to_arrive_later(path):
    """Never ignored in silence: W20."""
    plan, findings = check_text(path.read_text("utf-8"), f"block-{path.name}")

    if path.stem in RUN_NOW:
        assert plan is not None
        assert findings == []
    else:
        assert plan is None
        assert {finding.code for finding in findings} == {"T150"}
        assert all(finding.line for finding in findings)


def test_ids_are_slugs_of_the_names_in_document_003():
    plan, _ = check_text((DATA / "003" / "02.yaml").read_text("utf-8"), "block.yaml")

    assert [(part.path, part.kind, part.sleep_ms) for part in plan.parts] == [
        ("wait-for-system", "sleep", 30_000)
    ]


def test_the_stage_of_document_000_loads_inside_a_file():
    block = textwrap.indent((DATA / "000" / "01.yaml").read_text("utf-8"), "  ")

    plan = plan_of(f"name: auto\nstages:\n  - {{name: parse, type: parse}}\n{block}", Types())

    assert plan.by_path["postprocess"].policy == "default"
    assert plan.by_path["postprocess"].needs == ("parse",)


def test_the_blocks_of_document_001_load_inside_a_file():
    plugins, stages = (path.read_text("utf-8") for path in sorted((DATA / "001").glob("*.yaml")))

    plan = plan_of(f"name: p\nversion: 2025-01-01\n{plugins}{stages}", Types())

    assert plan.plugins == ("my_package.plugins:register_example_stage",)
    assert plan.by_path["example"].overrides == {
        "state_key": "example_payloads",
        "dependencies": ["ingest"],
    }


def test_the_example_topologies_load_together():
    folder = DATA.parent / "topologies" / "data"

    loaded = load_files(sorted(folder.glob("*.yaml")))

    assert {topology.plan.pipeline: topology.plan.roots for topology in loaded} == {
        "pdf-two-phase": ("download",),
        "review": ("parse",),
        "rich-gate": ("fetch",),
    }
    assert [topology.warnings for topology in loaded] == [(), (), ()]
