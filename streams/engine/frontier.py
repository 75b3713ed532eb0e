"""Which offset may be committed, and which offsets beyond it are not finished yet.

Work ends out of order; a commit must never pass an unfinished event, and a restart must not repeat
finished ones. So each commit carries, beside the first unfinished offset, the list of the other
unfinished ones below `high`. Every offset below `high` that is not listed is finished or a hole
(a marker, a compacted record).

Metadata text: `version;deaths;suspect;high;unfinished`. `unfinished` is base 85 of varints: the
gaps between successive unfinished offsets, counted from the committed one. An owner that leaves in
order writes the version as `1c`; `deaths` counts the owners that did not, `suspect` is the event
that was running alone when the last one went.

Some events are taken before their turn: those of higher priority, from behind a long backlog
(`runtime.scout`). The finished ones among them are named until the reading has come to them:
version `2`, with a field more before `unfinished`: first and last offset of each run in which all
is finished or a hole, as base 64 of their gaps, counted from `high`.
"""

from __future__ import annotations

import base64
import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from streams.errors import LogError

LONGEST = 4000
"""Characters of metadata that every broker accepts (4,095 is refused)."""
LIST_BYTES = 3_100
"""What the list of unfinished offsets may take before base 85 makes five characters of four."""
ONE_POLL = 500
MOST_RUNS = 100
"""Runs of events of one partition taken before their turn: their list has to fit as well."""
AHEAD_BYTES = 6 * MOST_RUNS


class Frontier:
    """In-flight offsets of one partition, from one assignment to the next."""

    __slots__ = (
        "_handed",
        "_heap",
        "_open",
        "_pending",
        "_spans",
        "clean",
        "deaths",
        "high",
        "suspect",
        "trouble_until",
    )

    def __init__(self, offset: int = 0, metadata: str = "") -> None:
        self._pending: set[int] = set()
        self._handed: set[int] = set()
        self._spans: list[list[int]] = []
        """First and last offset of what was taken before its turn, in order: all between was."""
        self._open: set[int] = set()
        """What of it is not finished."""
        self.high = offset
        self.deaths = 0
        self.suspect: int | None = None
        self.clean = True
        self.trouble_until = 0
        if metadata:
            stood = parse(offset, metadata)
            self.clean, self.deaths, self.suspect, high, ahead, unfinished = stood
            self.high = max(high, offset)
            self._spans = [list(pair) for pair in zip(ahead[::2], ahead[1::2], strict=True)]
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
            self.high = offset + 1
            taken = bool(self._spans) and self._pass(offset)
            if taken and offset not in self._open:
                return False
            self._pending.add(offset)
            heapq.heappush(self._heap, offset)
            if taken:
                self._open.discard(offset)
                self._handed.add(offset)
                return False
        elif offset not in self._pending or offset in self._handed:
            return False
        self._handed.add(offset)
        return True

    def _pass(self, offset: int) -> bool:
        """Whether the offset, whose turn it is, was taken before."""
        spans = self._spans
        while spans and spans[0][1] < offset:
            del spans[0]
        return bool(spans) and spans[0][0] <= offset

    def start_ahead(self, offset: int, after: int | None = None) -> bool:
        """Hands out an offset before its turn; False where that has come, it was taken, or there is
        no room. `after`: the record right before it, as far as that was read."""
        if offset < self.high or self.room_ahead <= 0:
            return False
        spans = self._spans
        place = bisect_right(spans, offset, key=_first)
        if place and offset <= spans[place - 1][1]:
            return False
        if place and spans[place - 1][1] == after:
            spans[place - 1][1] = offset
        else:
            spans.insert(place, [offset, offset])
        self._open.add(offset)
        return True

    @property
    def room_ahead(self) -> int:
        """How many more may be taken before their turn."""
        return MOST_RUNS - len(self._spans) - len(self._open)

    def _runs(self) -> list[int]:
        """First and last offset of each run, taken before its turn, in which nothing is open."""
        found: list[int] = []
        for first, last in self._spans:
            begin = max(first, self.high)
            for each in sorted(o for o in self._open if begin <= o <= last):
                if begin < each:
                    found += (begin, each - 1)
                begin = each + 1
            if begin <= last:
                found += (begin, last)
        return found

    def finish(self, offset: int) -> None:
        """From now on every commit counts it as done."""
        self._pending.discard(offset)
        self._handed.discard(offset)
        self._open.discard(offset)

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
        runs = self._runs() if self._spans else ()
        version = "2" if runs else "1"
        fields = [
            f"{version}c" if clean else version,
            str(self.deaths),
            "" if self.suspect is None else str(self.suspect),
            str(self.high) if self.high > offset else "",
            base64.b85encode(bytes(_varints(offset, listed))).decode() if listed else "",
        ]
        if runs:
            ahead = bytes(_varints(self.high, runs))
            fields.insert(4, base64.b64encode(ahead).decode())
        text = ";".join(fields)
        if len(text) > LONGEST:
            raise LogError("more unfinished events than a commit can list", code="K030")
        return offset, text

    @property
    def full(self) -> bool:
        """Take no more: with another poll's worth the list might not fit into the metadata."""
        span = max(self.high - self.offset, 1)
        each = (span.bit_length() + 6) // 7
        listed = len(self._pending)
        # Of the gaps no more take a byte more than fit into the span.
        size = listed + sum(min(listed, span >> 7 * more) for more in range(1, each))
        return size + ONE_POLL * each + AHEAD_BYTES > LIST_BYTES


def parse(offset: int, metadata: str) -> tuple[bool, int, int | None, int, list[int], list[int]]:
    """(clean, deaths, suspect, high, runs finished before their turn, unfinished beyond the offset);
    of each run its first and its last offset."""
    fields = metadata.split(";", 5 if metadata.startswith("2") else 4)
    if len(fields) == 5 and fields[0] in ("1", "1c"):
        fields.insert(4, "")
    if len(fields) != 6 or fields[0] not in ("1", "1c", "2", "2c"):
        raise LogError(
            f"offset metadata of an unknown version: {metadata[:40]!r}",
            code="K031",
            help="A newer worker wrote it: run the newer version, or wait until it has left.",
        )
    version, deaths, suspect, high, gaps, deltas = fields
    top = int(high) if high else offset
    ahead = list(_offsets(top, base64.b64decode(gaps))) if gaps else []
    unfinished = list(_offsets(offset, base64.b85decode(deltas))) if deltas else []
    return (
        version.endswith("c"),
        int(deaths or 0),
        int(suspect) if suspect else None,
        top,
        ahead,
        unfinished,
    )


def _first(span: list[int]) -> int:
    return span[0]


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
