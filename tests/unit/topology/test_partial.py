"""A worker of part of a pipeline needs the stage types of that part only."""

import pytest

from streams.app import App
from streams.plugins import unload_project_modules
from streams.settings import Settings
from streams.topology.findings import TopologyError

TEXT = """
pipeline: p
plugins: {stages: [{callable: 'mine:heavy'}, {callable: 'mine:light'}]}
stages:
  - {name: one, type: heavy, pool: gpu}
  - {name: two, uses: texts/light}
"""
LIGHT = """
from streams import tag

@tag("texts", alias="light")
def light() -> str:
    return "light"
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    (tmp_path / "p.yaml").write_text(TEXT)
    (tmp_path / "mine.py").write_text(LIGHT)
    monkeypatch.chdir(tmp_path)

    def loaded(**part):
        return App.from_files("p.yaml", settings=Settings.load(cwd=tmp_path), **part)

    yield loaded
    unload_project_modules([tmp_path])


def test_what_other_pools_need_may_be_missing(load):
    """The plan is then not this machine's to make: a type it does not know may have its say."""
    (topology,) = load(pools=["default"]).topologies
    assert not topology.whole
    assert [part.path for part in topology.plan.parts] == ["one", "two"]


@pytest.mark.parametrize("part", [{}, {"pools": ["gpu"]}, {"stages": frozenset({"one"})}])
def test_what_is_served_here_may_not(load, part):
    """All findings come, as for the whole file."""
    with pytest.raises(TopologyError) as caught:
        load(**part)
    assert {finding.code for finding in caught.value.findings} == {"T127", "T105"}


def test_any_other_fault_is_one_in_every_pool(load, tmp_path):
    """A broken file is not excused by what it lacks."""
    (tmp_path / "p.yaml").write_text(TEXT + "bogus: 1\n")
    with pytest.raises(TopologyError):
        load(stages=frozenset({"two"}))


async def test_a_part_of_a_pipeline_is_not_applied(load):
    """It would make the plan of a machine that lacks something the active one."""
    app = load(pools=["default"])
    await app.apply()
    assert await app.open_log().topics() == {}
    await app.open_log().close()
