"""The verb `test`: finds and runs `*.test.yaml`, says what does not hold, and exits by it."""

import json

import pytest
from typer.testing import CliRunner

from streams.cli.main import app
from streams.cli.project import write_project
from tests.unit.cli.processes import run

TOPOLOGY = """\
pipeline: p
version: 1
gates: {g: {after: a, until: facts.go == true}}
stages: [{name: a, type: a}, {name: b, type: b, depends_on: [a]}]
"""
TESTS = """\
topology: p.yaml
given: {stages: {a: {returns: 1}, b: {returns: 2}}}
tests:
  - {name: waits, steps: [{submit: {id: j}}], expect: {held: {g: [j]}}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "p.yaml").write_text(TOPOLOGY)
    (tmp_path / "p.test.yaml").write_text(TESTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*words):
    """Exit code, stdout, stderr."""
    result = CliRunner().invoke(app, ["test", *words])
    return result.exit_code, result.stdout, result.stderr


def test_it_finds_the_tests_of_this_folder_and_says_each(folder):
    assert invoke() == (0, "passed  p.test.yaml:4  waits\n", "1 passed\n")


def test_a_failing_one_says_expected_got_and_why_the_job_stands_where_it_stands(folder):
    """The words of `why`, without the commands: there is no log to send them to."""
    (folder / "p.test.yaml").write_text(TESTS.replace("{held: {g: [j]}}", "{jobs: {j: succeeded}}"))

    code, out, err = invoke("p.test.yaml")

    assert (code, err) == (1, "0 passed, 1 failed\n")
    assert (
        out
        == """\
failed  p.test.yaml:4  waits
error[U110]: status of j: expected succeeded, got waiting
  --> p.test.yaml:4:66
   | 4 |   - {name: waits, steps: [{submit: {id: j}}], expect: {jobs: {j: succeeded}}}
   |                                                                      ^
   = j (p) waits at gate g, for 0ms
   =   until      facts.go == true   does not hold yet
   =   now        `facts.go` is missing
   =   since      2027-01-15 08:00:00Z (0ms)
   =   times out  never
"""
    )


def test_a_file_with_faults_is_2_and_nothing_runs(folder):
    (folder / "q.test.yaml").write_text(TESTS.replace("steps", "stepz"))
    (folder / "r.test.yaml").write_text(TESTS.replace("held", "hold"))

    code, out, err = invoke()

    assert (code, out) == (2, "")
    assert "q.test.yaml:4:19" in err
    assert "r.test.yaml:4:56" in err


def test_paths_that_are_not_there_and_folders_without_tests_are_not_found(folder):
    assert invoke("nowhere")[0] == 3
    (folder / "empty").mkdir()
    code, _, err = invoke("empty")
    assert (code, "error[U107]: no *.test.yaml in empty" in err) == (3, True)


def test_the_results_for_programs(folder):
    code, out, _ = invoke("-o", "json")

    assert code == 0
    assert json.loads(out) == [
        {"file": "p.test.yaml", "line": 4, "name": "waits", "passed": True, "failures": []}
    ]
    assert invoke("-o", "name")[1] == "p.test.yaml::waits\n"


def test_two_folders_may_have_modules_of_the_same_name(folder, tmp_path):
    """Each project's own code is loaded for its own tests."""
    for name in ("one", "two"):
        project = tmp_path / name
        project.mkdir()
        (project / "own.py").write_text(
            f"from streams import stage\n\n@stage\ndef a() -> str:\n    return '{name}'\n"
        )
        (project / "p.yaml").write_text(
            "pipeline: p\nversion: 1\nplugins: {stages: [{callable: 'own:a'}]}\n"
            "stages: [{name: a, type: a}]\n"
        )
        (project / "p.test.yaml").write_text(
            "topology: p.yaml\ntests:\n  - {name: own, steps: [{submit: {id: j}}],"
            f" expect: {{outputs: {{a: {{j: {name}}}}}}}}}\n"
        )

    code, out, _ = invoke("one", "two")

    assert code == 0, out


@pytest.mark.processes
def test_the_demo_has_tests_and_they_pass(tmp_path):
    """Issue 4: what `init` writes is what people copy."""
    write_project(tmp_path / "demo")

    done = run(tmp_path / "demo", "test")

    assert (done.returncode, done.stderr) == (0, "3 passed\n"), done.stdout
