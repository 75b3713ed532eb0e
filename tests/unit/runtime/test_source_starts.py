"""Where reading begins, partition by partition."""

import contextlib

import pytest

from streams.broker.local import LocalLog
from streams.broker.port import Outgoing, TopicPartition, TopicSpec
from streams.clock import SystemClock
from streams.runtime.control import ControlReader
from streams.runtime.source_starts import SourceStarts
from streams.topology.plan import Naming, SourceTopic

NAMING = Naming("t", "p")
FIRST, SECOND = TopicPartition("orders", 0), TopicPartition("orders", 1)


@contextlib.asynccontextmanager
async def starts():
    """(log, what finds the beginnings)."""
    clock = SystemClock()
    log = LocalLog.open(None, clock=clock)
    await log.create_topics([TopicSpec("orders", 2), TopicSpec(NAMING.control, 1, "compact")])
    await log.publish([Outgoing("orders", None, b"%d" % n, (), n % 2) for n in range(4)])
    control = ControlReader(log, NAMING, clock)
    await control.start()
    yield log, SourceStarts(log, NAMING, control, clock)
    await control.close()
    await log.close()


def latest(topic="orders"):
    return {topic: SourceTopic(topic, start="latest")}


async def test_the_first_member_notes_the_beginning_of_every_partition():
    """All members mean the same moment, whenever they come."""
    async with starts() as (log, found):
        begun = await found.of([FIRST], latest())
        await log.publish(begun.notes)
        await log.publish([Outgoing("orders", None, b"since", (), 1)])
        other = await found.of([SECOND], latest())

    assert begun.positions == {FIRST: 2}
    assert other.positions == {SECOND: 2}, "the end of when the first one came"
    assert [note.key for note in other.notes] == [b"begun/t.p.source/orders/1"]


async def test_a_partition_that_is_added_later_is_read_from_its_beginning():
    """All of it is newer than the beginning of the topic."""
    async with starts() as (log, found):
        begun = await found.of([FIRST, SECOND], latest())
        beginning = begun.notes[0].value.replace(b',"1":2', b"")
        await log.publish([Outgoing(NAMING.control, b"source/orders", beginning, (), 0)])

        assert (await found.of([SECOND], latest())).positions == {SECOND: 0}


async def test_a_partition_that_was_begun_and_has_no_position_is_lost():
    """R5: neither earliest nor latest."""
    async with starts() as (log, found):
        begun = await found.of([FIRST], latest())
        await log.publish(begun.notes)
        again = await found.of([FIRST, SECOND], latest())

    assert again.positions == {SECOND: 2}
    assert again.lost[FIRST].code == "K091"
    assert "from 2 on; it holds 0 to 2" in again.lost[FIRST].message


@pytest.mark.parametrize("deleted", [b"begun/t.p.source/orders/0"])
async def test_who_deletes_the_notes_begins_anew(deleted):
    """What `streams explain K091` says."""
    async with starts() as (log, found):
        await log.publish((await found.of([FIRST], latest())).notes)
        await log.publish([Outgoing(NAMING.control, deleted, None, (), 0)])

        assert (await found.of([FIRST], latest())).positions == {FIRST: 2}
