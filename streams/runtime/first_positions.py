"""A group's first position in a partition is committed together with a note that it began there.

The note stands in the control topic, for each group and partition, in the transaction of the
position: either both are there or neither. So a partition without a position is one of two things.
Without a note nobody of the group has read it, and it begins. With one the position was lost, and
nothing is read: beginning anew would do again, or skip, what nobody would notice (R5).

Each group has notes of its own: while two versions of a pipeline are under way, two pools may read
the same stage's topic, each passing over what belongs to the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from streams.broker.port import Committed, Outgoing, TopicPartition, Watermarks
from streams.clock import Clock
from streams.errors import OffsetLost
from streams.runtime.control import Begun, ControlReader, begun_name
from streams.topology.plan import Naming

EXPLANATIONS: dict[str, str] = {
    "K096": """\
**A group's position in the pipeline's own topics is gone.** It has read these partitions before,
and has no committed position there any more: deleted by hand, expired while no worker ran, or the
topic was deleted and made again. Nothing is read of them: beginning anew would do finished work
again. The worker ends.

Next: stop the group's workers, look at what `streams recover` shows, and let it set the positions:
`streams recover --apply`. It finds out from the ledger which events are finished.""",
}


class FirstPositions:
    """Which partitions a group may begin, and which it began before."""

    def __init__(
        self, naming: Naming, control: ControlReader, clock: Clock, group: str, code: str = "K096"
    ) -> None:
        self._naming = naming
        self._control = control
        self._clock = clock
        self._group = group
        self._code = code

    async def look(self) -> None:
        """Every note is known that was there at the call."""
        await self._control.wait_until(await self._control.end())

    async def notes(
        self,
        assigned: Mapping[TopicPartition, Committed | None],
        marks: Mapping[TopicPartition, Watermarks],
    ) -> list[Outgoing]:
        """What to commit with the first positions, at the low watermarks, of those that have none.
        Raises `OffsetLost` if one of them had one: then nothing of any is to be read."""
        new = sorted(place for place, committed in assigned.items() if committed is None)
        if not new:
            return []
        await self.look()
        lost = self.lost(new, marks)
        if lost:
            raise self._all_of(lost)
        return [self.note(place, marks[place].low) for place in new]

    def note(self, place: TopicPartition, offset: int) -> Outgoing:
        """For the control topic, in the transaction of the position."""
        key = f"begun/{begun_name(self._group, place)}".encode()
        value = msgspec.json.encode(Begun(offset, self._clock.now()))
        return Outgoing(self._naming.control, key, value, (), 0)

    def lost(
        self, places: Collection[TopicPartition], marks: Mapping[TopicPartition, Watermarks]
    ) -> dict[TopicPartition, OffsetLost]:
        """Those of these, which have no position, that the group has begun before."""
        found = {}
        for place in places:
            begun = self._control.table.begun.get(begun_name(self._group, place))
            if begun is None:
                continue
            low, high = marks[place]
            found[place] = OffsetLost(
                f"{self._group} has no position in {place.topic}/{place.partition} any more, and"
                f" has read it from {begun.offset} on; it holds {low} to {high}",
                code=self._code,
                help="Stop the group's workers, then: `streams recover` shows what is lost, and"
                " sets the positions with --apply.",
            )
        return found

    def _all_of(self, lost: Mapping[TopicPartition, OffsetLost]) -> OffsetLost:
        first = next(iter(lost.values()))
        if len(lost) == 1:
            return first
        more = f"{first.message} (and so in {len(lost) - 1} more)"
        return OffsetLost(more, code=first.code, help=first.help)
