"""One partition of the ledger as a table: restored from the topic, kept up with it.

The owner applies its own rows as soon as they are committed; when it reads them back later they
are no news. A row of somebody else counts if its order is higher than what stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from streams.engine.rows import Address, head

Changed = Callable[[str, str, bytes | None, bytes | None], None]
"""scope, part, former bytes, new bytes."""

_NONE: Mapping[str, bytes] = MappingProxyType({})


class LedgerTable:
    """scope → part → bytes. Bytes are decoded where they are looked at, not here."""

    def __init__(self, changed: Changed | None = None) -> None:
        self._scopes: dict[str, dict[str, bytes]] = {}
        self._unread: dict[tuple[str, str], int] = {}
        self._changed = changed
        self.position = 0
        """Offset of the next ledger record to apply."""
        self.count = 0
        self.was_own = False
        """The record read last was one of the owner's own, so it was appended just now."""

    def rows(self, scope: str) -> Mapping[str, bytes]:
        """All rows of a scope; not to be kept across a change."""
        return self._scopes.get(scope, _NONE)

    def scopes(self) -> Iterator[str]:
        return iter(self._scopes)

    def __len__(self) -> int:
        return self.count

    def committed(self, scope: str, part: str, data: bytes | None) -> None:
        """Applies a row that this owner wrote; it will be read back once."""
        address = (scope, part)
        self._unread[address] = self._unread.get(address, 0) + 1
        self._set(scope, part, data)

    def read(self, key: bytes, data: bytes | None, offset: int) -> Address | None:
        """Applies a record of the topic; the address if it was news."""
        self.position = offset + 1
        address = Address.of(key)
        unread = self._unread.get(address)
        self.was_own = unread is not None
        if unread is not None:
            if unread == 1:
                del self._unread[address]
            else:
                self._unread[address] = unread - 1
            return None
        before = self.rows(address.scope).get(address.part)
        if data is None:
            if before is None:
                return None
        elif before is not None and head(before).order >= head(data).order:
            return None
        self._set(address.scope, address.part, data)
        return address

    def _set(self, scope: str, part: str, data: bytes | None) -> None:
        parts = self._scopes.get(scope)
        before = parts.get(part) if parts is not None else None
        if data is None:
            if parts is None or before is None:
                return
            del parts[part]
            self.count -= 1
            if not parts:
                del self._scopes[scope]
        else:
            if parts is None:
                parts = self._scopes[scope] = {}
            if before is None:
                self.count += 1
            parts[part] = data
        if self._changed is not None:
            self._changed(scope, part, before, data)

    def load(self, scopes: dict[str, dict[str, bytes]], position: int) -> None:
        """Takes over a snapshot."""
        self._scopes = scopes
        self.position = position
        self.count = sum(map(len, scopes.values()))
        if self._changed is not None:
            for scope, parts in scopes.items():
                for part, data in parts.items():
                    self._changed(scope, part, None, data)

    def dump(self) -> dict[str, dict[str, bytes]]:
        """What a snapshot holds. Rows not read back yet are in it: reading them again is no news."""
        return self._scopes
