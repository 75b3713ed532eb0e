"""A simulated log in virtual time, and members that poll when they are told to."""

import asyncio
import functools

from streams.broker.port import Committed, Outgoing, TopicPartition, TopicSpec, Transaction
from streams.testing.simulated_log import SimulatedLog
from streams.testing.virtual_time import VirtualClock, virtual_loop

A0 = TopicPartition("a", 0)
A1 = TopicPartition("a", 1)


def in_virtual_time(test):
    """The async test, run on a loop of its own whose time is a number."""

    @functools.wraps(test)
    def run(*given, **more):
        with virtual_loop() as loop:
            loop.run(test(*given, **more))

    return run


def new_log(**options):
    return SimulatedLog(VirtualClock(asyncio.get_running_loop()), **options)


async def log_with(*topics, partitions=2, **options):
    log = new_log(**options)
    await log.create_topics([TopicSpec(name, partitions) for name in topics or ("a",)])
    return log


def out(value, partition=0, *, topic="a", key=b"k"):
    return Outgoing(topic, key, value, partition=partition)


def of(*values, partition=0, **more):
    """A transaction of these values."""
    return Transaction([out(value, partition, **more) for value in values])


async def visible(log, *places):
    """The values that a reader from the beginning is given now."""
    reader = log.reader()
    reader.assign(dict.fromkeys(places or (A0,), 0))
    values = []
    while found := await reader.poll(100, 0):
        values += [record.value for record in found]
    await reader.close()
    return values


async def soon(seconds=0.001):
    """What can happen happens, and so much time passes."""
    await asyncio.sleep(seconds)


def started(work):
    """A task for it, that has had its first turns."""
    return asyncio.ensure_future(work)


class Member:
    """A member of group `g`."""

    def __init__(self, consumer):
        self.consumer = consumer
        self.owned = {}
        self.values = []
        self.proof = None
        self.last = None

    @classmethod
    async def of(cls, log, name, *topics, group="g"):
        consumer = log.consumer(group, name)
        await consumer.subscribe(topics or ("a",))
        return cls(consumer)

    async def poll(self, timeout=0.01):
        self.last = poll = await self.consumer.poll(100, timeout)
        for place in poll.lost | poll.revoked:
            self.owned.pop(place, None)
        self.owned.update(poll.assigned)
        self.values += [record.value for record in poll.records]
        self.proof = poll.membership
        return poll

    def moves(self, place, offset, *records):
        return Transaction(list(records), {place: Committed(offset)}, self.proof)


async def settle(*members, rounds=8):
    """Enough polls for every rebalance to be over."""
    for _ in range(rounds):
        for member in members:
            await member.poll()


async def keep_polling(member):
    """As a worker does; to be cancelled."""
    while True:
        await member.poll(0.25)
