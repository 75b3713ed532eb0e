"""`*.test.yaml`: read strictly, checked against the topology, run step by step."""

import json
from pathlib import Path

import pytest

from streams.app import App
from streams.errors import NotFoundError
from streams.testing.yaml_tests import (
    TestFileError,
    find_test_files,
    read_test_file,
)
from streams.testing.yaml_tests_files import is_ours
from streams.testing.yaml_tests_model import schema_text
from streams.testing.yaml_tests_report import as_object, report
from streams.testing.yaml_tests_run import matches, run_file
from streams.topology.findings import TopologyError

ROOT = Path(__file__).parents[3]
TOPOLOGY = """\
pipeline: letters
version: 1
gates:
  review: {after: draft, until: facts.approved == true, timeout: 3d, on_timeout: fail}
stages:
  - {name: draft, type: draft}
  - {name: send, type: send, depends_on: [draft], policy: default}
"""
HEAD = """\
topology: letters.yaml
given:
  stages:
    draft: {returns: {text: Dear all}}
    send: {returns: {sent: [1, 2]}}
"""


@pytest.fixture
def written(tmp_path):
    """Writes a test file beside its topology; `tests` is the text below `tests:`."""
    (tmp_path / "letters.yaml").write_text(TOPOLOGY)

    def write(tests, head=HEAD):
        path = tmp_path / "letters.test.yaml"
        path.write_text(f"{head}tests:\n{tests}")
        return path

    return write


@pytest.fixture
def ran(written):
    """Results of the tests in the text."""
    return lambda tests, head=HEAD: list(run_file(read_test_file(written(tests, head))))


@pytest.fixture
def faults(written):
    """(code, line, column, message, hint) of every finding in a file that is refused."""

    def read(tests, head=HEAD):
        with pytest.raises(TestFileError) as refused:
            read_test_file(written(tests, head))
        return [(f.code, f.line, f.column, f.message, f.hint) for f in refused.value.findings]

    return read


def test_every_step_and_every_expectation(ran):
    """The whole language once."""
    [result] = ran("""\
  - name: everything
    given:
      facts: {season: winter}
    steps:
      - submit: {id: a, params: {n: 1}, data: {x: 1}}
      - submit: {id: b}
      - submit: {id: c}
      - send: {specversion: "1.0", id: e, source: /s, type: any, job: d, data: {}}
      - expect:
          held: {review: [a, b, c, d]}
          jobs: {a: waiting, b: {status: waiting, at: review, facts: {}}}
          done: []
      - advance: 71h
      - crash_before_commit: {stage: send}
      - release: {job: a, gate: review, reason: seen}
      - reject: {job: b, gate: review, reason: thin}
      - cancel: {job: c, reason: wrong}
      - expect:
          jobs:
            a: succeeded
            b: {status: failed, error: "rejected by the test: thin"}
            c: {status: cancelled, reason: wrong}
      - pause: {stage: send}
      - fact: {job: d, set: {approved: true}}
      - expect: {jobs: {d: {stages: {send: queued}}}}
      - fail_next: {stage: send, error: boom, times: 3, retriable: true}
      - resume: {stage: send}
      - advance: 1m
      - expect:
          dlq:
            - {job: b, stage: review, state: open}
            - {job: d, stage: send, reason: S001, error: boom}
      - redrive: {job: d}
      - retry: {job: c, from: send}
      - crash_before_commit:
      - fact: {set: {approved: true}}
    expect:
      jobs:
        d:
          status: succeeded
          stages: {draft: succeeded, send: {status: succeeded, outputs: {sent: [1, 2]}}}
      outputs: {draft: {a: {text: Dear all}}, send: {d: {sent: [1, 2]}}}
      done: [a, b, c, d]
""")

    assert result.unmet == ()
    assert (result.passed, result.line, result.name) == (True, 7, "everything")


def test_each_test_begins_with_an_empty_log(ran):
    first = "  - {name: one, steps: [{submit: {id: a}}], expect: {held: {review: [a]}}}\n"
    second = "  - {name: two, expect: {held: {review: []}, done: [], dlq: []}}\n"

    assert [result.passed for result in ran(first + second)] == [True, True]


