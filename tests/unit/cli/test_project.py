"""The example that must run: `init`, `dev`, a gate that is released, a restart, an edit."""

import json
import signal

import pytest

from streams.cli.project import topology_files, write_project
from streams.errors import NotFoundError, UserError
from tests.unit.cli.processes import Process, run

pytestmark = pytest.mark.processes


@pytest.fixture
def demo(tmp_path):
    """What `init` wrote."""
    assert run(tmp_path, "init", "demo").returncode == 0
    return tmp_path / "demo"


def test_init_writes_a_project_that_its_own_checker_accepts(tmp_path):
    done = run(tmp_path, "init", "demo")

    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "demo/pipeline.yaml"
    assert run(tmp_path / "demo", "validate", "pipeline.yaml").returncode == 0


def test_init_never_writes_into_a_folder_that_has_something(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")

    with pytest.raises(UserError) as refused:
        write_project(tmp_path)
    assert refused.value.code == "C111"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_init_writes_nothing_in_a_dry_run(tmp_path):
    assert len(write_project(tmp_path / "demo", dry_run=True)) == 7
    assert not (tmp_path / "demo").exists()


def test_the_topologies_of_a_folder_are_found_without_settings_and_tests(tmp_path):
    for name in ("b.yaml", "a.yml", "streams.yaml", "b.test.yaml", "notes.txt"):
        (tmp_path / name).touch()

    assert [path.name for path in topology_files([], tmp_path)] == ["a.yml", "b.yaml"]


def test_a_folder_without_a_topology_says_so(tmp_path):
    with pytest.raises(NotFoundError) as missing:
        topology_files([], tmp_path)
    assert missing.value.code == "C112"


def test_validate_gives_every_fault_at_once_and_2(demo):
    path = demo / "pipeline.yaml"
    path.write_text(path.read_text().replace("version: 1", "verzion: 1") + "bogus: 1\n")

    done = run(demo, "validate", "pipeline.yaml")

    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown field `verzion`" in done.stderr
    assert "unknown field `bogus`" in done.stderr


def test_graph_draws_the_plan(demo):
    picture = json.loads(run(demo, "graph", "pipeline.yaml", "--format", "json").stdout)

    assert {stage["id"] for stage in picture["stages"]} == {
        "fetch",
        "summarise",
        "review",
        "publish",
    }


def test_dev_runs_the_samples_and_says_who_waits_and_the_command_releases_it(demo):
    """Issue 3, the example that must run."""
    with Process(demo, "dev") as dev:
        line = dev.until("gate review: 1 waiting")
        assert line == "gate review: 1 waiting — streams gate release review doc-2"
        assert "waits at gate review" in run(demo, "why", "doc-2").stdout

        released = run(demo, *line.partition(" — streams ")[2].split())

        assert (released.returncode, released.stdout) == (0, "doc-2\n")
        dev.until("doc-2", "job", "succeeded")
        assert dev.stop() == 0


def test_a_restart_keeps_everything_even_after_a_kill(demo):
    """Kill -9, start again: the job waits where it waited, and the samples come only once."""
    with Process(demo, "dev") as dev:
        dev.until("gate review: 1 waiting")
        dev.process.kill()
        dev.process.wait()

    with Process(demo, "dev") as dev:
        dev.until("gate review: 1 waiting")
        assert run(demo, "fact", "set", "doc-2", "reviewed=true").returncode == 0
        dev.until("doc-2", "job", "succeeded")
        assert dev.stop() == 0
    assert run(demo, "list", "--count").stdout == "3\n"


def test_an_edit_is_taken_at_once_and_a_broken_one_leaves_the_old_version_running(demo):
    stages = demo / "demo_stages.py"
    code = stages.read_text()
    text = "text=One two three four five six seven eight nine."
    order = ["submit", "demo", "--param", "title=T", "--param", text, "--watch", "-o", "json"]

    def line_published():
        (job,) = json.loads(run(demo, *order).stdout)
        return job["stages"]["publish"]["outputs"]["line"]

    with Process(demo, "dev") as dev:
        dev.until("gate review: 1 waiting")
        stages.write_text(code.replace("{title}:", "{title} —"))
        dev.until("demo_stages.py changed: reloaded")
        assert line_published().startswith("T — One")

        stages.write_text("def (")
        dev.until("the version before keeps running")
        assert line_published().startswith("T — One")

        stages.write_text(code)
        dev.until("demo_stages.py changed: reloaded")
        assert line_published().startswith("T: One")
        assert dev.stop() == 0


def test_fresh_forgets_but_not_under_a_running_worker(demo):
    with Process(demo, "dev") as dev:
        dev.until("gate review: 1 waiting")
        refused = run(demo, "dev", "--fresh")
        assert (refused.returncode, "error[C113]" in refused.stderr) == (2, True)
        assert run(demo, "submit", "demo", "--dry-run", "--param", "title=a", "--param", "text=b")
        assert dev.stop() == 0

    with Process(demo, "dev", "--fresh") as dev:
        dev.until("forgot everything in .streams/")
        dev.until("submitted 3 jobs")
        assert dev.stop() == 0


def test_two_worker_processes_and_a_keeper_apart_do_the_same(demo):
    """What works in one process by accident must work in three."""
    with (
        Process(demo, "worker", "pipeline.yaml", "--keeper", "no", "--processes", "2") as agents,
        Process(demo, "worker", "pipeline.yaml", "--keeper", "yes") as keeper,
    ):
        agents.until("worker of demo")
        agents.until("worker of demo")
        keeper.until("worker of demo")
        done = run(demo, "submit", "demo", "--jobs", "jobs.jsonl", "--watch", "--timeout", "8s")

        assert (done.returncode, done.stdout) == (7, "doc-1\ndoc-2\ndoc-3\n")
        assert done.stderr.splitlines()[-1] == (
            "doc-2 is still waiting at review: streams why doc-2"
        )
        assert run(demo, "gate", "release", "review", "--all").stdout == "doc-2\n"
        done = run(demo, "submit", "demo", "--jobs", "jobs.jsonl", "--watch", "--timeout", "20s")
        assert done.returncode == 0
        assert (agents.stop(signal.SIGTERM), keeper.stop(signal.SIGTERM)) == (0, 0)


def test_ctrl_c_of_a_watch_leaves_the_job_running(demo):
    with Process(demo, "dev") as dev:
        dev.until("gate review: 1 waiting")
        words = ["submit", "demo", "--id", "slow", "--param", "title=a", "--param", "text=b"]
        with Process(demo, *words, "--watch") as watch:
            watch.until("gate review")
            assert watch.stop() == 130
            assert "left running: slow" in watch.until("left running")
        assert json.loads(run(demo, "get", "slow", "-o", "json").stdout)["status"] == "waiting"
        assert dev.stop() == 0


def test_a_breakpoint_in_a_stage_stops_there_and_ctrl_c_still_works_afterwards(demo):
    """Issue 3: `dev --debug` runs all in one process, without limits, stages in the main thread."""
    stages = demo / "demo_stages.py"
    stages.write_text(
        stages.read_text().replace("    title = ctx", "    breakpoint()\n    title = ctx")
    )
    (demo / "jobs.jsonl").write_text((demo / "jobs.jsonl").read_text().splitlines()[0] + "\n")

    with Process(demo, "dev", "--debug") as dev:
        dev.until("demo_stages.py", "publish()")
        dev.type("p 40 + 2", "c")
        dev.until("(Pdb) 42")
        dev.until("doc-1", "job", "succeeded")
        assert dev.stop() == 0
