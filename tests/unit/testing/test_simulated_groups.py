"""Groups of the simulated log: generations fence, silence kills, positions have to be stable."""

import asyncio

import pytest

from streams.broker.port import Committed, TopicPartition, TopicSpec, Transaction
from streams.errors import Fenced, LogError, OffsetLost, OutcomeUnknown
from streams.testing.faults import Fault
from tests.unit.testing.simulated import (
    A0,
    A1,
    Member,
    in_virtual_time,
    keep_polling,
    log_with,
    new_log,
    of,
    out,
    settle,
    soon,
    started,
    visible,
)

BOTH = pytest.mark.parametrize("rebalance", ["eager", "cooperative"])


# -- generations ----------------------------------------------------------------------------


@BOTH
@in_virtual_time
async def test_co_partitioned_topics_go_to_the_same_member(rebalance):
    """The range assignment keeps intake p and hold p together."""
    log = await log_with("a", "b", partitions=4, rebalance=rebalance)
    members = [await Member.of(log, name, "a", "b") for name in ("x", "y", "z")]
    await settle(*members)

    shares = [{(p.topic, p.partition) for p in member.owned} for member in members]
    assert shares == [
        {("a", 0), ("a", 1), ("b", 0), ("b", 1)},
        {("a", 2), ("b", 2)},
        {("a", 3), ("b", 3)},
    ]


@in_virtual_time
async def test_an_eager_member_gives_everything_up_and_joins_at_its_next_poll():
    """R2: the poll after the one that revoked is the moment of giving up."""
    log = await log_with()
    a = await Member.of(log, "a")
    await settle(a)
    b = await Member.of(log, "b")

    assert (await a.poll()).revoked == {A0, A1}
    assert log.generation("g") == 1
    await b.poll(0.5)
    assert b.owned == {}
    await a.poll()
    assert log.generation("g") == 2
    await b.poll()
    assert (set(a.owned), set(b.owned)) == ({A0}, {A1})


@in_virtual_time
async def test_a_cooperative_member_keeps_what_it_need_not_give():
    """One generation says what is too much, the next one gives it away."""
    log = await log_with(rebalance="cooperative")
    a = await Member.of(log, "a")
    await settle(a)
    b = await Member.of(log, "b")
    await a.poll()

    assert a.last.revoked == {A1}
    assert log.generation("g") == 2
    await settle(a, b)
    assert log.generation("g") == 3
    assert (set(a.owned), set(b.owned)) == ({A0}, {A1})


@BOTH
@in_virtual_time
async def test_a_zombie_of_a_former_generation_is_fenced_by_the_generation(rebalance):
    """The broker checks the generation, even for a partition that its member still owns."""
    log = await log_with(rebalance=rebalance)
    a = await Member.of(log, "a")
    await settle(a)
    stale = a.moves(A0, 7, out(b"zombie"))
    b = await Member.of(log, "b")
    await settle(a, b)
    assert A0 in a.owned
    producer = await log.producer("p")
    with pytest.raises(Fenced, match="generation 1"):
        await producer.commit(stale)

    assert await visible(log) == []
    assert await log.positions("g") == {}
    await producer.commit(a.moves(A0, 7))
    assert await log.positions("g") == {A0: Committed(7)}


@in_virtual_time
async def test_the_former_generation_is_good_until_everybody_has_joined_again():
    """What is revoked can still be committed for: R2's last commit."""
    log = await log_with()
    a = await Member.of(log, "a")
    await settle(a)
    await Member.of(log, "b")
    await a.poll()
    assert a.last.revoked == {A0, A1}
    producer = await log.producer("p")
    await producer.commit(a.moves(A1, 3))

    assert await log.positions("g") == {A1: Committed(3)}


@in_virtual_time
async def test_the_broker_does_not_check_who_owns_what():
    """Tried on Kafka: a position of a partition that the member does not own commits."""
    log = await log_with()
    a, b = await Member.of(log, "a"), await Member.of(log, "b")
    await settle(a, b)
    assert A1 not in a.owned
    producer = await log.producer("p")
    await producer.commit(a.moves(A1, 3))

    assert await log.positions("g") == {A1: Committed(3)}


