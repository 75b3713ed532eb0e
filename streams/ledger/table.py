"""One partition of the ledger as a table: restored from the topic, kept up with it.

The owner applies its own rows as soon as they are committed; when it reads them back later they
are no news. A row of somebody else counts if its order is higher than what stands there.

Scopes in work are at hand, as dictionaries; all others lie in the cold store until somebody asks
for them. What is at hand counts, also where the cold store has an older copy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from sys import intern
from types import MappingProxyType

from streams.engine.rows import ENDED, Address, head, is_row
from streams.ledger.cold import NO_JOB, OPEN, OVER, ColdStore, Place, Put, Stand

Changed = Callable[[str, str, bytes | None, bytes | None], None]
"""scope, part, former bytes, new bytes."""

ROW_OVERHEAD = 150
"""What a row at hand takes in memory beside its bytes."""
SCOPE_OVERHEAD = 400
MOST_ABSENT = 10_000

_NONE: Mapping[str, bytes] = MappingProxyType({})


class LedgerTable:
    """scope → part → bytes. Bytes are decoded where they are looked at, not here."""

    def __init__(self, changed: Changed | None = None, cold: ColdStore | None = None) -> None:
        self._hot: dict[str, dict[str, bytes]] = {}
        """Scopes at hand, those touched last at the end."""
        self._cold = cold or ColdStore(Stand(0, "", "", 0))
        self._places: dict[str, Place] = {}
        """Where the cold copies of scopes at hand lie."""
        self._dirty: dict[str, None] = {}
        """Scopes at hand that have changed since they were copied, or never were."""
        self._gone: dict[str, Place] = {}
        """Scopes that are no more, but still have a cold copy."""
        self._absent: set[str] = set()
        """Scopes known not to be in the cold store."""
        self._unread: dict[str, int] = {}
        """Rows of this owner that will be read back, by their keys."""
        self._changed = changed
        self.position = self._cold.stand.position
        """Offset of the next ledger record to apply."""
        self.count = self._cold.stand.rows
        self.strange = 0
        """Records of the topic that are no rows; passed over, and told by whoever owns the table."""
        self.rows_at_hand = 0
        self.bytes_at_hand = 0
        """About as much memory as the scopes at hand take."""
        for scope, parts in self._cold.watched():
            for part, data in parts.items():
                self._tell(scope, part, None, data)

    def rows(self, scope: str) -> Mapping[str, bytes]:
        """All rows of a scope; not to be kept across a change."""
        return self._at_hand(scope) or _NONE

    def has(self, scope: str) -> bool:
        """Whether the scope has any row."""
        return scope in self._hot or (scope not in self._gone and self._cold.has(scope))

    def scopes(self) -> Iterator[str]:
        """All of them: those at hand, then the others."""
        yield from tuple(self._hot)
        yield from (scope for scope in self._cold.scopes() if self._counts_cold(scope))

    def unsettled(self) -> Iterator[tuple[str, bool]]:
        """Every scope whose job has not ended, and whether it has a job at all."""
        for scope, parts in tuple(self._hot.items()):
            if (kind := _kind_of(parts)) != OVER:
                yield scope, kind == OPEN
        for scope, kind in self._cold.unsettled():
            if self._counts_cold(scope):
                yield scope, kind == OPEN

    def __len__(self) -> int:
        return self.count

    # -- changes ----------------------------------------------------------------------------

    def committed(self, scope: str, part: str, data: bytes | None) -> None:
        """Applies a row that this owner wrote; it will be read back once."""
        address = f"{scope}|{part}"
        self._unread[address] = self._unread.get(address, 0) + 1
        self._set(scope, part, data, self._at_hand(scope))

    def read(self, key: bytes, data: bytes | None, offset: int) -> Address | None:
        """Applies a record of the topic; the address if it was news."""
        self.position = offset + 1
        address = key.decode(errors="replace")
        unread = self._unread.get(address)
        if unread is not None:
            if unread == 1:
                del self._unread[address]
            else:
                self._unread[address] = unread - 1
            return None
        scope, _, part = address.partition("|")
        parts = self._at_hand(scope)
        before = parts.get(part) if parts is not None else None
        if data is None:
            if before is None:
                return None
        elif not is_row(data):
            self.strange += 1
            return None
        elif before is not None and head(before).order >= head(data).order:
            return None
        self._set(scope, part, data, parts)
        return Address(scope, part)

    def _set(
        self, scope: str, part: str, data: bytes | None, parts: dict[str, bytes] | None
    ) -> None:
        """`parts`: those of the scope that are at hand, if it is."""
        before = parts.get(part) if parts is not None else None
        if data is not None:
            if parts is None:
                parts = self._enter(scope, {}, self._gone.pop(scope, None))
            else:
                del self._hot[scope]  # so that it comes to stand at the end
                self._hot[scope] = parts
            if before is None:
                self.count += 1
                self._weigh(1, len(data))
            else:
                self.bytes_at_hand += len(data) - len(before)
            parts[intern(part)] = data
            self._dirty[scope] = None
        elif parts is None or before is None:
            return
        else:
            del parts[part]
            self.count -= 1
            self._weigh(-1, -len(before))
            self._dirty[scope] = None
            if not parts:
                place = self._leave(scope)
                if place is not None:
                    self._gone[scope] = place
        self._tell(scope, part, before, data)

    def _tell(self, scope: str, part: str, before: bytes | None, data: bytes | None) -> None:
        if self._changed is not None:
            self._changed(scope, part, before, data)

    def _weigh(self, rows: int, size: int) -> None:
        self.rows_at_hand += rows
        self.bytes_at_hand += rows * ROW_OVERHEAD + size

    def _at_hand(self, scope: str) -> dict[str, bytes] | None:
        """The scope, brought in from the cold if it is there."""
        parts = self._hot.get(scope)
        if parts is not None or scope in self._absent or scope in self._gone:
            return parts
        found = self._cold.find(scope)
        if found is None:
            if len(self._absent) >= MOST_ABSENT:
                self._absent.clear()
            self._absent.add(scope)
            return None
        return self._enter(scope, found[1], found[0])

    def _enter(self, scope: str, parts: dict[str, bytes], place: Place | None) -> dict[str, bytes]:
        self._hot[scope] = parts
        if place is not None:
            self._places[scope] = place
        self.bytes_at_hand += SCOPE_OVERHEAD
        self._weigh(len(parts), sum(map(len, parts.values())))
        return parts

    def _leave(self, scope: str) -> Place | None:
        parts = self._hot.pop(scope)
        self._dirty.pop(scope, None)
        self.bytes_at_hand -= SCOPE_OVERHEAD
        self._weigh(-len(parts), -sum(map(len, parts.values())))
        return self._places.pop(scope, None)

    def _counts_cold(self, scope: str) -> bool:
        return scope not in self._hot and scope not in self._gone

    # -- out of the memory and back ---------------------------------------------------------

    def oldest(self, most: int) -> list[str]:
        """Scopes at hand that were not changed for longest."""
        return list(islice(self._hot, most))

    def dirty(self) -> list[str]:
        """Scopes at hand whose cold copy is not what counts."""
        return list(self._dirty)

    @property
    def gone(self) -> int:
        """How many cold copies wait to be deleted, which comes with the next copy of anything."""
        return len(self._gone)

    def put_away(self, scopes: Mapping[str, int | None]) -> None:
        """These are not at hand any more. With the time at which an ended one is due, if the cold
        store is to mind that; None if it is minded elsewhere, or by the copy that is there."""
        for scope in scopes:
            self._at_hand(scope)
        self._copy(
            [(scope, due) for scope, due in scopes.items()
             if scope in self._dirty or (due is not None and scope in self._hot)]
        )  # fmt: skip
        for scope in scopes:
            if scope in self._hot:
                self._leave(scope)

    def copy(self, scopes: Collection[str], *, position: int | None = None, taken: int = 0) -> None:
        """The cold store has these as they stand; with `position`, everything below is in it."""
        self._copy([(scope, None) for scope in scopes if scope in self._dirty], position, taken)

    def _copy(
        self, scopes: Collection[tuple[str, int | None]], position: int | None = None,
        taken: int = 0,
    ) -> None:  # fmt: skip
        puts: list[Put] = []
        for scope, due in scopes:
            parts = self._hot[scope]
            kind = _kind_of(parts)
            minded = due if kind == OVER else None
            puts.append(Put(scope, parts, kind, minded, self._places.get(scope)))
        if not puts and not self._gone and position is None:
            return
        places = self._cold.write(puts, tuple(self._gone.values()), position, taken)
        for put, place in zip(puts, places, strict=True):
            self._places[put.scope] = place
            self._dirty.pop(put.scope, None)
            self._absent.discard(put.scope)
        self._gone.clear()

    def next_due(self) -> int | None:
        """When the first of the scopes that are not at hand has to be looked at."""
        return self._cold.next_due()

    def pop_due(self, now: int, most: int) -> list[str]:
        """Scopes whose time has come; their time is minded elsewhere from now on."""
        changes = self._cold.pop_due(now, most)
        for scope, change in changes:
            for places in (self._places, self._gone):
                if (place := places.get(scope)) is not None:
                    places[scope] = place._replace(sum=place.sum ^ change)
        return [scope for scope, _ in changes]

    @property
    def is_kept(self) -> bool:
        """Whether the cold store outlives this process."""
        return self._cold.is_kept

    def close(self) -> None:
        """Lets go of the cold store."""
        self._cold.close()


def _kind_of(parts: Mapping[str, bytes]) -> int:
    job = parts.get("@job")
    if job is None:
        return NO_JOB
    return OVER if head(job).status in ENDED else OPEN