def test_stand_ins_of_a_test_go_before_those_of_the_file(ran):
    [result] = ran("""\
  - name: own stand-ins
    given: {stages: {draft: {skips: nothing to write}, send: {raises: no paper, retriable: false}}}
    steps: [{fact: {set: {approved: true}}}, {submit: {id: a}}]
    expect:
      jobs: {a: {status: failed, stages: {draft: skipped, send: {status: failed, error: no paper}}}}
""")

    assert result.unmet == ()


def test_what_does_not_hold_is_told_with_its_place_and_why_the_job_stands_there(ran):
    [result] = ran("""\
  - name: not yet
    steps: [{submit: {id: a}}]
    expect:
      jobs: {a: succeeded, b: failed}
      outputs: {send: {a: 1}}
""")

    assert [each.what for each in result.unmet] == ["status of a", "job b", "output of send of a"]
    assert (
        report(result)
        == f"""\
error[U110]: status of a: expected succeeded, got waiting
  --> {result.file}:10:17
   | 10 |       jobs: {{a: succeeded, b: failed}}
   |                      ^
   = a waits at gate review until facts.approved == true (`facts.approved` is missing); in 3d, \
then the job fails
error[U110]: job b: expected a job, got no job `b`
  --> {result.file}:10:31
   | 10 |       jobs: {{a: succeeded, b: failed}}
   |                                    ^
error[U110]: output of send of a: expected 1, got nothing
  --> {result.file}:11:27
   | 11 |       outputs: {{send: {{a: 1}}}}
   |                                ^
   = a waits at gate review until facts.approved == true (`facts.approved` is missing); in 3d, \
then the job fails"""
    )
    assert json.loads(json.dumps(as_object(result)))["failures"][0]["job"] == "a"


def test_a_step_that_cannot_be_done_ends_the_test_and_says_why(ran):
    tests = "  - {name: x, steps: [{submit: {id: a b}}], expect: {done: [never looked at]}}\n"

    [result] = ran(tests)

    [unmet] = result.unmet
    assert (unmet.what, unmet.got) == ("step `submit`", "`a b` cannot be a job id (C102)")


def test_a_failure_that_never_came_fails_the_test(ran):
    """A test that passes without it would show nothing."""
    tests = (
        "  - {name: x, steps: [{fail_next: {stage: send, times: 2}}, {crash_before_commit: }]}\n"
    )

    [result] = ran(tests)

    [unmet] = result.unmet
    assert unmet.got == "not yet: fail_next(send ×2), crash_before_commit()"


def test_a_pattern_of_topologies_leaves_their_tests_out(written, tmp_path):
    """`App.from_files("topologies/*.yaml")` means the pipelines."""
    written("  - {name: x}\n")
    (tmp_path / "letters.yaml").write_text("pipeline: p\nversion: 1\nstages: [{name: a, echo: x}]")

    assert [t.plan.pipeline for t in App.from_files(tmp_path / "*.yaml").topologies] == ["p"]


def test_of_a_mapping_only_the_named_keys_are_compared_anything_else_exactly():
    assert matches({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3})
    assert matches([{"a": 1}], [{"a": 1, "b": 2}])
    assert matches(1, 1.0)
    for wanted, got in (({"a": 1}, {}), ([1], [1, 2]), (True, 1), (1, True), ("1", 1), (None, 0)):
        assert not matches(wanted, got), (wanted, got)