@in_virtual_time
async def test_a_generation_that_ends_in_the_middle_of_a_commit_fences_it():
    """Between its records and its positions the group went on: the records are aborted."""
    log = await log_with()
    w1 = log.process("w1")
    a = await Member.of(w1, "a")
    await settle(a)
    producer = await w1.producer("p")
    log.faults.crash_point = lambda point, process, _: (
        log.freeze(process) if point == "after_produce" else None
    )
    task = started(producer.commit(a.moves(A0, 1, out(b"zombie"))))
    b = await Member.of(log, "b")
    for _ in range(40):
        await b.poll(0.2)
    assert set(b.owned) == {A0, A1}
    log.thaw("w1")
    with pytest.raises(Fenced):
        await task

    assert (await visible(log), await log.positions("g")) == ([], {})


@in_virtual_time
async def test_a_transaction_without_positions_is_not_fenced_by_the_group():
    """Decision 1 of the protocol: so everybody has to commit positions (R1)."""
    log = await log_with()
    a = await Member.of(log, "a")
    await settle(a)
    proof = a.proof
    await a.consumer.close()
    producer = await log.producer("p")
    await producer.commit(Transaction([out(b"unfenced")], {}, proof))

    assert await visible(log) == [b"unfenced"]


# -- life and death ---------------------------------------------------------------------------


@in_virtual_time
async def test_a_member_that_does_not_poll_is_dead_after_ten_seconds():
    """Its process lives and beats, but what does not poll does not work."""
    log = await log_with()
    silent, other = await Member.of(log, "silent"), await Member.of(log, "other")
    await settle(silent, other)
    task = started(keep_polling(other))
    await soon(9.5)
    assert await log.members("g") == ["other", "silent"]
    await soon(1)
    assert await log.members("g") == ["other"]
    await soon(0.5)
    assert set(other.owned) == {A0, A1}
    task.cancel()
    assert log.expelled == 1
    await silent.poll()
    assert len(silent.last.lost) == 1


@in_virtual_time
async def test_who_waits_in_a_long_poll_lives():
    """Waiting for records is polling."""
    log = await log_with()
    member = await Member.of(log, "m")
    await settle(member)
    await member.poll(60)

    assert await log.members("g") == ["m"]


@in_virtual_time
async def test_a_killed_process_is_missed_after_its_session():
    """It never says good-bye: the others wait for 6 s."""
    log = await log_with()
    w1 = log.process("w1")
    a, b = await Member.of(w1, "a"), await Member.of(log, "b")
    await settle(a, b)
    dead, living = started(keep_polling(a)), started(keep_polling(b))
    await soon(0.1)
    log.kill("w1")
    await soon(5.8)
    assert await log.members("g") == ["a", "b"]
    await soon(0.5)
    assert await log.members("g") == ["b"]
    assert not dead.done()
    dead.cancel()
    living.cancel()


@in_virtual_time
async def test_a_wall_clock_that_leaps_kills_nobody():
    """Liveness is monotonic: 400 days pass on the wall clock in no time at all."""
    log = await log_with()
    member = await Member.of(log, "m")
    await settle(member)
    log._broker.clock.leap(400 * 86_400)
    await log.publish([out(b"later")])
    await member.poll()

    assert await log.members("g") == ["m"]
    assert member.values == [b"later"]


@in_virtual_time
async def test_nobody_is_dead_because_the_log_was_down():
    """Sessions begin anew when the coordinator is back."""
    log = await log_with()
    w1 = log.process("w1")
    member = await Member.of(w1, "m")
    await settle(member)
    log.faults.down = True
    await soon(30)
    log.faults.down = False
    await member.poll()

    assert await log.members("g") == ["m"]
    assert member.last.lost == frozenset()


