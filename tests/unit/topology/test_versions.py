"""The version manifest and the caching loader (M8)."""

import pytest

from streams.topology.findings import TopologyError
from streams.topology.load import load_file
from streams.topology.manifest import record, revisions
from streams.topology.versions import Loader

FIRST = "pipeline: p\nversion: 1\nstages: [{name: a, echo: hi}]\n"
CHANGED = FIRST.replace("hi", "ho")


def test_a_recorded_version_cannot_change(tmp_path):
    """Jobs end on the plan they began with."""
    path = tmp_path / "p.yaml"
    path.write_text(FIRST)
    record(load_file(path).plan, tmp_path)
    path.write_text(CHANGED)

    with pytest.raises(TopologyError) as caught:
        load_file(path)

    assert caught.value.code == "T160"


def test_a_new_version_may_be_recorded_beside_the_old_one(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(FIRST)
    manifest = record(load_file(path).plan, tmp_path)
    path.write_text(CHANGED.replace("version: 1", "version: 2"))
    record(load_file(path).plan, tmp_path)
    record(load_file(path).plan, tmp_path)

    assert [revision.version for revision in revisions(manifest)] == ["1", "2"]


def test_recording_another_content_under_a_version_is_refused(tmp_path):
    path, other = tmp_path / "p.yaml", tmp_path / "elsewhere" / "p.yaml"
    path.write_text(FIRST)
    other.parent.mkdir()
    other.write_text(CHANGED)
    record(load_file(path).plan, tmp_path)

    with pytest.raises(TopologyError) as caught:
        record(load_file(other).plan, tmp_path)

    assert caught.value.code == "T160"


def test_a_file_is_read_once_as_long_as_it_stays_the_same(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(FIRST)
    loader = Loader()
    first = loader.load(path)

    assert loader.load(path) is first
    assert loader.load(path, force=True) is not first
    path.write_text(FIRST.replace("hi", "longer"))
    assert loader.load(path).plan.parts[0].echo == "longer"


def test_a_recorded_text_is_loaded_by_its_version(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(FIRST)
    plan = load_file(path).plan
    record(plan, tmp_path, FIRST)
    path.write_text(CHANGED.replace("version: 1", "version: 2"))
    loader = Loader()

    assert loader.load_version(tmp_path, "p", "1").plan.digest == plan.digest
    with pytest.raises(TopologyError):
        loader.load_version(tmp_path, "p", "2")


def test_a_recorded_text_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(FIRST)
    manifest = record(load_file(path).plan, tmp_path, FIRST)
    (manifest.parent / revisions(manifest)[0].file).write_text(CHANGED)

    with pytest.raises(TopologyError) as caught:
        Loader().load_version(tmp_path, "p", "1")

    assert caught.value.code == "T160"


@pytest.mark.parametrize(
    "text",
    [
        "pipeline: p\nrevisions: 3\n",
        "[]\n",
        "",
        "pipeline: p\nrevisions: [{version: '1', digest: a}, {version: '1', digest: b}]\n",
        "pipeline: p\nother: 1\n",
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "p.yaml").write_text(text)
    (tmp_path / "p.yaml").write_text(FIRST)

    with pytest.raises(TopologyError) as caught:
        load_file(tmp_path / "p.yaml")

    assert caught.value.code == "T161"
