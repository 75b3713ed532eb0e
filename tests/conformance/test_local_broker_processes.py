"""Several processes on one file: killed at any point, stopped and continued, started together."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import pytest_asyncio

from streams.broker.local import LocalLog
from streams.broker.port import Committed, Outgoing, TopicPartition, TopicSpec
from streams.clock import SystemClock

pytestmark = pytest.mark.processes

SCRIPT = Path(__file__).with_name("local_log_process.py")
IN = [TopicPartition("in", number) for number in range(4)]
OUT = TopicPartition("out", 0)
ROWS = TopicPartition("rows", 0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


@pytest_asyncio.fixture
async def log(path):
    log = LocalLog.open(path, clock=SystemClock(), session_ms=600)
    await log.create_topics([TopicSpec("in", 4), TopicSpec("out", 1), TopicSpec("rows", 1)])
    yield log
    await log.close()


@pytest.fixture
def start(path):
    """Starts a process of the script beside; all end with the test."""
    running = []
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])

    def started(*arguments):
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        running.append(process)
        return process

    yield started
    for process in running:
        process.kill()
        process.communicate()


async def line(process):
    """What the process says next; the log's own tasks go on meanwhile."""
    text = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 30)
    return text.decode().strip()


async def values(log, *places):
    reader = log.reader()
    marks = await log.watermarks(places)
    reader.assign(dict.fromkeys(places, 0))
    found = []
    while any(reader.position(place) < marks[place].high for place in places):
        found += [record.value for record in await reader.poll(10_000, 0)]
    return found


@pytest.mark.parametrize("round_", range(4))
async def test_kill_9_loses_no_committed_transaction_and_shows_no_half_one(log, start, round_):
    """Each transaction writes its token seven times, in two topics and five partitions."""
    writers = [start("write", "a"), start("write", "b")]
    for writer in writers:
        for _ in range(20 + 7 * round_):
            await line(writer)
    said = []
    for name, writer in zip("ab", writers, strict=True):
        writer.kill()
        rest = writer.stdout.read().decode().split()
        said += [f"{name}:{n}".encode() for n in rest]
    counts = Counter(await values(log, *IN, ROWS))
    assert set(counts.values()) == {7}
    assert set(said) <= counts.keys()


async def test_the_survivor_takes_over_what_a_killed_member_held(log, start):
    """Nothing is lost or doubled: outputs and positions were one transaction."""
    await log.publish([Outgoing("in", b"%d" % n, b"%d" % n) for n in range(400)])
    first, second = start("work", "a"), start("work", "b")
    assert [await line(first), await line(second)] == ["ready", "ready"]
    while (await log.watermarks([OUT]))[OUT].high < 100:
        await asyncio.sleep(0.01)
    first.kill()
    await log.publish([Outgoing("in", b"%d" % n, b"%d" % n) for n in range(400, 500)])
    done = []
    for _ in range(1000):
        done = await values(log, OUT)
        if len(done) >= 500:
            break
        await asyncio.sleep(0.02)
    assert sorted(int(value) for value in done) == list(range(500))
    assert await log.members("g") == ["b"]


async def test_a_stopped_process_is_replaced_and_its_commit_fenced_when_it_wakes(log, start):
    """SIGSTOP: the classic zombie, which believes that no time has passed."""
    stopped = start("zombie", "a")
    assert await line(stopped) == "ready"
    stopped.send_signal(signal.SIGSTOP)
    consumer = log.consumer("g", "b")
    await consumer.subscribe(["in"])
    owned = set()
    while len(owned) < 4:
        owned |= (await consumer.poll(1, 0.1)).assigned.keys()
    stopped.send_signal(signal.SIGCONT)
    stopped.stdin.write(b"now\n")
    stopped.stdin.flush()
    assert await line(stopped) == "fenced"
    assert await values(log, OUT) == []
    assert await log.positions("g") == {}


async def test_a_short_stop_costs_nobody_anything(log, start):
    """Shorter than the session: the member keeps its seat and its commit stands."""
    stopped = start("zombie", "a")
    assert await line(stopped) == "ready"
    stopped.send_signal(signal.SIGSTOP)
    stopped.send_signal(signal.SIGCONT)
    stopped.stdin.write(b"now\n")
    stopped.stdin.flush()
    assert await line(stopped) == "committed"
    assert await log.positions("g") == {place: Committed(99) for place in IN}


async def test_processes_may_make_the_file_together(path, start):
    """`docker compose up` starts all workers at once."""
    processes = [start("create") for _ in range(6)]
    assert [await line(process) for process in processes] == ["done"] * 6
    log = LocalLog.open(path, clock=SystemClock())
    assert (await log.topics())["t"].partitions == 3
    await log.close()
