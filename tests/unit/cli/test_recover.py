"""`streams recover`: what is lost, where it may go on, and setting it."""

import json
import sqlite3

import pytest

from streams.broker.port import Committed, Outgoing, TopicPartition, partition_for
from streams.engine.messages import Origin, stage_event
from streams.engine.payload import Payload
from streams.runtime.commit import written
from tests.unit.cli.scene import PARTITIONS, START

GROUP = "default.demo.pool-default"
JOBS = ("doc-1", "doc-2", "doc-3")
NUMBER = partition_for(b"doc-1", PARTITIONS)
PLACE = TopicPartition("default.demo.fetch", NUMBER)


async def an_event(scene, job):
    """`fetch` is to run for the job; all in one partition, whatever the job."""
    origin = Origin(job, job, 1, scene.plan.digest)
    event = stage_event(scene.plan, origin, "fetch", "parent", Payload(), START)
    value, headers = written(event)
    await scene.log.publish([Outgoing(PLACE.topic, job.encode(), value, headers, NUMBER)])


@pytest.fixture
def begun(project):
    """Three events of which the second one is finished; the group has begun there."""

    async def write(scene):
        jobs = [each for each in map("doc-{}".format, range(1, 50)) if at_home(each)][:3]
        for job in jobs:
            await scene.job(job)
            await an_event(scene, job)
        await scene.done(jobs[1], "fetch", "summarise")
        await scene.control(f"begun/{GROUP}/{PLACE.topic}/{NUMBER}", {"offset": 0})

    project(write)
    return project


def at_home(job):
    return partition_for(job.encode(), PARTITIONS) == NUMBER


def stand_at(project, offset, metadata="1c;0;;;"):
    project(lambda scene: scene.log.set_positions(GROUP, {PLACE: Committed(offset, metadata)}))


def position(project):
    return project(lambda scene: scene.log.positions(GROUP)).get(PLACE)


def test_a_missing_position_is_found_out_from_the_ledger(begun, streams):
    """R5; without --apply nothing is changed, and the exit code says that something is lost."""
    done = streams("recover")

    assert done.exit_code == 1
    assert done.stdout.splitlines()[1].split() == [
        GROUP, f"{PLACE.topic}/{NUMBER}", "-", "0", "3", "missing", "0", "1", "2", "-",
    ]  # fmt: skip
    assert done.stderr.startswith("would set 1 position on the embedded log .streams/log.db\n")
    assert position(begun) is None


def test_the_position_is_set_with_what_is_finished_beyond_it(begun, streams):
    """The second event is not done again."""
    done = streams("recover", "-p", "demo", "--apply")

    assert done.exit_code == 0
    assert done.stderr == "set 1 position on the embedded log .streams/log.db\n"
    assert position(begun) == Committed(0, "1c;0;;2;")
    assert streams("recover").exit_code == 0
    assert streams("recover").stderr.endswith("every group stands where it should\n")


def test_scripts_read_every_figure(begun, streams):
    (found,) = json.loads(streams("recover", "-o", "json").stdout)

    assert found == {
        "pipeline": "demo",
        "group": GROUP,
        "topic": PLACE.topic,
        "partition": NUMBER,
        "state": "missing",
        "position": None,
        "low": 0,
        "high": 3,
        "begun_at": 0,
        "members": [],
        "new_position": 0,
        "finished": 1,
        "again": 0,
        "left": 2,
        "deleted": [],
    }


def test_events_deleted_before_they_were_read_are_named(begun, streams):
    """Nothing brings them back: the operator sees which, and goes on."""
    stand_at(begun, 0, "1;0;;2;")
    begun(lambda scene: scene.log.trim({PLACE: 3}))
    (found,) = json.loads(streams("recover", "-o", "json").stdout)

    assert (found["state"], found["position"], found["new_position"]) == ("below", 0, 3)
    assert found["deleted"] == [{"first": 0, "last": 0}, {"first": 2, "last": 2}]
    assert "0, 2" in streams("recover").stdout
    assert streams("recover", "--apply").exit_code == 0
    assert position(begun) == Committed(3, "1c;0;;;")


def test_a_position_above_all_there_is_is_found_out_anew(begun, streams):
    """The log was made anew, or restored from an older copy."""
    stand_at(begun, 77)
    (found,) = json.loads(streams("recover", "-o", "json").stdout)

    assert (found["state"], found["new_position"], found["left"]) == ("above", 0, 2)


def test_whole_positions_are_shown_when_asked_for(begun, streams):
    """One line for each partition that a group reads."""
    stand_at(begun, 1)
    lines = streams("recover", "--all", "-o", "json")

    assert lines.exit_code == 0
    states = {f"{e['topic']}/{e['partition']}": e["state"] for e in json.loads(lines.stdout)}
    assert states.pop(f"{PLACE.topic}/{NUMBER}") == "fine"
    assert set(states.values()) == {"new"}
    assert len(states) == 5


def test_positions_of_a_group_with_members_are_not_set(begun, streams, tmp_path):
    """Whoever works there would go on from his own."""
    streams("list")
    file = sqlite3.connect(tmp_path / ".streams" / "log.db")
    with file:
        file.execute(
            "INSERT INTO members VALUES (?, 'w1', 1, '[]', ?, 600000)", (GROUP, now_of_machine())
        )
    file.close()
    done = streams("recover", "--apply")

    assert done.exit_code == 1
    assert "error[K027]" in done.stderr
    assert position(begun) is None
    assert f"{GROUP} has members: w1" in streams("recover").stderr


def now_of_machine():
    from streams.clock import SystemClock

    return SystemClock().now()


def test_another_machine_s_log_is_not_changed_unasked(begun, streams):
    """A script with the wrong settings would change the wrong cluster."""
    done = streams("recover", "--apply", "--kafka", "kafka.example:9092")

    assert done.exit_code == 2
    assert "error[C130]" in done.stderr
