"""`streams broker` with the real Kafka: what it promises to somebody's shell and scripts."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker.devbroker.broker import find_broker, start_broker, stop_broker

ROOT = Path(__file__).parents[2]
LIMIT = 60.0


def streams(folder, *words):
    """The command as a shell has it; stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli.main", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def started(folder, **asked):
    """A broker that writes no archive of classes at its end: the test would wait for it."""
    return start_broker(folder, **{"port": 0, "record_archive": False, **asked})


def kill(node):
    os.kill(node.pid, signal.SIGKILL)
    os.waitpid(node.pid, 0)


def create(bootstrap, topic, copies=1):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, copies)])[topic].result(LIMIT)


def commit(bootstrap, topic, *values, open_too=()):
    """One transaction with these values, and one with others that is never committed."""
    settings = {"bootstrap.servers": bootstrap, "transactional.id": f"{topic}-{values}"}
    producer = Producer(settings)
    producer.init_transactions(LIMIT)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value)
    producer.commit_transaction(LIMIT)
    if open_too:
        producer.begin_transaction()
        for value in open_too:
            producer.produce(topic, value)
        producer.flush(LIMIT)
        producer.abort_transaction(LIMIT)


def write(bootstrap, topic, value):
    """It is on every copy of the topic that is in sync."""
    refused = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, value, on_delivery=lambda error, _: error and refused.append(error))
    assert (producer.flush(LIMIT), refused) == (0, [])


def committed(bootstrap, topic, at_least=0):
    """Every value in it that was committed, as far as the first end of it behind `at_least`.

    A node that has just taken over a partition learns only by and by how much of it is committed.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "none",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        values, ended = [], False
        while not ended or len(values) < at_least:
            message = consumer.poll(LIMIT)
            assert message is not None, f"{LIMIT} s without a record or an end; so far {values}"
            ended = message.error() is not None
            if not ended:
                values.append(message.value())
        return values
    finally:
        consumer.close()


def test_the_suite_s_broker_serves_transactions(kafka):
    """What everything on it is built on: committed values are there, aborted ones are not."""
    create(kafka, "transactions")

    commit(kafka, "transactions", b"one", b"two", open_too=[b"never"])

    assert committed(kafka, "transactions") == [b"one", b"two"]


def test_from_the_shell_it_starts_once_and_keeps_its_data(can_run_kafka, tmp_path):
    """start prints the address alone; start again is no error; stop waits; the data stay."""
    try:
        first, _ = streams(tmp_path, "broker", "start", "--port", "0")
        bootstrap = first.strip()
        create(bootstrap, "kept")
        write(bootstrap, "kept", b"value")

        again, talk = streams(tmp_path, "broker", "start", "--port", "0")
        assert (again, talk) == (first, "it runs already\n")
        told, _ = streams(tmp_path, "broker", "status", "-o", "json")
        assert json.loads(told)["state"] == "running"

        _, talk = streams(tmp_path, "broker", "stop")
        assert "its data stay" in talk
        assert find_broker(tmp_path / ".streams" / "kafka") is None

        second, _ = streams(tmp_path, "broker", "start", "--port", "0")
        assert committed(second.strip(), "kept") == [b"value"]
    finally:
        streams(tmp_path, "broker", "stop")


def test_after_kill_9_what_was_committed_is_there(can_run_kafka, tmp_path):
    """A killed broker is found dead, started again, and is the same cluster."""
    try:
        # It is let in again when its old self is given up; the test need not wait for 4 s of that.
        before = started(tmp_path, properties={"broker.session.timeout.ms": "1500"})
        create(before.bootstrap, "kept")
        write(before.bootstrap, "kept", b"value")
        kill(before.nodes[0])

        after = started(tmp_path)

        assert after.cluster_id == before.cluster_id
        assert committed(after.bootstrap, "kept") == [b"value"]
    finally:
        stop_broker(tmp_path)


@pytest.mark.slow
def test_a_node_of_three_that_was_killed_is_taken_back(can_run_kafka, tmp_path):
    """What the tests that kill one stand on: the others serve on, and what it held is there."""
    try:
        before = started(tmp_path, size=3, properties={"broker.session.timeout.ms": "1500"})
        create(before.bootstrap, "copied", copies=3)
        write(before.bootstrap, "copied", b"value")
        kill(before.nodes[0])
        assert committed(find_broker(tmp_path).bootstrap, "copied", at_least=1) == [b"value"]

        after = started(tmp_path, port=None)

        assert after.bootstrap == before.bootstrap
        assert committed(after.nodes[0].address, "copied", at_least=1) == [b"value"]
    finally:
        stop_broker(tmp_path)


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_a_machine_that_cannot_run_kafka_skips_and_in_ci_fails(tmp_path, ci, outcome):
    """Green must not come from tests that did not run; here the jars are not those released."""
    (tmp_path / "interlock-streams" / "kafka-4.1.1").mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if k not in {"CI", "STREAMS_TEST_KAFKA"}}
    test = f"{__file__}::{test_the_suite_s_broker_serves_transactions.__name__}"

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", test],
        cwd=ROOT,
        env={**environment, "CI": ci, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert outcome in done.stdout
    assert "no Kafka to test with: error[N0" in done.stdout
    assert done.returncode == (1 if ci else 0)
