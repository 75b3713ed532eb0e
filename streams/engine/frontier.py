"""Which offset may be committed, and which offsets beyond it are not finished yet.

Work ends out of order; a commit must never pass an unfinished event, and a restart must not repeat
finished ones. So each commit carries, beside the first unfinished offset, the list of the other
unfinished ones below `high`. Every offset below `high` that is not listed is finished or a hole
(a marker, a compacted record).

Metadata text: `version;deaths;suspect;high;unfinished`. `unfinished` is base 85 of varints: the
gaps between successive unfinished offsets, counted from the committed one. An owner that leaves in
order writes the version as `1c`; `deaths` counts the owners that did not, `suspect` is the event
that was running alone when the last one went.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Iterable, Iterator

from streams.errors import LogError

LONGEST = 4000
"""Characters of metadata that every broker accepts (4,095 is refused)."""
LIST_BYTES = 3_100
"""What the list of unfinished offsets may take before base 85 makes five characters of four."""
ONE_POLL = 500


class Frontier:
    """In-flight offsets of one partition, from one assignment to the next."""

    __slots__ = (
        "_handed",
        "_heap",
        "_pending",
        "clean",
        "deaths",
        "high",
        "suspect",
        "trouble_until",
    )

    def __init__(self, offset: int = 0, metadata: str = "") -> None:
        self._pending: set[int] = set()
        self._handed: set[int] = set()
        self.high = offset
        self.deaths = 0
        self.suspect: int | None = None
        self.clean = True
        self.trouble_until = 0
        if metadata:
            self.clean, self.deaths, self.suspect, high, unfinished = parse(offset, metadata)
            self.high = max(high, offset)
            self._pending.update(unfinished)
            if offset < self.high:
                self._pending.add(offset)
        self._heap = sorted(self._pending)

    def take_over(self, end: int) -> None:
        """Counts the former owner's death, if it left in disorder; `end`: the log's end now."""
        if self.clean:
            self.deaths, self.suspect = 0, None
        else:
            self.deaths += 1
            self.trouble_until = end
        self.clean = False

    def start(self, offset: int) -> bool:
        """Hands the offset out; False if it is finished or already in hand."""
        if offset >= self.high:
            self._pending.add(offset)
            heapq.heappush(self._heap, offset)
            self.high = offset + 1
        elif offset not in self._pending or offset in self._handed:
            return False
        self._handed.add(offset)
        return True

    def finish(self, offset: int) -> None:
        """From now on every commit counts it as done."""
        self._pending.discard(offset)
        self._handed.discard(offset)

    @property
    def in_hand(self) -> int:
        return len(self._handed)

    @property
    def offset(self) -> int:
        """The first unfinished offset: what may be committed."""
        while self._heap and self._heap[0] not in self._pending:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else self.high

    def commit(self, *, clean: bool = False) -> tuple[int, str]:
        """Offset and metadata to commit. Raises `LogError` when the list is too long: ask `full`."""
        offset = self.offset
        if self.deaths and offset >= self.trouble_until:
            self.deaths, self.suspect = 0, None
        listed = sorted(self._pending - {offset}) if len(self._pending) > 1 else ()
        text = ";".join(
            (
                "1c" if clean else "1",
                str(self.deaths),
                "" if self.suspect is None else str(self.suspect),
                str(self.high) if self.high > offset else "",
                base64.b85encode(bytes(_varints(offset, listed))).decode() if listed else "",
            )
        )
        if len(text) > LONGEST:
            raise LogError("more unfinished events than a commit can list", code="K030")
        return offset, text

    @property
    def full(self) -> bool:
        """Take no more: with another poll's worth the list might not fit into the metadata."""
        span = max(self.high - self.offset, 1)
        each = (span.bit_length() + 6) // 7
        return (len(self._pending) + ONE_POLL) * each > LIST_BYTES


def parse(offset: int, metadata: str) -> tuple[bool, int, int | None, int, list[int]]:
    """(clean, deaths, suspect, high, unfinished beyond the offset)."""
    fields = metadata.split(";", 4)
    if len(fields) != 5 or fields[0] not in ("1", "1c"):
        raise LogError(
            f"offset metadata of an unknown version: {metadata[:40]!r}",
            code="K031",
            help="A newer worker wrote it: run the newer version, or wait until it has left.",
        )
    version, deaths, suspect, high, deltas = fields
    unfinished = list(_offsets(offset, base64.b85decode(deltas))) if deltas else []
    return (
        version == "1c",
        int(deaths or 0),
        int(suspect) if suspect else None,
        int(high) if high else offset,
        unfinished,
    )


def _varints(base: int, offsets: Iterable[int]) -> Iterator[int]:
    for offset in offsets:
        gap, base = offset - base, offset
        while gap >= 0x80:
            yield gap & 0x7F | 0x80
            gap >>= 7
        yield gap


def _offsets(base: int, data: bytes) -> Iterator[int]:
    gap = shift = 0
    for byte in data:
        gap |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            base += gap
            yield base
            gap = shift = 0
