"""Transactions of the simulated log: open for a while, fenced by epoch, ended by time."""

import asyncio

import pytest

from streams.broker.port import Committed, Transaction
from streams.errors import Fenced, LogError, LogUnavailable, OutcomeUnknown, TransactionAborted
from streams.testing.faults import Fault
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
    started,
    visible,
)


def always(fault):
    return lambda producer, number, transaction: fault


def once(fault):
    return lambda producer, number, transaction: fault if number == 1 else None


async def offset_of(log, place=A0):
    marks = await log.watermarks([place])
    return marks[place].high


# -- markers and the last stable offset -----------------------------------------------------


@in_virtual_time
async def test_a_commit_leaves_one_offset_for_its_marker_in_each_partition():
    """Offsets have gaps, as in Kafka: nobody may count records."""
    log = await log_with()
    producer = await log.producer("p")
    await producer.commit(Transaction([out(b"1"), out(b"2"), out(b"3", 1)]))

    assert (await offset_of(log, A0), await offset_of(log, A1)) == (3, 2)


@in_virtual_time
async def test_a_commit_of_positions_alone_leaves_no_marker():
    """Its marker goes to the log's own topic of positions."""
    log = await log_with()
    member = await Member.of(log, "m")
    await settle(member)
    producer = await log.producer("p")
    await producer.commit(member.moves(A0, 0))

    assert await offset_of(log) == 0


@in_virtual_time
async def test_an_open_transaction_hides_what_was_written_after_it():
    """The last stable offset: a committed record behind an open one must wait."""
    log = await log_with()
    slow, quick = await log.producer("slow"), await log.producer("quick")
    log.faults.commit = lambda producer, *_: Fault.UNKNOWN if producer == "slow" else None
    with pytest.raises(OutcomeUnknown):
        await slow.commit(of(b"open"))
    await quick.commit(of(b"behind"))
    await log.publish([out(b"published")])

    assert await offset_of(log) == 4  # open, behind, its marker, published
    assert await visible(log) == []
    assert await visible(log, A1) == []


@in_virtual_time
async def test_a_position_stops_at_the_last_stable_offset_and_reaches_the_end_later():
    """K1.2: a restore to the high watermark waits for what is still open, at most 10 s."""
    log = await log_with()
    producer = await log.producer("p")
    log.faults.commit = always(Fault.UNKNOWN)
    with pytest.raises(OutcomeUnknown):
        await producer.commit(of(b"open"))
    reader = log.reader()
    reader.assign({A0: 0})
    await reader.poll(10, 0.1)
    assert reader.position(A0) == 0

    began = log._broker.clock.monotonic()
    while reader.position(A0) < 2:
        assert await reader.poll(10, 20) == []
    assert 9.8 < log._broker.clock.monotonic() - began <= 10.0


@in_virtual_time
async def test_aborted_records_keep_their_offsets_and_are_never_given():
    """C3: what was aborted is passed over, with its marker."""
    log = await log_with()
    producer = await log.producer("p")
    log.faults.commit = once(Fault.ABORTED)
    with pytest.raises(TransactionAborted):
        await producer.commit(of(b"aborted"))
    await producer.commit(of(b"again"))

    assert await visible(log) == [b"again"]
    assert await offset_of(log) == 4


@in_virtual_time
async def test_others_get_a_turn_while_a_transaction_is_open():
    """Even when nothing takes time, a commit is not one indivisible moment."""
    log = await log_with()
    producer = await log.producer("p")
    task = started(producer.commit(of(b"1")))
    await asyncio.sleep(0)

    assert log.open_transactions == 1
    assert await visible(log) == []
    await task
    assert await visible(log) == [b"1"]


@in_virtual_time
async def test_late_markers_show_a_commit_after_its_producer_was_told():
    """Tried on Kafka: a read_committed client may not see yet what a commit has returned for."""
    log = await log_with()
    log.faults.markers = lambda producer: 0.5
    producer = await log.producer("p")
    await producer.commit(of(b"1"))
    assert await visible(log) == []

    await producer.commit(of(b"2"))  # waits until the first one's markers are there
    assert await visible(log) == [b"1"]
    await soon(0.6)
    assert await visible(log) == [b"1", b"2"]


@in_virtual_time
async def test_opening_a_producer_waits_for_the_markers_of_its_namesake():
    """Kafka answers CONCURRENT_TRANSACTIONS until then."""
    log = await log_with()
    log.faults.markers = lambda producer: 0.5
    old = await log.producer("p")
    await old.commit(of(b"1"))
    await log.producer("p")

    assert await visible(log) == [b"1"]


