"""Two members read a topic of others while everything goes wrong: killed, frozen, commits that
arrive late or whose outcome nobody knows. Each record is submitted once, and none is left out."""

import asyncio
import contextlib
import functools
import json
from random import Random

import pytest

from streams.blobs import BlobStore
from streams.broker.port import Outgoing, TopicPartition, TopicSpec
from streams.errors import Fenced
from streams.observe.metrics import Metrics
from streams.runtime.control import ControlReader
from streams.runtime.figures import Figures
from streams.runtime.setup import apply
from streams.runtime.source import Source
from streams.testing.faults import Fault
from streams.testing.simulated_log import SimulatedLog
from streams.testing.virtual_time import VirtualClock, virtual_loop
from streams.topology.check import check_text
from streams.topology.plan import Naming

NAMING = Naming("t", "p")
TEXT = """
source: {topic: orders, format: json, id: "${{ data.id }}"}
stages: [{id: a, echo: hi}]
"""
PLACES = [TopicPartition("orders", number) for number in range(3)]
FAULTS = [Fault.ABORTED, Fault.UNKNOWN, Fault.UNKNOWN_COMMITTED, Fault.LATE]


def in_virtual_time(test):
    @functools.wraps(test)
    def run(*given, **more):
        with virtual_loop() as loop:
            loop.run(test(*given, **more))

    return run


class World:
    """A simulated cluster, two members, and chance."""

    def __init__(self, seed, folder):
        self.chance = Random(seed)
        self.clock = VirtualClock(asyncio.get_running_loop(), seed=seed)
        self.log = SimulatedLog(self.clock, seed=seed, record=False)
        self.log.faults.commit = self.fault
        self.calm = False
        self.folder = folder
        self.tasks = {}
        self.written = []

    def fault(self, *_):
        return self.chance.choice(FAULTS) if not self.calm and self.chance.random() < 0.15 else None

    async def begin(self):
        plan, _ = check_text("pipeline: p\n" + TEXT, "p.yaml")
        self.calm = True
        await apply(self.log, NAMING, plan, self.clock, 2)
        await self.log.create_topics([TopicSpec("orders", 3)])
        self.calm = False

    async def member(self, name):
        """A life of a member: it ends when it is killed, or begins anew when it gave up."""
        view = self.log.process(name)
        while True:
            control = ControlReader(view, NAMING, self.clock)
            await control.start()
            source = Source(
                view, NAMING, control, self.clock,
                worker=name, partitions=2, blobs=BlobStore(str(self.folder)), registry="",
                figures=Figures(Metrics(), NAMING, self.clock),
            )  # fmt: skip
            with contextlib.suppress(Fenced):
                await source.run()
            await control.close()

    def start(self, name):
        self.tasks[name] = asyncio.create_task(self.member(name))

    async def kill(self, name):
        self.log.kill(name)
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.wait([task], timeout=1)

    async def write(self, count):
        for _ in range(count):
            name = f"r{len(self.written)}"
            self.written.append(name)
            value = json.dumps({"id": name}).encode()
            partition = self.chance.randrange(3)
            await self.log.publish([Outgoing("orders", None, value, (), partition)])

    async def submitted(self):
        """Keys of all that stands in the intake."""
        places = [TopicPartition(NAMING.intake, number) for number in range(2)]
        marks = await self.log.watermarks(places)
        reader = self.log.reader()
        reader.assign(dict.fromkeys(places, 0))
        found = []
        while any(reader.position(place) < marks[place].high for place in places):
            found += [record.key.decode() for record in await reader.poll(500, 1.0)]
        await reader.close()
        return found

    async def read_up(self):
        """Both members are well, and stand at the ends."""
        until = self.clock.monotonic() + 300
        marks = await self.log.watermarks(PLACES)
        while True:
            at = await self.log.positions(NAMING.source_group)
            if all(p in at and at[p].offset >= marks[p].high for p in PLACES):
                return
            assert self.clock.monotonic() < until, (at, marks)
            await self.clock.sleep(0.5)


@pytest.mark.parametrize("seed", range(30))
@in_virtual_time
async def test_each_record_is_submitted_once_and_none_is_left_out(seed, tmp_path):
    """G1, G2, R1-R5: the position and what follows from the records are one transaction, and a
    zombie's is refused."""
    world = World(seed, tmp_path)
    await world.begin()
    for name in ("w1", "w2"):
        world.start(name)
    for _ in range(10):
        await world.write(world.chance.randrange(12))
        await world.clock.sleep(world.chance.random() * 4)
        name = world.chance.choice(["w1", "w2"])
        what = world.chance.random()
        if what < 0.3:
            await world.kill(name)
            await world.clock.sleep(world.chance.random() * 8)
            world.start(name)
        elif what < 0.6:
            world.log.freeze(name)
            await world.clock.sleep(world.chance.random() * 20)
            world.log.thaw(name)
    world.calm = True
    await world.read_up()

    assert sorted(await world.submitted()) == sorted(world.written)
    for name in list(world.tasks):
        await world.kill(name)
