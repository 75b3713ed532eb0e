"""Records that came but may not be given yet: those of paused partitions.

The library throws away what it has fetched when a partition is paused, and lanes pause and resume
theirs many times a second. So a paused partition is left to run for a while, and what comes is
kept here; only one that stays paused is paused in the library too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container

from streams.broker.port import Record, TopicPartition

FULL = 1_000
"""Records of one partition above which the library shall fetch no more of it."""
LOW = 250


class Backlog:
    """What came of each partition and was not given."""

    def __init__(self) -> None:
        self._kept: dict[TopicPartition, deque[Record]] = {}

    def add(self, place: TopicPartition, record: Record) -> None:
        """Given when the partition's turn comes."""
        self._kept.setdefault(place, deque()).append(record)

    def __contains__(self, place: object) -> bool:
        return place in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, most: int, paused: Container[TopicPartition]) -> list[Record]:
        """Records of partitions that are not paused, each partition's in order."""
        taken: list[Record] = []
        for place in list(self._kept):
            if place in paused:
                continue
            kept = self._kept[place]
            while kept and len(taken) < most:
                taken.append(kept.popleft())
            if not kept:
                del self._kept[place]
        return taken

    def drop(self, place: TopicPartition) -> None:
        """Nothing of it will be given."""
        self._kept.pop(place, None)

    def full(self) -> set[TopicPartition]:
        """Partitions of which enough is here."""
        return {place for place, kept in self._kept.items() if len(kept) >= FULL}

    def low(self, place: TopicPartition) -> bool:
        """Whether more of it may come again."""
        return len(self._kept.get(place, ())) <= LOW