# -- epochs ---------------------------------------------------------------------------------


@in_virtual_time
async def test_opening_a_producer_aborts_what_its_namesake_left_open():
    """R3: the slot's next process need not wait until the time of the transaction is over."""
    log = await log_with()
    log.faults.commit = once(Fault.UNKNOWN)
    old = await log.producer("p")
    with pytest.raises(OutcomeUnknown):
        await old.commit(of(b"open"))
    new = await log.producer("p")
    assert log.open_transactions == 0
    with pytest.raises(Fenced):
        await old.commit(of(b"zombie"))
    await new.commit(of(b"new"))

    assert await visible(log) == [b"new"]


@in_virtual_time
async def test_a_producer_fenced_in_the_middle_of_its_commit_commits_nothing():
    """Its successor comes between its records and their end."""
    log = await log_with()
    log.faults.latency = lambda call, process: 0.4 if call == "commit" else 0.0
    old = await log.producer("p")
    task = started(old.commit(of(b"zombie")))
    await soon(0.25)
    assert log.open_transactions == 1
    new = await log.producer("p")
    with pytest.raises(Fenced):
        await task
    await new.commit(of(b"new"))

    assert await visible(log) == [b"new"]


@in_virtual_time
async def test_a_transaction_that_hangs_is_aborted_when_its_time_is_over():
    """A zombie without a successor stalls readers for 10 s, and no longer."""
    log = await log_with()
    log.faults.commit = always(Fault.HANG)
    producer = await log.producer("p")
    hanging = started(producer.commit(of(b"hangs")))
    await soon()
    await log.publish([out(b"behind")])
    await soon(9.9)
    assert await visible(log) == []
    await soon(0.2)
    assert await visible(log) == [b"behind"]
    assert log.timed_out == 1

    log.faults.commit = None
    assert not hanging.done()
    with pytest.raises(Fenced):  # the epoch was raised
        await producer.commit(of(b"more"))


@in_virtual_time
async def test_whoever_hangs_does_not_know_the_outcome_when_it_is_let_go():
    """The call comes back at last; the transaction is still open."""
    log = await log_with()
    log.faults.commit = always(Fault.HANG)
    producer = await log.producer("p")
    hanging = started(producer.commit(of(b"hangs")))
    await soon()
    log.let_go()
    with pytest.raises(OutcomeUnknown):
        await hanging

    assert log.open_transactions == 1