@in_virtual_time
async def test_a_restarted_namesake_takes_over_without_a_new_generation():
    """Static membership: a quick restart moves nothing, and fences the former life."""
    log = await log_with()
    first, other = await Member.of(log.process("w1"), "m"), await Member.of(log, "other")
    await settle(first, other)
    stale, generation = first.moves(A0, 5), log.generation("g")
    log.kill("w1")
    again = await Member.of(log.process("w1"), "m")
    await again.poll()
    assert set(again.owned) == {A0}
    assert log.generation("g") == generation
    producer = await log.producer("p")
    with pytest.raises(Fenced, match="another m joined"):
        await producer.commit(stale)
    await producer.commit(again.moves(A0, 5))


@in_virtual_time
async def test_a_namesake_in_the_middle_of_a_rebalance_starves_nobody():
    """A seat taken over while it was to give something up gives it up."""
    log = await log_with(rebalance="cooperative")
    first = await Member.of(log.process("w1"), "m")
    await settle(first)
    other = await Member.of(log, "other")
    await first.poll()
    assert first.last.revoked == {A1}
    log.kill("w1")
    again = await Member.of(log.process("w1"), "m")
    await settle(again, other)

    assert (set(again.owned), set(other.owned)) == ({A0}, {A1})


@BOTH
@in_virtual_time
async def test_members_that_come_and_go_always_end_with_every_partition_owned_once(rebalance):
    """Whatever the order of joins, leaves, deaths and take-overs."""
    log = await log_with(partitions=5, rebalance=rebalance)
    for seed in range(30):
        members = {}
        for step in range(12):
            name = f"m{(seed * 7 + step * 5) % 4}"
            member = members.get(name)
            if member is None:
                members[name] = await Member.of(log.process(name), name)
            elif (seed + step) % 3 == 0:
                log.kill(name)
                members[name] = await Member.of(log.process(name), name)
            elif (seed + step) % 3 == 1:
                del members[name]
                await member.consumer.close()
            for each in list(members.values())[: step % 4]:
                await each.poll()
        await settle(*members.values(), rounds=12)
        owned = [place.partition for member in members.values() for place in member.owned]
        assert sorted(owned) == ([0, 1, 2, 3, 4] if members else [])
        for member in members.values():
            await member.consumer.close()


# -- positions ------------------------------------------------------------------------------


@in_virtual_time
async def test_the_next_owner_waits_until_positions_are_stable():
    """R5: what an open transaction may still change is not told to anybody."""
    log = await log_with()
    w1 = log.process("w1")
    a = await Member.of(w1, "a")
    await settle(a)
    log.faults.commit = lambda *_: Fault.LATE
    log.faults.late = lambda _: 5.0
    producer = await w1.producer("p")
    with pytest.raises(OutcomeUnknown):
        await producer.commit(a.moves(A0, 9))
    await a.consumer.close()
    b = await Member.of(log, "b")
    began = asyncio.get_running_loop().time()
    await b.poll(3.0)
    assert (b.owned, b.last.membership.generation) == ({}, log.generation("g"))
    await b.poll(20)

    assert asyncio.get_running_loop().time() - began == pytest.approx(5.0, abs=0.1)
    assert b.owned == {A0: Committed(9), A1: None}


@in_virtual_time
async def test_committed_waits_for_an_open_transaction():
    """The stable position is the one to believe after an unknown outcome."""
    log = await log_with()
    member = await Member.of(log, "m")
    await settle(member)
    log.faults.commit = lambda *_: Fault.UNKNOWN
    producer = await log.producer("p")
    with pytest.raises(OutcomeUnknown):
        await producer.commit(member.moves(A0, 9))
    assert await member.consumer.committed([A1]) == {A1: None}
    began = asyncio.get_running_loop().time()
    assert await member.consumer.committed([A0]) == {A0: None}
    assert asyncio.get_running_loop().time() - began == pytest.approx(10.0, abs=0.2)


@in_virtual_time
async def test_aborted_positions_leave_the_group_where_it_stood():
    """C7: records and positions share their fate."""
    log = await log_with()
    member = await Member.of(log, "m")
    await settle(member)
    producer = await log.producer("p")
    await producer.commit(member.moves(A0, 1))
    log.faults.commit = lambda *_: Fault.ABORTED
    with pytest.raises(LogError):
        await producer.commit(member.moves(A0, 2))

    assert await log.positions("g") == {A0: Committed(1)}


