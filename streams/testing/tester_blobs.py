"""A blob store in a dictionary: as strict as the real one about names, gone with the test."""

from __future__ import annotations

from pathlib import Path

from streams.blobs import BlobStore


class MemoryBackend:
    """Where the bytes lie."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def size(self, path: str) -> int | None:
        found = self._kept.get(path)
        return None if found is None else len(found)

    def write(self, path: str, data: bytes | Path) -> None:
        self._kept[path] = data.read_bytes() if isinstance(data, Path) else data

    def read(self, path: str) -> bytes:
        try:
            return self._kept[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def names(self, path: str) -> list[str]:
        return [name for name in self._kept if name.startswith(f"{path}/")]

    def remove(self, path: str) -> int:
        names = self.names(path)
        for name in names:
            del self._kept[name]
        return len(names)


class MemoryBlobs(BlobStore):
    """All workers of one test share it."""

    def __init__(self) -> None:
        super().__init__("memory://test")
        self._made = MemoryBackend()
