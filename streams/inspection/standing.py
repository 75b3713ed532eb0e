"""Where every group of a pipeline stands, and which positions it has lost.

A position is lost in one of three ways: it is not there, though a note in the control topic says
that reading has begun (`runtime.first_positions`); it lies below what is left of the partition; or
above all of it, since the topic is another one than it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from streams.broker.port import Committed, Log, TopicPartition, TopicSpec, Watermarks
from streams.runtime.control import ControlTable, begun_name
from streams.topology.plan import USER_CODE, Naming, Plan

State = Literal["fine", "new", "missing", "below", "above"]
LOST: frozenset[State] = frozenset({"missing", "below", "above"})


class Stand(msgspec.Struct, frozen=True):
    """One group in one partition."""

    group: str
    place: TopicPartition
    committed: Committed | None
    marks: Watermarks
    begun: int | None
    """Its first position, as far as that was noted."""
    members: tuple[str, ...]
    """Who is in the group now: while there is somebody, no position of it can be set."""

    @property
    def state(self) -> State:
        if self.committed is None:
            return "new" if self.begun is None else "missing"
        if self.committed.offset < self.marks.low:
            return "below"
        return "above" if self.committed.offset > self.marks.high else "fine"

    @property
    def is_lost(self) -> bool:
        return self.state in LOST


def read_by(naming: Naming, plans: Iterable[Plan]) -> Mapping[str, list[str]]:
    """Every group of these plans → the topics that it reads."""
    plans = list(plans)
    found: dict[str, set[str]] = {naming.keeper_group: {naming.intake, naming.hold}}
    for plan in plans:
        for part in plan.parts:
            if part.kind in USER_CODE:
                found.setdefault(naming.pool_group(part.pool), set()).add(naming.stage(part.path))
        for source in plan.sources:
            found.setdefault(naming.source_group, set()).add(source.topic)
    return {group: sorted(topics) for group, topics in sorted(found.items())}


async def stands(log: Log, naming: Naming, table: ControlTable) -> list[Stand]:
    """All of them, in the order of their names."""
    known = await log.topics()
    found = []
    for group, topics in read_by(naming, table.plans.values()).items():
        places = _places(known, topics)
        marks = await log.watermarks(places)
        committed = await log.positions(group)
        members = tuple(await log.members(group))
        for place in places:
            begun = table.begun.get(begun_name(group, place))
            first = None if begun is None else begun.offset
            at = committed.get(place)
            found.append(Stand(group, place, at, marks[place], first, members))
    return found


def _places(known: Mapping[str, TopicSpec], topics: Iterable[str]) -> list[TopicPartition]:
    return [
        TopicPartition(topic, number)
        for topic in topics
        if topic in known
        for number in range(known[topic].partitions)
    ]
