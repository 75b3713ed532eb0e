"""Stages come from where they may come from; a broken source stops no other."""

import importlib.metadata
import sys
import textwrap

import pytest

from streams.plugins import BUILT_IN, discover, load_plugins, unload_project_modules
from streams.registry import StageRegistry

GOOD = """
from streams.stage import Stage, StageMetadata, StageRegistration, stage, tag
from os import system

@stage
def shout(text: str) -> str:
    return text.upper()

@tag("tasks", alias="double")
def double(n: int) -> int:
    return 2 * n

class Lower(Stage):
    def execute(self, ctx):
        return str(ctx.inputs.value).lower()

def register_two():
    def one(name):
        return StageRegistration(StageMetadata(stage_type=name), lambda d: Lower())
    return [one("first"), one("second")]

def register_wrong():
    return {"not": "a registration"}

def register_raises():
    raise RuntimeError("no licence")

def register_exits():
    raise SystemExit(3)

NUMBER = 3
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a topology's modules; import state is put back after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "my_stages_0.py").write_text(GOOD)
    yield tmp_path
    unload_project_modules([tmp_path])


@pytest.fixture
def registry():
    return StageRegistry()


def load(registry, project, *targets):
    return load_plugins(registry, targets, roots=[project])


@pytest.mark.parametrize(
    ("target", "stages", "functions"),
    [
        ("my_stages_0:shout", ("shout",), ()),
        ("my_stages_0:Lower", ("lower",), ()),
        ("my_stages_0:register_two", ("first", "second"), ()),
        ("my_stages_0:double", (), ("tasks/double@latest",)),
        ("my_stages_0", ("shout", "lower"), ("tasks/double@latest",)),
    ],
)
def test_each_thing_an_author_may_point_at_is_loaded(registry, project, target, stages, functions):
    (report,) = load(registry, project, target)
    assert (report.state, report.stages, report.functions) == ("loaded", stages, functions)
    assert report.ok


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("my_stages_0:register_wrong", "returned dict instead of"),
        ("my_stages_0:register_raises", "RuntimeError: no licence"),
        ("my_stages_0:register_exits", "SystemExit: 3"),
        ("my_stages_0:NUMBER", "points at int"),
        ("my_stages_0:nothing", "has no attribute 'nothing'"),
        ("nowhere_at_all:x", "may not be imported"),
    ],
)
def test_a_broken_source_is_listed_with_its_reason_and_stops_no_other(
    registry, project, target, reason
):
    """K5."""
    broken, good = load(registry, project, target, "my_stages_0:shout")
    assert broken.state == "broken"
    assert reason in broken.reason
    assert good.ok
    assert registry.stage_types() == ["shout"]
    assert broken in registry.plugins()


def test_a_module_that_raises_or_exits_at_import_is_broken_only_itself(registry, project):
    (project / "raises_0.py").write_text("raise ValueError('at import')")
    (project / "exits_0.py").write_text("import sys; sys.exit(1)")
    (project / "syntax_0.py").write_text("def (:")
    reports = load(registry, project, "raises_0:x", "exits_0", "syntax_0", "my_stages_0:shout")
    assert [report.state for report in reports] == ["broken", "broken", "broken", "loaded"]
    assert "at import" in reports[0].reason


@pytest.mark.parametrize(
    "target",
    [
        "os:system",
        "os",
        "subprocess:Popen",
        "builtins:eval",
        "sys:exit",
        "posix:_exit",
        "../x:y",
        "/x:y",
        "x/y:z",
        "my_stages_0:register two",
        "my_stages_0:",
        ":x",
        "",
        "a:b:c",
        "pytest:exit",
        "my_stages_0:system",
        "streams.clock:SystemClock",
    ],
)
def test_a_topology_reaches_nothing_it_may_not(registry, project, target):
    """Y12: only modules beside the topology, or packages that declare themselves plugins."""
    (report,) = load(registry, project, target)
    assert report.state == "broken"
    assert "may not be imported" in report.reason or "form module:name" in report.reason


def test_a_link_out_of_the_folder_is_refused(registry, project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "linked_0.py"
    outside.write_text(GOOD)
    (project / "linked_0.py").symlink_to(outside)
    (report,) = load(registry, project, "linked_0:shout")
    assert "may not be imported" in report.reason


def test_a_name_that_is_taken_is_told_and_hides_nothing(registry, project):
    """A project's `json.py` must not replace the library's for everybody."""
    (project / "json.py").write_text(GOOD)
    (project / "this.py").write_text(GOOD)
    taken, installed = load(registry, project, "json:shout", "this:shout")
    assert "'json' is taken by" in taken.reason
    assert "'this' is taken by an installed module" in installed.reason


def test_a_package_beside_the_topology_is_loaded(registry, project):
    (project / "my_package_0").mkdir()
    (project / "my_package_0" / "__init__.py").write_text("")
    (project / "my_package_0" / "plugins.py").write_text(GOOD)
    (report,) = load(registry, project, "my_package_0.plugins:shout")
    assert report.stages == ("shout",)


def test_a_source_is_loaded_once_though_two_topologies_name_it(registry, project):
    (first,) = load(registry, project, "my_stages_0:register_two")
    (second,) = load(registry, project, "my_stages_0:register_two")
    assert first is second


def test_two_sources_with_one_type_keep_the_first(registry, project):
    """M15."""
    (project / "again_0.py").write_text(GOOD)
    first, second = load(registry, project, "my_stages_0:shout", "again_0:shout")
    assert first.ok
    assert "'shout' is registered already" in second.reason


def test_changed_code_is_read_anew_after_unloading(project):
    """What `dev` does when a file changes."""
    (project / "changing_0.py").write_text(GOOD)
    first = StageRegistry()
    load(first, project, "changing_0:shout")
    (project / "changing_0.py").write_text(GOOD.replace("upper()", "title()"))
    assert "changing_0" in unload_project_modules([project])
    assert "changing_0" not in sys.modules
    second = StageRegistry()
    load(second, project, "changing_0:shout")
    assert second.resolve("shout")("ab") == "Ab"
    assert first.resolve("shout")("ab") == "AB"


@pytest.fixture
def installed(tmp_path_factory, monkeypatch):
    """A distribution with entry points, as pip would leave it."""
    site = tmp_path_factory.mktemp("site")
    (site / "acme_stages_0.py").write_text(GOOD)
    (site / "acme_broken_0.py").write_text("raise ImportError('needs acme-gpu')")
    info = site / "acme_stages-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-stages\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        textwrap.dedent(
            """
            [streams.stages]
            shout = acme_stages_0:shout
            pair = acme_stages_0:register_two
            gpu = acme_broken_0:register
            """
        )
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    importlib.invalidate_caches()
    yield site
    unload_project_modules([site])


def test_installed_plugins_wait_until_they_are_asked_for(registry, installed):
    reports = {report.source: report for report in discover(registry)}
    assert reports[BUILT_IN].state == "loaded"
    assert reports["shout"].state == "waiting"
    assert "acme_stages_0" not in sys.modules
    assert registry.resolve("shout").type == "shout"
    assert registry.report_of("pair").state == "waiting"
    assert registry.resolve("second").type == "second"


def test_a_broken_installed_plugin_is_listed_and_the_rest_works(registry, installed):
    discover(registry)
    assert {"echo", "gate", "shout", "first"} <= set(registry.stage_types())
    broken = registry.report_of("gpu")
    assert (broken.state, broken.distribution) == ("broken", "acme-stages")
    assert "needs acme-gpu" in broken.reason


def test_a_topology_may_name_modules_of_an_installed_plugin(registry, project, installed):
    (report,) = load(registry, project, "acme_stages_0:Lower")
    assert report.stages == ("lower",)


def test_the_built_ins_need_no_installation(registry):
    """A checkout runs without `pip install`."""
    (report,) = load_plugins(registry, [BUILT_IN], roots=[])
    assert report.stages == ("echo", "gate", "raise", "sleep", "uses")
