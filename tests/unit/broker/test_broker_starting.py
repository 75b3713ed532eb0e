"""A broker's whole life, with a stand-in for the JVM: what is started, found again, stopped."""

import json
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from streams.broker.devbroker import nodes, processes, state
from streams.broker.devbroker.broker import find_broker, start_broker, stop_broker
from streams.broker.devbroker.java import find_java
from streams.broker.devbroker.launching import Tools
from streams.clock import SystemClock
from streams.errors import LogError, UserError

FAKE = Path(__file__).with_name("fake_java.py")


@pytest.fixture
def tools(tmp_path):
    """A Java that only pretends; no jar is needed."""
    launcher = tmp_path / "java" / "bin" / "java"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {FAKE} "$@"\n')
    launcher.chmod(0o755)
    cache = tmp_path / "cache"
    cache.mkdir()
    java = find_java({"JAVA_HOME": str(launcher.parent.parent)})
    return Tools(java, tmp_path / "jars", cache, dict(os.environ))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "kafka"
    yield made
    try:
        stop_broker(made)
    except UserError:
        return  # the test broke the file, and nothing was running


@pytest.fixture
def start(folder, tools):
    """Starts the folder's broker on free ports."""

    def begin(**asked):
        return start_broker(folder, **{"port": 0, "tools": tools, **asked})

    return begin


class Hurried(SystemClock):
    """Ten minutes pass behind the first look."""

    def __init__(self):
        self.seconds = [0.0]

    def monotonic(self):
        return self.seconds.pop() if self.seconds else super().monotonic() + 600


class Interrupting(SystemClock):
    """Somebody presses Ctrl-C behind the first look."""

    def __init__(self):
        self.looks = 0

    def monotonic(self):
        self.looks += 1
        if self.looks == 2:
            raise KeyboardInterrupt
        return super().monotonic()


class TestStart:
    def test_it_returns_when_the_broker_serves(self, start, folder):
        broker = start()

        with socket.create_connection(("127.0.0.1", broker.nodes[0].port), 5):
            pass
        assert broker.bootstrap == f"127.0.0.1:{broker.nodes[0].port}"
        assert (broker.size, broker.whole, broker.kafka) == (1, True, "4.1.1")
        assert find_broker(folder) == broker

    def test_a_second_start_finds_the_first(self, start):
        """Also one that asks for nothing in particular, or for any port."""
        first = start()

        assert start() == start(port=None) == start(port=first.nodes[0].port, size=1) == first

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ({"size": 3}, "one of 3 nodes"),
            ({"port": 1}, "one on port 1"),
            ({"fresh": True}, "an empty one"),
        ],
    )
    def test_what_runs_is_not_changed_under_its_users(self, start, asked, words):
        """N008: nothing is restarted, and no data deleted, behind somebody's back."""
        first = start()

        with pytest.raises(UserError) as refused:
            start(**asked)

        assert refused.value.code == "N008"
        assert refused.value.message == (
            f"a broker runs here at {first.bootstrap}; {words} cannot be had before it is stopped"
        )
        assert start() == first

    def test_of_two_starts_at_once_one_starts_and_the_other_finds(self, start):
        """Two terminals, one folder."""
        with ThreadPoolExecutor(2) as both:
            first, second = both.map(lambda _: start(), range(2))

        assert first == second

    def test_one_that_runs_and_does_not_serve_is_waited_for(self, start, folder):
        """Whoever began its start may have been killed before it was over."""
        broker = start()
        os.kill(broker.nodes[0].pid, signal.SIGSTOP)
        with pytest.raises(LogError) as failed:
            start(clock=Hurried())
        assert failed.value.code == "N007"

        os.kill(broker.nodes[0].pid, signal.SIGCONT)

        assert start() == broker

    def test_three_nodes_are_one_broker(self, start, folder):
        broker = start(size=3)

        assert [node.id for node in broker.nodes] == [1, 2, 3]
        assert len(broker.bootstrap.split(",")) == 3

        assert stop_broker(folder) == broker
        assert find_broker(folder) is None

    def test_a_node_that_died_is_started_where_it_was(self, start, folder):
        """What a test does that kills one; the others are left alone."""
        before = start(size=3)
        dead = before.nodes[1]
        os.kill(dead.pid, signal.SIGKILL)
        os.waitpid(dead.pid, 0)
        found = find_broker(folder)
        assert (found.whole, [node.id for node in found.nodes]) == (False, [1, 3])

        after = start()

        assert after.bootstrap == before.bootstrap
        assert [
            node.pid == old.pid for node, old in zip(after.nodes, before.nodes, strict=True)
        ] == [
            True,
            False,
            True,
        ]

    def test_after_a_crash_it_is_the_same_cluster(self, start, folder):
        """kill -9 leaves a file with a process that is no more."""
        before = start()
        os.kill(before.nodes[0].pid, signal.SIGKILL)
        os.waitpid(before.nodes[0].pid, 0)

        after = start()

        assert after.cluster_id == before.cluster_id
        assert after.nodes[0].pid != before.nodes[0].pid

    def test_a_stale_number_that_is_somebody_elses_is_no_broker(self, start, folder):
        """After a reboot it may be anybody's; it must be neither believed nor ended."""
        start()
        stop_broker(folder)
        left = state.read(folder)
        stale = nodes.Node(1, 9092, 40001, os.getpid())
        state.write(folder, msgspec.structs.replace(left, nodes=(stale,)))

        assert find_broker(folder) is None
        assert stop_broker(folder) is None
        assert start().whole

    def test_settings_that_are_given_reach_the_node(self, start, folder):
        start(properties={"transaction.max.timeout.ms": "20000"})

        text = (folder / "node-1" / "server.properties").read_text()
        assert "transaction.max.timeout.ms=20000\n" in text


