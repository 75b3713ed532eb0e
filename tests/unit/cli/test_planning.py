"""`plan` and `apply` on the embedded log: the same verbs as on a cluster."""

import json

import pytest

from streams.cli.planning import require_meant
from streams.errors import UserError
from streams.settings import Settings

TOPOLOGY = """\
pipeline: demo
stages:
  - {name: hello, echo: "hello"}
  - {name: review, type: gate, config: {until: facts.ok}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a topology, and no log yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.yaml").write_text(TOPOLOGY)
    return tmp_path


def test_a_plan_of_an_empty_folder_shows_everything_and_makes_nothing(folder, streams):
    """Looking leaves no trace."""
    done = streams("plan", "demo.yaml", "-o", "json")

    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert not (folder / ".streams").exists()
    assert told["target"] == "the embedded log .streams/log.db"
    assert [change["subject"] for change in told["changes"]][:2] == [
        "default.demo.intake",
        "default.demo.hold",
    ]
    assert [change["kind"] for change in told["changes"]][-3:] == [
        "set-layout",
        "add-plan",
        "activate-plan",
    ]
    assert told["pipelines"] == [
        {
            "pipeline": "demo",
            "version": "1",
            "digest": told["changes"][-1]["subject"],
            "active": None,
            "partitions": 4,
        }
    ]
    assert told["partitions"] == 5 * 4 + 1
    assert told["consumer_groups"] == ["default.demo.keeper"]
    assert told["transactional_ids"][0] == {"name": "default.demo.keeper.", "pattern": "prefixed"}
    assert told["acls"][0] == {
        "role": "worker",
        "resource": "topic",
        "name": "default.demo.intake",
        "operations": ["read", "describe_configs"],
        "pattern": "literal",
    }


def test_apply_does_what_the_plan_said_and_then_nothing_is_left(folder, streams):
    """--detailed-exitcode: 2 where there are changes, 0 where there are none."""
    assert streams("plan", "demo.yaml", "--detailed-exitcode").exit_code == 2
    first = streams("apply", "demo.yaml", "--detailed-exitcode")
    second = streams("apply", "demo.yaml", "--detailed-exitcode")

    assert (first.exit_code, second.exit_code) == (2, 0)
    assert first.stderr.startswith("apply to the embedded log .streams/log.db\n")
    assert "create-topic   default.demo.hold     4 partitions, delete" in first.stdout
    assert second.stdout == ""
    assert second.stderr.endswith("nothing to change\n")
    assert streams("plan", "demo.yaml", "--detailed-exitcode").exit_code == 0


def test_a_new_version_says_what_becomes_of_the_jobs_under_way(folder, streams):
    """A job ends on the plan it began with."""
    streams("apply", "demo.yaml")
    (folder / "demo.yaml").write_text("version: 2\n" + TOPOLOGY.replace('"hello"', '"bye"'))

    told = json.loads(streams("plan", "demo.yaml", "-o", "json").stdout)

    assert [(change["kind"], change["detail"]) for change in told["changes"]] == [
        ("add-plan", "version 2"),
        (
            "activate-plan",
            "new jobs begin with version 2; those under way end with version 1",
        ),
    ]


def test_a_dry_run_of_apply_is_the_plan(folder, streams):
    """Every mutating verb has one."""
    done = streams("apply", "demo.yaml", "--dry-run")

    assert done.exit_code == 0
    assert done.stderr.startswith("would apply to the embedded log")
    assert not (folder / ".streams").exists()


def test_a_layout_stays_as_it_was_applied_first(folder, streams, monkeypatch):
    """The number of partitions of an existing pipeline wins over the setting."""
    streams("apply", "demo.yaml")
    monkeypatch.setenv("STREAMS_PARTITIONS", "8")

    told = json.loads(streams("plan", "demo.yaml", "-o", "json").stdout)

    assert told["changes"] == []
    assert told["pipelines"][0]["partitions"] == 4


@pytest.mark.parametrize(
    ("bootstrap", "sure"), [("", False), ("127.0.0.1:9092", False), ("kafka.example:9092", True)]
)
def test_nobody_is_asked_about_this_machine_or_after_a_yes(bootstrap, sure):
    """A trial is one command."""
    require_meant(Settings.load({"kafka.bootstrap": bootstrap or None}), sure=sure)


def test_another_machine_is_never_changed_by_accident(monkeypatch):
    """A script with the wrong settings would change the wrong cluster."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(UserError) as refused:
        require_meant(Settings.load({"kafka.bootstrap": "kafka.example:9092"}), sure=False)
    assert (refused.value.code, refused.value.help) == ("C130", "repeat with --yes")