@in_virtual_time
async def test_closing_a_producer_aborts_what_it_left_open():
    """A commit that was cancelled need not stall anybody."""
    log = await log_with()
    producer = await log.producer("p")
    task = started(producer.commit(of(b"cancelled")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert log.open_transactions == 1
    await producer.close()

    assert log.open_transactions == 0
    assert await visible(log) == []


@in_virtual_time
async def test_a_producer_that_goes_on_aborts_what_it_left_open_itself():
    """After an unknown outcome the same producer must not commit both."""
    log = await log_with()
    log.faults.commit = once(Fault.UNKNOWN)
    producer = await log.producer("p")
    with pytest.raises(OutcomeUnknown):
        await producer.commit(of(b"lost"))
    await producer.commit(of(b"again"))

    assert await visible(log) == [b"again"]


# -- outcomes -------------------------------------------------------------------------------


@in_virtual_time
async def test_an_unknown_outcome_may_have_been_a_commit():
    """The client is told nothing either way."""
    log = await log_with()
    log.faults.commit = always(Fault.UNKNOWN_COMMITTED)
    producer = await log.producer("p")
    with pytest.raises(OutcomeUnknown):
        await producer.commit(of(b"there"))

    assert await visible(log) == [b"there"]


@in_virtual_time
async def test_a_late_end_commits_what_nobody_waits_for_any_more():
    """F10: the request arrives after its sender gave up."""
    log = await log_with()
    log.faults.commit = always(Fault.LATE)
    log.faults.late = lambda producer: 3.0
    producer = await log.producer("p")
    with pytest.raises(OutcomeUnknown):
        await producer.commit(of(b"late"))
    await soon(2.9)
    assert await visible(log) == []
    await soon(0.2)
    assert await visible(log) == [b"late"]


@in_virtual_time
async def test_a_late_end_finds_nothing_once_the_producer_was_opened_anew():
    """R4: init of the same id decides an unknown outcome, for good."""
    log = await log_with()
    log.faults.commit = once(Fault.LATE)
    log.faults.late = lambda producer: 3.0
    old = await log.producer("p")
    with pytest.raises(OutcomeUnknown):
        await old.commit(of(b"late"))
    new = await log.producer("p")
    await new.commit(of(b"new"))
    await soon(4)

    assert await visible(log) == [b"new"]


@in_virtual_time
async def test_a_late_end_finds_nothing_once_the_time_of_its_transaction_is_over():
    """Later than the transaction lasts is too late."""
    log = await log_with()
    log.faults.commit = always(Fault.LATE)
    log.faults.late = lambda producer: 11.0
    producer = await log.producer("p")
    with pytest.raises(OutcomeUnknown):
        await producer.commit(of(b"late"))
    await soon(12)

    assert await visible(log) == []
    assert log.timed_out == 1


@in_virtual_time
async def test_a_fence_aborts_the_transaction():
    """Refused, and surely not there."""
    log = await log_with()
    log.faults.commit = always(Fault.FENCED)
    producer = await log.producer("p")
    with pytest.raises(Fenced):
        await producer.commit(of(b"refused"))

    assert (await visible(log), log.open_transactions) == ([], 0)


@pytest.mark.parametrize(
    ("fault", "error", "there"),
    [
        (Fault.ABORTED, TransactionAborted, False),
        (Fault.FENCED, Fenced, False),
        (Fault.UNKNOWN, OutcomeUnknown, False),
        (Fault.UNKNOWN_COMMITTED, OutcomeUnknown, True),
    ],
)
@in_virtual_time
async def test_publishing_fails_as_it_is_told_to(fault, error, there):
    """A gateway's answer may be lost too: unknown, but never half."""
    log = await log_with()
    log.faults.publish = lambda process, records: fault
    with pytest.raises(error):
        await log.publish([out(b"1"), out(b"2", 1)])

    assert sorted(await visible(log, A0, A1)) == ([b"1", b"2"] if there else [])


@in_virtual_time
async def test_a_late_publish_arrives_by_itself():
    """The request was under way when its sender gave up."""
    log = await log_with()
    log.faults.publish = lambda process, records: Fault.LATE
    with pytest.raises(OutcomeUnknown):
        await log.publish([out(b"1")])
    assert await visible(log) == []
    await soon(2.1)
    assert await visible(log) == [b"1"]


@in_virtual_time
async def test_a_log_that_is_down_aborts_what_was_not_ended():
    """Until the end was asked for, the client knows that nothing was committed."""
    log = await log_with()
    producer = await log.producer("p")
    log.faults.down = True
    with pytest.raises(TransactionAborted):
        await producer.commit(of(b"1"))
    with pytest.raises(LogUnavailable):
        await log.publish([out(b"1")])
    log.faults.down = False
    await producer.commit(of(b"2"))

    assert await visible(log) == [b"2"]


@pytest.mark.parametrize(
    ("point", "error", "there"),
    [
        ("before_begin", TransactionAborted, False),
        ("after_produce", TransactionAborted, False),
        ("in_commit", OutcomeUnknown, False),
        ("after_commit", OutcomeUnknown, True),
    ],
)
@in_virtual_time
async def test_a_log_that_goes_down_in_a_commit_says_what_can_be_known(point, error, there):
    """R4 rests on the difference between a known abort and an unknown outcome."""
    log = await log_with()
    producer = await log.producer("p")

    def reached(where, process, name):
        log.faults.down = log.faults.down or where == point

    log.faults.crash_point = reached
    with pytest.raises(error):
        await producer.commit(of(b"1"))
    log.faults.down, log.faults.crash_point = False, None
    await log.producer("p")

    assert await visible(log) == ([b"1"] if there else [])


# -- what is refused before anything is written -----------------------------------------------


@in_virtual_time
async def test_a_record_over_the_limit_is_refused_with_the_code_of_the_embedded_log():
    """F21: limit - 1 passes, limit + 1 does not, and nothing is half written."""
    log = await log_with(record_limit=1000)
    producer = await log.producer("p")
    await producer.commit(of(b"x" * 999))
    with pytest.raises(LogError) as refused:
        await producer.commit(of(b"ok", b"x" * 1000))

    assert refused.value.code == "K026"
    assert await offset_of(log) == 2


@in_virtual_time
async def test_positions_without_a_membership_are_a_fault_of_the_program():
    """R1 and R2: proof goes with every position."""
    log = await log_with()
    producer = await log.producer("p")
    with pytest.raises(LogError) as refused:
        await producer.commit(Transaction([], {A0: Committed(1)}))

    assert refused.value.code == "K028"
