"""What a simulated log writes down: everything, whatever became of it, and the same each time."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from streams.broker.port import Committed, Transaction
from streams.errors import LogError, OutcomeUnknown, TransactionAborted
from streams.runtime.execution import Execution
from streams.secrets import Secrets
from streams.testing.faults import Fault
from streams.testing.simulated_log import SimulatedLog
from streams.testing.tester_inline import OnTheSpot
from streams.testing.virtual_time import VirtualClock, virtual_loop
from tests.unit.runtime.rig import Rig
from tests.unit.testing.simulated import (
    A0,
    A1,
    Member,
    in_virtual_time,
    log_with,
    of,
    out,
    settle,
    soon,
)


@in_virtual_time
async def test_every_record_is_written_down_in_the_order_of_appending():
    """Aborted ones, open ones, and those that were trimmed away since."""
    log = await log_with()
    await log.publish([out(b"published")])
    producer = await log.producer("p")
    log.faults.commit = lambda _, number, __: [Fault.ABORTED, None, Fault.UNKNOWN][number - 1]
    with pytest.raises(TransactionAborted):
        await producer.commit(of(b"aborted", partition=1))
    await producer.commit(of(b"committed"))
    with pytest.raises(OutcomeUnknown):
        await producer.commit(of(b"open"))
    await log.trim({A0: 2})

    told = [(r.place, r.offset, r.value, r.transaction) for r in log.history_records()]
    assert told == [
        (A0, 0, b"published", 0),
        (A1, 0, b"aborted", 1),
        (A0, 1, b"committed", 2),
        (A0, 3, b"open", 3),
    ]
    seen = log.transactions_seen()
    assert [seen[n].outcome for n in (1, 2, 3)] == ["aborted", "committed", "open"]
    assert log.removed() == {A0: frozenset({0, 1})}
    assert log.appended == 2


@in_virtual_time
async def test_a_transaction_is_written_down_with_what_it_says_and_when():
    """C7 judges from the log's word: who, under which generation, from where to where."""
    log = await log_with()
    member = await Member.of(log, "m")
    await settle(member)
    producer = await log.producer("p")
    await producer.commit(member.moves(A0, 1))
    log.faults.latency = lambda call, process: 0.4 if call == "commit" else 0.0
    began = log._broker.clock.now()
    await producer.commit(member.moves(A0, 2, out(b"1", 1)))

    seen = log.transactions_seen()[2]
    assert (seen.producer, seen.outcome) == ("p", "committed")
    assert seen.offsets == {A0: Committed(2)}
    assert seen.before == {A0: Committed(1)}
    assert (seen.membership, seen.generation) == (member.proof, 1)
    assert (seen.began - began, seen.ended - began) == (100, 300)


@in_virtual_time
async def test_what_was_read_is_written_down_by_reader_and_by_life_of_a_member():
    """C6 compares each stretch with what was there to read; a seek begins another."""
    log = await log_with()
    await log.publish([out(b"%d" % n) for n in range(3)])
    reader = log.process("w1").reader()
    reader.assign({A0: 1})
    await reader.poll(1, 0)
    await reader.poll(1, 0)
    member = await Member.of(log, "m")
    await settle(member)
    member.consumer.seek(A0, 2)
    await member.poll()
    again = await Member.of(log, "m")
    await again.poll()
    await again.poll()

    assert [(r.who, r.place, r.generation, r.offsets) for r in log.reads()] == [
        ("w1/reader#1", A0, 0, (1, 2)),
        ("g/m#1", A0, 1, (0, 1, 2)),
        ("g/m#1", A0, 1, (2,)),
        ("g/m#2", A0, 1, (0, 1, 2)),
    ]


@in_virtual_time
async def test_hooks_hear_of_records_and_ends_at_once():
    """For rules that are checked while the run goes on."""
    log = await log_with()
    heard = []
    log.on_append = lambda records, number, process: heard.append(
        ([record.value for record in records], number, process)
    )
    log.on_end = lambda seen: heard.append((seen.id, seen.outcome))
    producer = await log.process("w1").producer("p")
    await producer.commit(of(b"1", b"2"))
    await log.publish([out(b"3")])

    assert heard == [([b"1", b"2"], 1, "w1"), (1, "committed"), ([b"3"], 0, "")]