@pytest.mark.parametrize(
    ("tests", "code", "place", "message", "hint"),
    [
        (
            "  - {name: x, stepz: []}",
            "U102", (7, 15), "unknown key `stepz` in test `x`", "did you mean `steps`?",
        ),
        (
            "  - {name: x, steps: [{submitt: {id: a}}]}",
            "U102", (7, 24), "unknown key `submitt` in test `x`", "did you mean `submit`?",
        ),
        (
            "  - {name: x, steps: [{submit: {id: a, parms: {}}}]}",
            "U102", (7, 40), "unknown key `parms` in test `x`", "did you mean `params`?",
        ),
        (
            "  - {name: x, expect: {jobs: {a: waitin}}}",
            "U103", (7, 34), "`a`: `waitin` is none of these", "did you mean `waiting`?",
        ),
        (
            "  - {name: x, expect: {jobs: {a: {stages: {draft: {sttus: failed}}}}}}",
            "U102", (7, 52), "unknown key `sttus` in test `x`", "did you mean `status`?",
        ),
        (
            "  - {name: x, steps: [{advance: 1d, pause: {}}]}",
            "U104", (7, 23),
            "a step has exactly one of its keys; this one has `advance` and `pause`", "one of: ",
        ),
        (
            "  - {name: x, given: {stages: {draft: {}}}}",
            "U104", (7, 32), "a stand-in has exactly one of its keys; this one has none",
            "one of: returns, raises, skips",
        ),
        ("  - {name: x, steps: [{submit: }]}", "U103", (7, 23), "`submit` has no value", ""),
        (
            "  - {name: x, steps: [{advance: 3 weeks}]}",
            "T116", (7, 33), "`3 weeks` is not a duration", "write a number with a unit",
        ),
        (
            "  - {name: x, steps: [{submit: {id: a, id: b}}]}",
            "T102", (7, 40), "duplicate key `id`", "first at line 7",
        ),
        ("  - {steps: []}", "U103", (7, 5), "`name` is missing", ""),
        (
            "  - {name: x, steps: [{pause: {stage: sned}}]}",
            "U105", (7, 39), "no stage `sned` in the topology", "did you mean `send`?",
        ),
        (
            "  - {name: x, expect: {held: {revue: []}}}",
            "U105", (7, 31), "no stage or gate `revue` in the topology", "did you mean `review`?",
        ),
        (
            "  - {name: x, given: {stages: {drft: {returns: 1}}}}",
            "U105", (7, 32), "no stage of the topology has the type `drft`",
            "did you mean `draft`?",
        ),
    ],
)  # fmt: skip
def test_a_fault_has_its_place_its_code_and_the_nearest_word(
    faults, tests, code, place, message, hint
):
    """Nothing runs: a check with a misspelt key would be a check that is never made."""
    [(found, line, column, told, help)] = faults(tests)

    assert (found, (line, column), told) == (code, place, message)
    assert help.startswith(hint)


def test_all_faults_are_told_at_once(faults):
    tests = "  - {name: x, stepz: []}\n  - {name: y, expect: {don: []}}\n"

    assert [code for code, *_ in faults(tests)] == ["U102", "U102"]


def test_a_file_without_a_topology_or_with_a_missing_one_is_refused(faults):
    assert faults("  - {name: x}", head="")[0][:4] == ("U101", 1, 1, "`topology` is missing")
    [(code, line, _, message, hint)] = faults("  - {name: x}", head="topology: leters.yaml\n")
    assert (code, line) == ("U106", 1)
    assert message == "there is no leters.yaml beside this file"
    assert hint == "did you mean `letters.yaml`?"


@pytest.mark.parametrize(
    "text", ["", "- a\n", "just text\n", "tests: [\n", "topology: 1\ntests: 2"]
)
def test_what_is_no_test_file_is_refused_with_a_finding(tmp_path, text):
    path = tmp_path / "x.test.yaml"
    path.write_text(text)

    with pytest.raises(TestFileError) as refused:
        read_test_file(path)
    assert {finding.code for finding in refused.value.findings} <= {"U101", "U103", "T101", "T108"}


def test_a_topology_with_faults_is_told_as_such(written, tmp_path):
    path = written("  - {name: x}\n")
    (tmp_path / "letters.yaml").write_text("stagez: []\n")

    with pytest.raises(TopologyError) as refused:
        read_test_file(path)
    assert refused.value.findings[0].file.endswith("letters.yaml")


def test_only_our_own_files_are_found(written, tmp_path):
    """Other tools have files of that name too; hidden folders and environments are left alone."""
    ours = written("  - {name: x}\n")
    (tmp_path / "rule.test.yaml").write_text("rules: []\n")
    for name in (".hidden", "node_modules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.test.yaml").write_text(ours.read_text())

    assert find_test_files([tmp_path]) == [ours]
    assert not is_ours(tmp_path / "rule.test.yaml")
    with pytest.raises(NotFoundError) as missing:
        find_test_files([tmp_path / "nowhere"])
    assert missing.value.code == "U107"


def test_the_schema_for_editors_is_the_committed_one():
    """Regenerate: python -c "from streams.testing.yaml_tests_files import is_ours
    from streams.testing.yaml_tests_model import schema_text; …"."""
    assert (ROOT / "schemas" / "topology-tests.json").read_text("utf-8") == schema_text()
