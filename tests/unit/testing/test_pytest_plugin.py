"""The pytest plugin, in a pytest of its own."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from streams.cli.project import write_project

PLUGIN = "streams.testing.pytest_plugin"
TOPOLOGY = "pipeline: p\nversion: 1\nstages: [{name: a, type: a}]\n"
GOOD = """\
topology: p.yaml
given: {stages: {a: {returns: 1}}}
tests:
  - {name: it succeeds, steps: [{submit: {id: j}}], expect: {jobs: {j: succeeded}}}
"""


def run(folder, *words):
    """What pytest says in the folder, with the plugin loaded as an entry point would."""
    known = any(point.value == PLUGIN for point in entry_points(group="pytest11"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    done = subprocess.run(
        [*command, *([] if known else ["-p", PLUGIN]), "-W", "error", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "p.yaml").write_text(TOPOLOGY)
    return tmp_path


def test_the_fixture_finds_a_file_beside_the_test_and_closes_what_it_made(folder):
    (folder / "sub" / "test_it.py").write_text("""
import pytest

MADE = []

class Closing:
    closed = False
    def execute(self, ctx):
        return 1
    def close(self):
        Closing.closed = True

def test_it(topology_tester):
    t = topology_tester("p.yaml", stages={"a": Closing()})
    t.submit(id="j")
    t.run_until_idle()
    assert t.job("j").status == "succeeded"

def test_afterwards():
    assert Closing.closed
""")

    code, said = run(folder, "-q", "-p", "no:randomly")

    assert code == 0, said
    assert "2 passed" in said


def test_yaml_tests_are_items_with_their_names_and_lines(folder):
    (folder / "sub" / "p.test.yaml").write_text(GOOD)

    code, said = run(folder, "-v")

    assert code == 0, said
    assert "sub/p.test.yaml::it succeeds PASSED" in said


def test_a_failing_expectation_is_told_in_house_style_without_a_trace(folder):
    (folder / "sub" / "p.test.yaml").write_text(GOOD.replace("succeeded}", "failed}"))

    code, said = run(folder)

    assert code == 1
    assert "error[U110]: status of j: expected failed, got succeeded" in said
    assert "--> sub/p.test.yaml:4:72" in said
    assert "Traceback" not in said


def test_a_file_with_faults_is_an_error_of_its_collection(folder):
    (folder / "sub" / "p.test.yaml").write_text(GOOD.replace("steps", "stepz"))

    code, said = run(folder)

    assert code == 2
    assert "error[U102]: unknown key `stepz` in test `it succeeds`" in said
    assert "Traceback" not in said


def test_the_demo_of_init_has_tests_of_all_three_kinds_and_they_pass(folder):
    """Issue 4: a stage alone, the pipeline in Python, the pipeline in YAML."""
    write_project(folder / "demo")

    code, said = run(folder / "demo", "-q")

    assert code == 0, said
    assert "6 passed" in said


def test_projects_that_test_something_else_are_left_alone(folder):
    """Other tools' `*.test.yaml` are not collected, and nothing of the package is loaded."""
    (folder / "rule.test.yaml").write_text("rules: [oops\n")
    (folder / "test_else.py").write_text("""
import sys

def test_else():
    loaded = [name for name in sys.modules if name.startswith("streams.")]
    assert not [n for n in loaded if n.startswith(("streams.runtime", "streams.topology"))]
    assert {n for n in loaded if n.startswith("streams.testing")} <= {
        "streams.testing", "streams.testing.pytest_plugin", "streams.testing.yaml_tests_files"
    }
""")

    code, said = run(folder, "-q", "test_else.py")

    assert code == 0, said
    code, said = run(folder, "--collect-only", "-q")
    assert "rule" not in said