@in_virtual_time
async def test_nothing_is_written_down_when_nobody_wants_to_know():
    """A tester of a year's jobs needs no history."""
    log = await log_with(record=False)
    producer = await log.producer("p")
    await producer.commit(of(b"1"))
    reader = log.reader()
    reader.assign({A0: 0})
    assert len(await reader.poll(10, 0)) == 1

    assert (log.history_records(), log.transactions_seen(), log.reads()) == ([], {}, [])
    assert log.removed() == {}
    assert log.appended == 1


@in_virtual_time
async def test_an_empty_or_refused_transaction_is_none():
    """It never began."""
    log = await log_with()
    producer = await log.producer("p")
    await producer.commit(Transaction())
    with pytest.raises(LogError):
        await producer.commit(of(b"1", topic="missing"))

    assert log.transactions_seen() == {}


@in_virtual_time
async def test_the_version_stands_still_when_nothing_happens_that_could_be_seen():
    """A driver looks at one number to know that all is quiet."""
    log = await log_with()
    member = await Member.of(log, "m")
    await settle(member)
    before = log.version
    for _ in range(5):
        await member.poll(1)
    await soon(60)
    still = log.version
    await member.poll()
    await log.publish([out(b"1")])

    assert (still, log.version > still) == (before + 1, True)  # the member died of 60 s silence


# -- one seed, one run ------------------------------------------------------------------------

GATED = """
gates: {go: {after: one, until: facts.go}}
stages:
  - {name: one, type: t}
  - {name: two, type: t, depends_on: [one]}
"""


class InlineRig(Rig):
    """User code on the spot: a thread's timing would be chance."""

    def execution(self):
        made = Execution(
            self.registry, self.blobs, Secrets(), self.clock,
            namespace="t", threads=OnTheSpot(self.clock),
        )  # fmt: skip
        self.executions.append(made)
        return made


def trace(folder, seed):
    """A hash of everything that a pipeline of two workers wrote and read, under faults."""
    with virtual_loop() as loop:
        return loop.run(_trace(loop, folder, seed))


async def _trace(loop, folder, seed):
    chance = random.Random(seed)
    clock = VirtualClock(loop, seed=seed)
    log = SimulatedLog(clock, seed=seed)
    faults = [None] * 12 + [Fault.ABORTED, Fault.UNKNOWN, Fault.UNKNOWN_COMMITTED, Fault.LATE]
    log.faults.commit = lambda *_: chance.choice(faults)
    log.faults.latency = lambda *_: chance.random() * 0.02
    rig = InlineRig(folder, GATED, stages={"t": lambda ctx: None}, clock=clock, partitions=2,
                    inner=log)  # fmt: skip
    async with rig:
        rig.start(rig.worker("w1"))
        rig.start(rig.worker("w2"))
        for number in range(4):
            await rig.submit(f"j{number}")
        await rig.pass_time(2)
        for number in range(4):
            await rig.signal("fact", f"j{number}", facts={"go": True})
        for number in range(4):
            await rig.view_when(f"j{number}", "succeeded", seconds=120)
    seen = hashlib.sha256()
    for each in (*log.history_records(), *log.transactions_seen().values(), *log.reads()):
        seen.update(msgspec.msgpack.encode(each))
    return seen.hexdigest(), loop.time()


def test_the_same_seed_gives_the_same_run(tmp_path):
    """One seed reproduces a failure exactly; another seed is another run."""
    first, again, other = trace(tmp_path, 1), trace(tmp_path, 1), trace(tmp_path, 2)

    assert first == again
    assert other != first


def test_another_process_with_other_hashes_gives_the_same_run(tmp_path):
    """Nothing in a run follows the order of a set: a seed found at night is repeated by day."""
    script = (
        "import sys, pathlib; from tests.unit.testing.test_simulated_history import trace;"
        "pathlib.Path(sys.argv[2]).write_text(trace(pathlib.Path(sys.argv[1]), 3)[0])"
    )
    answer = tmp_path / "answer"
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(answer)],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
    )

    assert answer.read_text() == trace(tmp_path, 3)[0]
