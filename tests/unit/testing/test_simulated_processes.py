"""Processes of a simulated log: killed, frozen, cut off, slow; at named points of a commit."""

import asyncio

import pytest

from streams.broker.port import Committed
from streams.errors import Fenced, LogUnavailable
from tests.unit.testing.simulated import (
    A0,
    A1,
    Member,
    in_virtual_time,
    keep_polling,
    log_with,
    of,
    out,
    settle,
    soon,
    started,
    visible,
)

POINTS = ("before_begin", "after_produce", "after_offsets", "in_commit", "after_commit")


def at(point, do):
    """A hook that does something to whoever gets to that point."""
    return lambda where, process, producer: do(process) if where == point else None


@pytest.mark.parametrize("point", POINTS)
@in_virtual_time
async def test_a_process_killed_at_a_point_of_its_commit_commits_only_after_its_end(point):
    """F1: the call never returns; only what had reached the log before counts."""
    log = await log_with()
    w1 = log.process("w1")
    member = await Member.of(w1, "m")
    await settle(member)
    producer = await w1.producer("p")
    log.faults.crash_point = at(point, log.kill)
    task = started(producer.commit(member.moves(A0, 1, out(b"1"))))
    await soon(1)
    assert not task.done()
    is_open = point in {"after_produce", "after_offsets", "in_commit"}
    assert log.open_transactions == is_open
    await soon(30)
    there = point == "after_commit"

    assert not task.done()
    assert await visible(log) == ([b"1"] if there else [])
    assert await log.positions("g") == ({A0: Committed(1)} if there else {})
    assert log.timed_out == is_open
    task.cancel()


@pytest.mark.parametrize("point", POINTS)
@in_virtual_time
async def test_a_process_frozen_at_a_point_of_its_commit_comes_back_as_a_zombie(point):
    """F3: thawed after three sessions it is fenced, wherever it stood; nothing of it is there
    unless its end had reached the log."""
    log = await log_with()
    w1 = log.process("w1")
    a, b = await Member.of(w1, "a"), await Member.of(log, "b")
    await settle(a, b)
    producer = await w1.producer("p")
    log.faults.crash_point = at(point, log.freeze)
    task, living = started(producer.commit(a.moves(A0, 1, out(b"1")))), started(keep_polling(b))
    await soon(18)
    assert set(b.owned) == {A0, A1}
    log.faults.crash_point = None
    log.thaw("w1")
    await asyncio.wait([task])
    there = point == "after_commit"

    assert task.exception() is None if there else isinstance(task.exception(), Fenced)
    assert await visible(log) == ([b"1"] if there else [])
    assert await log.positions("g") == ({A0: Committed(1)} if there else {})
    living.cancel()


@in_virtual_time
async def test_a_frozen_process_that_is_thawed_in_time_goes_on_as_if_nothing_had_been():
    """A pause shorter than the session costs nothing."""
    log = await log_with()
    w1 = log.process("w1")
    a, b = await Member.of(w1, "a"), await Member.of(log, "b")
    await settle(a, b)
    living = started(keep_polling(b))
    log.freeze("w1")
    poll = started(a.poll())
    await soon(4)
    assert not poll.done()
    log.thaw("w1")
    await poll

    assert (await log.members("g"), set(a.owned)) == (["a", "b"], {A0})
    living.cancel()


@in_virtual_time
async def test_a_frozen_process_that_is_thawed_too_late_hears_what_it_lost():
    """It forgets at once what belongs to somebody else."""
    log = await log_with()
    w1 = log.process("w1")
    a, b = await Member.of(w1, "a"), await Member.of(log, "b")
    await settle(a, b)
    living = started(keep_polling(b))
    log.freeze("w1")
    poll = started(a.poll(1))
    await soon(7)
    log.thaw("w1")
    await poll

    assert a.last.lost == {A0}
    await settle(a)
    assert len(a.owned) == 1
    living.cancel()


