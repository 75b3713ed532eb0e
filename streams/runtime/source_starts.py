"""Where reading somebody else's topic begins: said once, kept for good.

The first member that comes to a topic notes where each of its partitions begins, in the control
topic; each partition's owner commits that position, together with a note that it did so, before it
reads a record. From then on a partition without a committed position is one whose position was
lost, and nothing is read of it: beginning anew would repeat or skip, and nobody would notice (R5).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from streams.broker.port import Log, Outgoing, TopicPartition
from streams.clock import Clock
from streams.errors import OffsetLost
from streams.runtime.control import ControlReader
from streams.topology.plan import Naming, SourceTopic

EXPLANATIONS: dict[str, str] = {
    "K091": """\
**The position in a source's topic is gone.** The pipeline has read this partition before, but its
group has no committed position there any more: deleted by hand, expired while no worker ran, or the
topic was deleted and made again. Nothing is read of it, since `start` counts once and a guess would
skip or repeat records.

Next: stop the workers, set the group's position (`kafka-consumer-groups --reset-offsets`), start
them. To begin as if it had never been read, delete the records `source/TOPIC` and
`source/TOPIC/PARTITION` of the control topic by tombstones.""",
}


class Begun(msgspec.Struct):
    """What there is to commit before the first record is read, and what cannot begin."""

    positions: dict[TopicPartition, int] = {}
    notes: list[Outgoing] = []
    """For the control topic, in the transaction of the positions."""
    lost: dict[TopicPartition, OffsetLost] = {}


class _Beginning(msgspec.Struct):
    """Of a topic: what was asked for, and what that meant then."""

    start: str | int
    positions: dict[str, int]


class SourceStarts:
    """Finds out where to begin."""

    def __init__(self, log: Log, naming: Naming, control: ControlReader, clock: Clock) -> None:
        self._log = log
        self._naming = naming
        self._control = control
        self._clock = clock

    async def of(
        self, places: Collection[TopicPartition], sources: Mapping[str, SourceTopic]
    ) -> Begun:
        """Where these partitions begin, in which their group has no position."""
        await self._control.wait_until(await self._control.end())
        begun = Begun()
        for topic in sorted({place.topic for place in places}):
            mine = sorted(place for place in places if place.topic == topic)
            await self._begin(begun, sources[topic], mine)
        return begun

    async def _begin(
        self, begun: Begun, source: SourceTopic, places: Collection[TopicPartition]
    ) -> None:
        known = self._control.table.sources
        noted = known.get(source.topic)
        if noted is None:
            beginning = await self._beginning(source)
            begun.notes.append(self._note(source.topic, beginning))
        else:
            beginning = msgspec.convert(noted, _Beginning)
        lows = await self._log.watermarks(places)
        for place in places:
            name = f"{place.topic}/{place.partition}"
            if name in known:
                begun.lost[place] = OffsetLost(
                    f"{self._naming.source_group} has no position in {name} any more, and has"
                    f" read it from {known[name]['offset']} on; it holds {lows[place].low}"
                    f" to {lows[place].high}",
                    code="K091",
                    help="Stop the workers, set the group's position, start them.",
                )
                continue
            # A partition that was added later has nothing that is older than the topic's beginning.
            at = beginning.positions.get(str(place.partition), lows[place].low)
            begun.positions[place] = at
            begun.notes.append(self._note(name, {"offset": at, "at": self._clock.now()}))

    async def _beginning(self, source: SourceTopic) -> _Beginning:
        """For every partition of the topic, so that all members mean the same moment."""
        width = (await self._log.topics())[source.topic].partitions
        places = [TopicPartition(source.topic, number) for number in range(width)]
        if isinstance(source.start, int):
            found = await self._log.offsets_at(dict.fromkeys(places, source.start))
        else:
            marks = await self._log.watermarks(places)
            first = source.start == "earliest"
            found = {place: mark.low if first else mark.high for place, mark in marks.items()}
        positions = {str(place.partition): offset for place, offset in found.items()}
        return _Beginning(source.start, positions)

    def _note(self, name: str, value: object) -> Outgoing:
        key = f"source/{name}".encode()
        return Outgoing(self._naming.control, key, msgspec.json.encode(value), (), 0)
