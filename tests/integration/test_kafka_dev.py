"""`streams dev` on a real Kafka: the same lines as on the embedded log, and its own ways out."""

import uuid

import pytest

from streams.broker.devbroker.broker import running_broker
from tests.unit.cli.processes import Process, run

pytestmark = pytest.mark.processes


@pytest.fixture
def demo(tmp_path):
    """What `init` wrote, in a namespace of its own: the broker is shared."""
    assert run(tmp_path, "init", "demo").returncode == 0
    folder = tmp_path / "demo"
    with (folder / "streams.yaml").open("a") as file:
        file.write(f"\nnamespace: dev-{uuid.uuid4().hex[:8]}\n")
    return folder


def test_samples_a_gate_another_process_and_an_edit(demo, kafka):
    """Issue 3's example on a cluster: nothing of what `dev` shows depends on the file."""
    with Process(demo, "dev", "--kafka", kafka) as dev:
        dev.until("kept on the Kafka cluster")
        dev.until("submitted 3 jobs from jobs.jsonl")
        dev.until("gate review: 1 waiting", "doc-2")
        released = run(demo, "gate", "release", "review", "doc-2", "--kafka", kafka)
        assert released.returncode == 0
        dev.until("doc-2", "publish", "succeeded")
        stages = demo / "demo_stages.py"
        stages.write_text(stages.read_text().replace("{title}:", "{title} —"))
        dev.until("demo_stages.py changed: reloaded")
        text = "text=One two three four five six seven eight nine."
        order = ["--param", "title=T", "--param", text, "--watch", "--kafka", kafka]
        assert run(demo, "submit", "demo", *order).returncode == 0
        assert dev.stop() == 0
    assert run(demo, "list", "--count", "--kafka", kafka).stdout == "4\n"


def test_fresh_forgets_topics_and_groups_but_not_under_a_running_worker(demo, kafka):
    """C113: whoever still writes would lose what it does. `dev` itself leaves no seat behind that
    would count as alive."""
    with Process(demo, "dev", "--kafka", kafka) as dev:
        dev.until("gate review: 1 waiting")
        refused = run(demo, "dev", "--fresh", "--kafka", kafka)
        assert (refused.returncode, "error[C113]" in refused.stderr) == (2, True)
        assert dev.stop() == 0
    with Process(demo, "dev", "--fresh", "--kafka", kafka) as dev:
        dev.until("forgot everything of")
        dev.until("submitted 3 jobs")
        assert dev.stop() == 0


def test_fresh_deletes_nothing_on_other_peoples_clusters(demo):
    """C122: topics of a shared cluster are not a developer's to delete by a flag."""
    refused = run(demo, "dev", "--fresh", "--kafka", "kafka.example.com:9092")
    assert (refused.returncode, "error[C122]" in refused.stderr) == (2, True)


def test_a_breakpoint_in_a_stage_works(demo, kafka):
    """`--debug`: no time limits, also none by which the group would take the worker for dead."""
    stages = demo / "demo_stages.py"
    stages.write_text(
        stages.read_text().replace("    title = ctx", "    breakpoint()\n    title = ctx")
    )
    (demo / "jobs.jsonl").write_text((demo / "jobs.jsonl").read_text().splitlines()[0] + "\n")
    with Process(demo, "dev", "--debug", "--kafka", kafka) as dev:
        dev.until("demo_stages.py", "publish()")
        dev.type("p 40 + 2", "c")
        dev.until("(Pdb) 42")
        dev.until("doc-1", "job", "succeeded")
        assert dev.stop() == 0


def test_local_finds_the_broker_of_the_folder(demo, can_run_kafka):
    """One command for a developer who has no cluster; the broker goes on after `dev`."""
    with running_broker(demo / ".streams" / "kafka") as bootstrap:
        with Process(demo, "dev", "--kafka", "local") as dev:
            dev.until(f"Kafka serves at {bootstrap}", "streams broker stop")
            dev.until("gate review: 1 waiting")
            assert dev.stop() == 0
        assert run(demo, "list", "--count", "--kafka", bootstrap).stdout == "3\n"
