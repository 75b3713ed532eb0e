"""Where reading somebody else's topic begins: said once, kept for good.

The first member that comes to a topic notes where each of its partitions begins, in the control
topic; each partition's owner commits that position as `first_positions` says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from streams.broker.port import Log, Outgoing, TopicPartition
from streams.clock import Clock
from streams.errors import OffsetLost
from streams.runtime.control import ControlReader
from streams.runtime.first_positions import FirstPositions
from streams.topology.plan import Naming, SourceTopic

EXPLANATIONS: dict[str, str] = {
    "K091": """\
**The position in a source's topic is gone.** The pipeline has read this partition before, but its
group has no committed position there any more: deleted by hand, expired while no worker ran, or the
topic was deleted and made again. Nothing is read of it, since `start` counts once and a guess would
skip or repeat records.

Next: stop the workers, look at what `streams recover` shows, let it set the position, start them.
To begin as if it had never been read, delete the records `source/TOPIC` and
`begun/GROUP/TOPIC/PARTITION` of the control topic by tombstones.""",
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
        self._first = FirstPositions(naming, control, clock, naming.source_group, "K091")

    async def of(
        self, places: Collection[TopicPartition], sources: Mapping[str, SourceTopic]
    ) -> Begun:
        """Where these partitions begin, in which their group has no position."""
        await self._first.look()
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
            key = f"source/{source.topic}".encode()
            value = msgspec.json.encode(beginning)
            begun.notes.append(Outgoing(self._naming.control, key, value, (), 0))
        else:
            beginning = msgspec.convert(noted, _Beginning)
        marks = await self._log.watermarks(places)
        lost = self._first.lost(places, marks)
        begun.lost.update(lost)
        for place in places:
            if place in lost:
                continue
            # A partition that was added later has nothing that is older than the topic's beginning.
            at = beginning.positions.get(str(place.partition), marks[place].low)
            begun.positions[place] = at
            begun.notes.append(self._first.note(place, at))

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