@in_virtual_time
async def test_a_producer_fenced_before_its_positions_leaves_them_stable():
    """What was ended by somebody else may not hold anything back any more."""
    log = await log_with()
    member = await Member.of(log, "m")
    await settle(member)
    log.faults.latency = lambda call, process: 0.4 if call == "commit" else 0.0
    producer = await log.producer("p")
    task = started(producer.commit(member.moves(A0, 1, out(b"1"))))
    await soon(0.15)
    await log.producer("p")
    with pytest.raises(Fenced):
        await task
    began = asyncio.get_running_loop().time()

    assert await member.consumer.committed([A0]) == {A0: None}
    assert asyncio.get_running_loop().time() == began


@in_virtual_time
async def test_a_member_hears_that_retention_passed_its_position():
    """F26, by time instead of by hand, and while it is at work."""
    log = new_log()
    await log.create_topics([TopicSpec("a", 1, retention_ms=5_000)])
    await log.publish([out(b"1"), out(b"2")])
    member = await Member.of(log, "m")
    await settle(member)
    producer = await log.producer("p")
    await producer.commit(member.moves(A0, 1))
    await member.poll(6)
    await log.maintain()
    with pytest.raises(OffsetLost):
        await member.poll()


@in_virtual_time
async def test_a_member_hears_that_its_position_was_trimmed_away():
    """F26: never skipped in silence, for as long as it is so."""
    log = await log_with()
    await log.publish([out(b"%d" % n) for n in range(4)])
    member = await Member.of(log, "m")
    await settle(member)
    producer = await log.producer("p")
    await producer.commit(member.moves(A0, 1))
    await log.trim({A0: 3})
    for _ in range(2):
        with pytest.raises(OffsetLost):
            await member.poll()
    await producer.commit(member.moves(A0, 4))
    await member.poll()


# -- waiting ----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_waiting_member_wakes_when_records_become_visible_and_not_before():
    """No polling inside: an append wakes at once, an open transaction does not."""
    log = await log_with()
    member = await Member.of(log, "m")
    await settle(member)
    log.faults.latency = lambda call, process: 0.4 if call == "commit" else 0.0
    producer = await log.producer("p")
    began = asyncio.get_running_loop().time()
    task = started(producer.commit(of(b"news")))
    poll = await member.poll(60)

    assert [record.value for record in poll.records] == [b"news"]
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.3)
    await task


@in_virtual_time
async def test_a_waiting_member_wakes_for_a_rebalance():
    """The others need not wait for the end of its poll."""
    log = await log_with()
    a = await Member.of(log, "a")
    await settle(a)
    task = started(a.poll(60))
    await soon()
    await Member.of(log, "b")

    assert (await task).revoked == {A0, A1}
    assert asyncio.get_running_loop().time() < 1


@in_virtual_time
async def test_a_new_topic_is_shared_out_and_a_deleted_one_is_lost():
    """`apply` and `purge` while workers run."""
    log = await log_with("a", "b", partitions=1)
    member = await Member.of(log, "m", "a", "b")
    await settle(member)
    b0 = TopicPartition("b", 0)
    await log.delete_topics(["b"])
    assert (await member.poll()).lost == {b0}
    await settle(member)
    assert set(member.owned) == {A0}
    await log.create_topics([TopicSpec("b", 1)])
    await settle(member)

    assert set(member.owned) == {A0, b0}


@in_virtual_time
async def test_a_group_whose_offsets_were_deleted_stands_nowhere():
    """Row 26: the next member hears of no position; nobody deletes those of a group at work."""
    log = await log_with("a")
    member = await Member.of(log, "x", "a")
    await settle(member)
    with pytest.raises(LogError) as raised:
        await log.delete_groups(["g"])
    assert raised.value.code == "K027"

    await member.consumer.close()
    await log.set_positions("g", {A0: Committed(3, "m")})
    await log.delete_groups(["g", "unknown"])
    assert await log.positions("g") == {}