class TestData:
    def test_they_stay_over_stop_and_start(self, start, folder):
        first = start()
        (folder / "node-1" / "data" / "segment").write_text("records")
        stop_broker(folder)

        assert start().cluster_id == first.cluster_id
        assert (folder / "node-1" / "data" / "segment").read_text() == "records"

    def test_fresh_empties_them(self, start, folder):
        first = start()
        (folder / "node-1" / "data" / "segment").write_text("records")
        stop_broker(folder)

        assert start(fresh=True).cluster_id != first.cluster_id
        assert not (folder / "node-1" / "data" / "segment").exists()

    def test_those_of_three_nodes_are_started_as_three(self, start, folder):
        """Without being told again; told otherwise, it is refused and nothing is touched."""
        start(size=3)
        stop_broker(folder)

        with pytest.raises(UserError) as refused:
            start(size=1)

        assert refused.value.code == "N009"
        assert "those of 3 nodes, not of one node" in refused.value.message
        assert start().size == 3

    def test_a_file_that_cannot_be_read_is_refused_and_fresh_is_the_way_out(self, start, folder):
        folder.mkdir()
        (folder / state.FILE).write_text("{")

        with pytest.raises(UserError) as refused:
            start()
        assert refused.value.code == "N009"

        assert start(fresh=True).whole


class TestFailures:
    def test_a_node_that_ends_is_told_with_its_last_lines(self, start, folder):
        """And with the place of the whole log."""
        with pytest.raises(LogError) as failed:
            start(properties={"fake.exit": "cannot read my data"})

        assert failed.value.code == "N006"
        log = folder / "node-1" / "broker.log"
        assert failed.value.message.splitlines() == [
            f"Kafka ended while it was starting; {log} ends with",
            "first line",
            "cannot read my data",
        ]
        assert find_broker(folder) is None

    def test_a_node_that_says_nothing_is_ended_again(self, start, folder, tools):
        with pytest.raises(LogError) as failed:
            start(properties={"fake.silent": "1"}, clock=Hurried())

        assert failed.value.code == "N007"
        assert "did not serve within 90 s" in failed.value.message
        assert find_broker(folder) is None

    def test_a_port_that_is_taken_is_refused_before_anything_starts(self, start, folder):
        with socket.create_server(("127.0.0.1", 0)) as other:
            with pytest.raises(UserError) as refused:
                start(port=other.getsockname()[1])

        assert refused.value.code == "N005"
        assert not (folder / "node-1").exists()

    def test_whoever_interrupts_a_start_leaves_no_node_behind(self, start, folder):
        """Ctrl-C while it is being waited for."""
        with pytest.raises(KeyboardInterrupt):
            start(properties={"fake.silent": "1"}, clock=Interrupting())

        pid = json.loads((folder / state.FILE).read_text())["nodes"][0]["pid"]
        assert not processes.runs(pid, "fake_java")
        assert find_broker(folder) is None


class TestStop:
    def test_where_nothing_runs_there_is_nothing_to_stop(self, folder):
        assert stop_broker(folder) is None
        assert not folder.exists()

    def test_it_returns_when_the_process_has_gone(self, start, folder):
        broker = start()

        assert stop_broker(folder) == broker
        assert not processes.runs(broker.nodes[0].pid, "fake_java")
        assert stop_broker(folder) is None


class TestArchive:
    def test_the_first_end_writes_it_and_the_next_start_reads_it(self, start, folder, tools):
        start()
        assert list(tools.cache.iterdir()) == []
        stop_broker(folder)

        (archive,) = tools.cache.iterdir()
        assert archive.suffix == ".jsa"
        broker = start()
        assert str(archive) in processes.command_line(broker.nodes[0].pid)

    def test_nobody_waits_for_one_that_was_not_wanted(self, start, folder, tools):
        """A test's broker ends at once."""
        start(record_archive=False)
        stop_broker(folder)

        assert list(tools.cache.iterdir()) == []

    def test_one_that_breaks_the_start_is_dropped_and_the_start_goes_on(self, start, folder, tools):
        """It can only ever help."""
        start()
        stop_broker(folder)
        (archive,) = tools.cache.iterdir()
        archive.write_text("broken")

        broker = start(record_archive=False)

        assert broker.whole
        assert not archive.exists()

    def test_a_start_that_fails_for_another_reason_does_not_cost_it(self, start, folder, tools):
        """Damaged data are no fault of the archive; it is tried without, and kept."""
        start()
        stop_broker(folder)
        (archive,) = tools.cache.iterdir()

        with pytest.raises(LogError, match="cannot read my data"):
            start(properties={"fake.exit": "cannot read my data"})

        assert archive.exists()

    def test_of_one_that_was_killed_nothing_is_kept(self, start, folder, tools):
        """Half an archive would be a slow start each time."""
        broker = start()
        os.kill(broker.nodes[0].pid, signal.SIGKILL)
        os.waitpid(broker.nodes[0].pid, 0)
        Path(state.read(folder).recording.written).write_text("half")

        stop_broker(folder)

        assert list(tools.cache.iterdir()) == []