@in_virtual_time
async def test_a_member_that_freezes_while_it_waits_in_a_poll_dies_all_the_same():
    """Its call is open, but its heart does not beat."""
    log = await log_with()
    a, b = await Member.of(log.process("w1"), "a"), await Member.of(log, "b")
    await settle(a, b)
    poll, living = started(a.poll(60)), started(keep_polling(b))
    await soon()
    log.freeze("w1")
    await soon(6.5)

    assert await log.members("g") == ["b"]
    assert not poll.done()
    poll.cancel()
    living.cancel()


@in_virtual_time
async def test_closing_the_clients_of_a_killed_process_returns_and_does_nothing():
    """Whoever cleans up after a kill must not hang, nor say good-bye in its name."""
    log = await log_with()
    w1 = log.process("w1")
    member = await Member.of(w1, "m")
    await settle(member)
    producer, reader = await w1.producer("p"), w1.reader()
    log.faults.crash_point = at("after_produce", log.kill)
    task = started(producer.commit(of(b"1")))
    await soon()
    task.cancel()
    for client in (producer, member.consumer, reader, w1):
        await client.close()

    assert await log.members("g") == ["m"]
    assert log.open_transactions == 1


@in_virtual_time
async def test_a_process_killed_while_frozen_lets_its_closing_calls_return():
    """A pause may end in a kill."""
    log = await log_with()
    member = await Member.of(log.process("w1"), "m")
    await settle(member)
    log.freeze("w1")
    closing = started(member.consumer.close())
    await soon(1)
    assert not closing.done()
    log.kill("w1")
    await closing

    assert await log.members("g") == ["m"]


@in_virtual_time
async def test_no_call_of_a_killed_process_returns_but_its_next_life_works():
    """`process` gives a new life under the old name."""
    log = await log_with()
    before = log.process("w1")
    assert log.process("w1") is before
    log.kill("w1")
    log.kill("w1")
    call = started(before.topics())
    await soon(100)
    assert not call.done()
    after = log.process("w1")
    assert after is not before
    assert list(await after.topics()) == ["a"]
    call.cancel()


@in_virtual_time
async def test_a_process_that_is_cut_off_is_told_so_and_loses_its_seat():
    """F8: the worker runs, the log does not hear it."""
    log = await log_with()
    w1 = log.process("w1")
    a, b = await Member.of(w1, "a"), await Member.of(log, "b")
    await settle(a, b)
    living = started(keep_polling(b))
    log.cut("w1")
    with pytest.raises(LogUnavailable):
        await a.poll()
    with pytest.raises(LogUnavailable):
        await w1.watermarks([A0])
    await soon(7)
    assert await log.members("g") == ["b"]
    log.mend("w1")
    await a.poll()

    assert a.last.lost == {A0}
    living.cancel()


@in_virtual_time
async def test_each_call_takes_the_time_it_is_told_to():
    """Latency is virtual, and asked for once a call."""
    log = await log_with()
    w1 = log.process("w1")
    asked = []

    def latency(call, process):
        asked.append((call, process))
        return 0.2

    log.faults.latency = latency
    loop = asyncio.get_running_loop()
    times = []
    producer = await w1.producer("p")
    reader = w1.reader()
    reader.assign({A0: 0})
    for work in (w1.publish([out(b"1")]), producer.commit(of(b"2")), reader.poll(10, 0)):
        began = loop.time()
        await work
        times.append(round(loop.time() - began, 6))

    assert times == [0.2, 0.2, 0.2]
    assert asked == [(c, "w1") for c in ("producer", "publish", "commit", "reader")]


@in_virtual_time
async def test_a_lagging_reader_does_not_see_the_newest_offsets_yet():
    """A follower may be behind; members of groups are not concerned."""
    log = await log_with()
    for n in range(5):
        await log.publish([out(b"%d" % n)])
    log.faults.lag = lambda process, place: 2
    reader = log.process("w1").reader()
    reader.assign({A0: 0})
    assert [record.value for record in await reader.poll(10, 0)] == [b"0", b"1", b"2"]
    assert reader.position(A0) == 3
    assert await reader.poll(10, 1) == []
    log.faults.lag = None
    assert [record.value for record in await reader.poll(10, 0)] == [b"3", b"4"]
