"""Verbs as scripts meet them: exit codes, what is on stdout, what on stderr."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.scene import START

ROOT = Path(__file__).parents[3]


def sent(project):
    """The data of everything in the intake."""

    async def read(scene):
        topic = scene.naming.intake
        return [
            json.loads(record.value)
            async for record in scene.client.tail([topic], "beginning", follow=False)
        ]

    return project(read)


@pytest.fixture
def gated(project):
    """One job at the gate, one failed."""

    async def write(scene):
        await scene.waiting_at_gate("doc-1")
        await scene.failed("bad-1")
        await scene.dead_letter("bad-1")

    project(write)
    return project


class TestExitCodes:
    def test_without_a_log_the_answer_is_unreachable(self, tmp_path, monkeypatch, streams):
        monkeypatch.chdir(tmp_path)

        done = streams("list")

        assert done.exit_code == 4
        assert done.stdout == ""
        assert done.stderr == (
            "error[C108]: no log here: .streams/log.db does not exist\n"
            "   = next: change into the project's folder, or start one: streams dev\n"
        )
        assert not (tmp_path / ".streams").exists()

    @pytest.mark.parametrize(
        "words",
        [
            ["get", "nope"],
            ["why", "nope"],
            ["history", "nope"],
            ["cancel", "nope"],
            ["submit", "nope"],
            ["list", "--pipeline", "nope"],
            ["tail", "nope"],
            ["pause", "demo/nope"],
            ["dlq", "show", "9-9"],
            ["submit", "demo", "--data", "nope.json"],
            ["explain", "Q999"],
        ],
    )
    def test_what_is_not_there_is_3(self, gated, streams, words):
        done = streams(*words)

        assert (done.exit_code, done.stdout) == (3, "")
        assert done.stderr.splitlines()[-2].startswith("error[")

    @pytest.mark.parametrize(
        "words",
        [
            ["list", "--status", "WAIT"],
            ["get"],
            ["submit", "demo", "--timeout", "3s"],
            ["submit", "demo", "--deadline", "soon", "--id", "x"],
            ["submit", "demo", "--jobs", "x.jsonl", "--id", "x"],
            ["submit", "demo", "--id", "a b"],
            ["gate", "release", "review"],
            ["gate", "release", "review", "doc-1", "--all"],
            ["fact", "set", "doc-1"],
            ["fact", "set", "a=1"],
            ["tail", "demo", "--from", "yesterday"],
            ["nonsense"],
        ],
    )
    def test_a_wrong_command_is_2_and_sends_nothing(self, gated, streams, words):
        assert streams(*words).exit_code == 2
        assert sent(gated) == []

    @pytest.mark.parametrize(
        "words", [["cancel", "bad-1"], ["retry", "doc-1"], ["gate", "release", "review", "bad-1"]]
    )
    def test_what_a_jobs_state_does_not_allow_is_1_and_sends_nothing(self, gated, streams, words):
        done = streams(*words)

        assert done.exit_code == 1
        assert "nothing sent" in done.stderr
        assert sent(gated) == []


class TestForms:
    def test_json_is_an_array_of_jobs_with_the_promised_keys(self, gated, streams):
        """cli.md: what job objects always carry."""
        done = streams("list", "-o", "json")

        jobs = json.loads(done.stdout)
        assert [job["id"] for job in jobs] == ["doc-1", "bad-1"]
        promised = {"id", "pipeline", "status", "current_stage", "attempts", "stages"}
        assert promised | {"metadata", "facts", "waiting_for"} <= jobs[0].keys()
        assert jobs[0]["waiting_for"].keys() >= {"stage", "kind", "gate", "since", "deadline"}
        assert jobs[1]["waiting_for"] is None

    def test_an_empty_list_is_an_empty_array_and_the_word_goes_to_stderr(self, project, streams):
        async def nothing(scene):
            pass

        project(nothing)

        assert streams("list", "-o", "json").stdout == "[]\n"
        assert (streams("list").stdout, streams("list").stderr) == ("", "no jobs\n")

    def test_names_are_one_a_line(self, gated, streams):
        assert streams("list", "-o", "name").stdout == "doc-1\nbad-1\n"

    def test_yaml_reads_back_as_the_json(self, gated, streams):
        from ruamel.yaml import YAML

        as_yaml = YAML(typ="safe").load(streams("get", "bad-1", "-o", "yaml").stdout)

        assert as_yaml["id"] == "bad-1"
        assert as_yaml["error"]["message"] == "KeyError: 'text'"
        assert list(as_yaml)[:3] == ["id", "pipeline", "status"]

    def test_count_is_one_integer(self, gated, streams):
        assert streams("list", "--status", "waiting", "--count").stdout == "1\n"

    def test_the_table_says_what_each_job_is_about(self, gated, streams):
        lines = streams("list").stdout.splitlines()

        assert lines[0].split() == ["ID", "PIPELINE", "STATUS", "STAGE", "AGE", "DETAIL"]
        assert lines[1].split()[:4] == ["doc-1", "demo", "waiting", "review"]
        assert lines[1].endswith("gate review")
        assert lines[2].endswith("S001: KeyError: 'text'")

    def test_a_tree_shows_the_stages_below_one_another(self, gated, streams):
        assert streams("get", "doc-1", "--tree").stdout == (
            "doc-1 waiting\n"
            "└─ fetch  succeeded  500ms\n"
            "   └─ summarise  succeeded  500ms\n"
            "      └─ review  waiting\n"
            "         └─ publish  -\n"
        )


class TestSaying:
    def test_a_release_names_the_target_sends_the_signal_and_prints_the_job(self, gated, streams):
        done = streams("gate", "release", "review", "doc", "--reason", "fine")

        assert (done.exit_code, done.stdout) == (0, "doc-1\n")
        assert done.stderr == (
            "release doc-1 in pipeline demo of namespace default\n"
            "no worker is running: it takes effect when one starts\n"
        )
        (signal,) = sent(gated)
        assert signal.pop("by")
        assert signal == {
            "kind": "release",
            "gate": "review",
            "part": "review",
            "epoch": 1,
            "reason": "fine",
        }

    def test_release_all_takes_exactly_those_that_wait_now(self, gated, streams):
        assert streams("gate", "release", "review", "--all").stdout == "doc-1\n"
        assert len(sent(gated)) == 1

    @pytest.mark.parametrize(
        "words",
        [
            ["gate", "release", "review", "doc-1"],
            ["gate", "reject", "review", "doc-1"],
            ["cancel", "doc-1"],
            ["retry", "bad-1"],
            ["fact", "set", "doc-1", "reviewed=true"],
            ["fact", "set", "--global", "open=true"],
            ["pause", "demo"],
            ["resume", "demo/fetch"],
            ["submit", "demo", "--id", "x"],
        ],
    )
    def test_a_dry_run_says_what_it_would_do_and_sends_nothing(self, gated, streams, words):
        done = streams(*words, "--dry-run")

        assert done.exit_code == 0
        assert "would " in done.stderr
        assert sent(gated) == []

    def test_facts_keep_the_types_of_their_values(self, gated, streams):
        done = streams("fact", "set", "doc-1", "ready=true", "pages=3", "by=ann")

        assert done.stdout == 'ready=true\npages=3\nby="ann"\n'
        assert sent(gated)[0]["facts"] == {"ready": True, "pages": 3, "by": "ann"}

    def test_each_shared_fact_is_a_signal_of_its_own(self, gated, streams):
        """K3: they belong to the partitions of their names."""
        streams("fact", "set", "--global", "a=1", "b=2")

        assert [signal["facts"] for signal in sent(gated)] in (
            [{"a": 1}, {"b": 2}],
            [{"b": 2}, {"a": 1}],
        )

    def test_a_retry_from_a_stage_says_which(self, gated, streams):
        streams("retry", "bad-1", "--from", "fetch")

        (signal,) = sent(gated)
        assert (signal["kind"], signal["from"], signal["epoch"]) == ("retry", "fetch", 1)

    def test_a_pause_of_a_stage_carries_who_and_why(self, gated, streams):
        streams("pause", "demo/fetch", "--reason", "disk full")

        (signal,) = sent(gated)
        assert (signal["kind"], signal["stage"], signal["reason"]) == (
            "pause",
            "fetch",
            "disk full",
        )


class TestSubmitting:
    def test_params_are_typed_and_the_id_is_printed(self, gated, streams):
        done = streams("submit", "demo", "--id", "new", "--param", "n=3", "--param", "t=a=b")

        assert (done.exit_code, done.stdout) == (0, "new\n")
        assert sent(gated) == [{"params": {"n": 3, "t": "a=b"}, "data": None}]

    def test_a_file_of_jobs_gives_one_id_a_line(self, gated, streams, tmp_path):
        (tmp_path / "jobs.jsonl").write_text('{"id": "a", "params": {"n": 1}}\n\n{"id": "b"}\n')

        assert streams("submit", "demo", "--jobs", "jobs.jsonl").stdout == "a\nb\n"

    def test_a_broken_line_is_named(self, gated, streams, tmp_path):
        (tmp_path / "jobs.jsonl").write_text('{"id": "a"}\n{"idd": "b"}\n')

        done = streams("submit", "demo", "--jobs", "jobs.jsonl")

        assert done.exit_code == 2
        assert "error[C109]: jobs.jsonl:2: Object contains unknown field `idd`" in done.stderr

    def test_data_comes_from_standard_input_too(self, gated, streams):
        streams("submit", "demo", "--id", "new", "--data", "-", input='{"page": 1}')

        assert sent(gated) == [{"data": {"page": 1}}]

    def test_broken_json_is_refused(self, gated, streams):
        done = streams("submit", "demo", "--data", "-", input="{")

        assert (done.exit_code, done.stderr.splitlines()[-1].startswith("error[C110]")) == (2, True)

    def test_a_binary_file_travels_by_reference(self, gated, streams, tmp_path):
        (tmp_path / "paper.pdf").write_bytes(b"%PDF")

        streams("submit", "demo", "--id", "new", "--data", "paper.pdf")

        assert sent(gated)[0]["data"]["$blob"]["type"] == "application/pdf"

    def test_a_cloudevent_is_submitted_as_it_is(self, gated, streams, tmp_path):
        event = {"specversion": "1.0", "id": "e1", "source": "/shop", "type": "t", "data": {"n": 1}}
        (tmp_path / "event.json").write_text(json.dumps(event))

        streams("submit", "demo", "--data", "event.json")

        assert sent(gated) == [{"n": 1}]

    def test_json_output_is_an_array_of_ids(self, gated, streams):
        done = streams("submit", "demo", "--id", "new", "-o", "json")

        assert json.loads(done.stdout) == [{"id": "new", "pipeline": "demo"}]

    def test_a_watch_of_a_failed_job_is_1_with_stage_and_error_on_the_last_line(
        self, gated, streams
    ):
        done = streams("submit", "demo", "--id", "bad-1", "--watch")

        assert (done.exit_code, done.stdout) == (1, "bad-1\n")
        assert done.stderr.splitlines()[-1] == (
            "bad-1 failed in stage summarise: S001: KeyError: 'text'"
        )

    def test_a_watch_that_is_still_open_at_the_time_out_is_7(self, gated, streams):
        done = streams("submit", "demo", "--id", "doc-1", "--watch", "--timeout", "300ms")

        assert done.exit_code == 7
        assert done.stderr.splitlines()[-1] == (
            "doc-1 is still waiting at review: streams why doc-1"
        )


class TestDeadLetters:
    def test_redrive_is_a_dry_run_without_yes(self, gated, streams):
        done = streams("dlq", "redrive")

        assert (done.exit_code, done.stdout) == (0, "0-0  bad-1\n")
        assert "nothing was changed" in done.stderr
        assert sent(gated) == []

    def test_redrive_with_yes_retries_the_job(self, gated, streams):
        streams("dlq", "redrive", "--yes")

        assert [signal["kind"] for signal in sent(gated)] == ["retry"]

    def test_a_cause_that_no_letter_has_takes_none(self, gated, streams):
        assert streams("dlq", "redrive", "--cause", "other", "--yes").stdout == ""
        assert sent(gated) == []

    def test_show_gives_cause_and_original_bytes(self, gated, streams):
        letter = json.loads(streams("dlq", "show", "0-0", "-o", "json").stdout)

        assert (letter["reason"], letter["value"]) == ("stage-failed", "\x00raw")
        assert {"name": "x-own", "value": "kept"} in letter["headers"]


class TestEvents:
    def test_events_go_in_and_come_out_decoded(self, gated, streams):
        event = {"specversion": "1.0", "id": "e1", "source": "/a", "type": "t", "data": [1]}
        done = streams("publish", "default.demo.intake", input=json.dumps(event))

        assert (done.exit_code, done.stdout) == (0, "e1\n")
        out = streams("tail", "demo", "--from", "beginning", "--no-follow", "-o", "json").stdout
        shown = [json.loads(line) for line in out.splitlines()]
        mine = [record["event"] for record in shown if record["topic"].endswith(".intake")]
        assert [(each["id"], each["data"]) for each in mine] == [("e1", [1])]

    def test_one_bad_event_keeps_all_back(self, gated, streams):
        good = {"specversion": "1.0", "id": "e1", "source": "/a", "type": "t"}
        lines = json.dumps(good) + "\n" + json.dumps({**good, "id": ""})

        done = streams("publish", "default.demo.intake", input=lines)

        assert done.exit_code == 2
        assert "line 2: " in done.stderr
        assert sent(gated) == []


class TestAboutItself:
    def test_every_code_can_be_explained(self, streams):
        assert streams("explain", "c105").stdout.startswith("C105\n\n**No such job.**")

    def test_doctor_names_what_is_wrong_and_the_next_step(self, gated, streams):
        done = streams("doctor")

        assert done.exit_code == 0
        assert "no worker is running" in done.stdout
        assert "1 open dead letter" in done.stdout
        assert "   = pipeline demo: streams dlq list" in done.stderr

    def test_settings_are_shown_with_their_origin(self, gated, streams, monkeypatch):
        monkeypatch.setenv("STREAMS_NAMESPACE", "acme")

        shown = json.loads(streams("config", "show", "--origin", "-o", "json").stdout)

        assert {"key": "namespace", "value": "acme", "origin": "env STREAMS_NAMESPACE"} in shown

    def test_help_comes_without_loading_what_runs_pipelines(self):
        """`streams --help` in half a second: modules are counted, a busy machine must not fail it."""
        code = (
            "import sys, streams.cli.main; "
            "print([m for m in ('pydantic', 'sqlite3', 'cel', 'ruamel.yaml', 'rich', "
            "'watchfiles', 'structlog') if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "[]\n"

    def test_a_fault_of_the_program_shows_no_trace_without_debug(self, gated, streams):
        (Path(".streams") / "log.db").write_bytes(b"not a database, " * 100)

        done = streams("list")

        assert done.exit_code == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("error[")


def test_history_is_in_order_and_tells_the_error(gated, streams):
    told = json.loads(streams("history", "bad-1", "-o", "json").stdout)

    assert (told[0]["status"], told[0]["at"]) == ("submitted", START)
    assert (told[-1]["stage"], told[-1]["detail"]) == ("job", "KeyError: 'text'")


def test_gate_list_counts_who_waits(gated, streams):
    (gate,) = json.loads(streams("gate", "list", "-o", "json").stdout)

    assert (gate["gate"], gate["pipeline"], gate["waiting"], gate["jobs"]) == (
        "review",
        "demo",
        1,
        ["doc-1"],
    )
    assert gate["next_deadline"] - gate["oldest_since"] == 3 * 24 * 3_600_000
