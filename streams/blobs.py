"""Values too large for the log, in a folder or a bucket, named by their content.

A blob's address is `<base>/<namespace>/<pipeline>/<job>/<sha256>`. Written again it is the same
blob, so a repeated attempt leaves no orphan; all of a job goes with its prefix. Nothing is ever
seen half-written: folders get a temporary file and a rename, buckets write whole objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

import msgspec

from streams.engine.payload import BlobRef
from streams.errors import StreamsError

JSON = "application/json"
CHUNK = 1024 * 1024

_SEGMENT = re.compile(r"[A-Za-z0-9_~%-][A-Za-z0-9_.~%-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = ".part-"
_LONGEST = 120

EXPLANATIONS: dict[str, str] = {
    "B001": "**A blob is not there.** An event refers to a value in the blob store that is gone: "
    "the job was purged, or this worker looks at another store. Every worker needs the same "
    "`blobs` setting; on several hosts it must be a bucket or a shared folder.",
    "B002": "**A blob is damaged**: its content no longer has the checksum that names it. Restore "
    "the file, or retry the stage that wrote it.",
    "B003": "**A blob's address is outside the store.** Events may only refer to values of the "
    "configured blob store; anything else is refused, whoever wrote it.",
    "B004": "**The blob store cannot be used**: no space, no permission, out of reach, or a "
    "package for that kind of store is missing.",
}


class BlobError(StreamsError):
    """A blob that cannot be read or written."""

    code = "B004"

    def __init__(self, message: str, *, code: str, retriable: bool = False) -> None:
        super().__init__(message, code=code)
        self.retriable = retriable


class Backend(Protocol):
    """Where bytes lie. Called from any thread; `write` is all or nothing."""

    def size(self, path: str) -> int | None: ...
    def write(self, path: str, data: bytes | Path) -> None: ...
    def read(self, path: str) -> bytes: ...
    def names(self, path: str) -> list[str]: ...
    def remove(self, path: str) -> int: ...


class BlobStore:
    """Values by content under one base address: `file:///x`, `memory://x`, `s3://bucket/x`."""

    def __init__(self, url: str) -> None:
        if "://" not in url:
            url = Path(url).absolute().as_uri()
        self.url = url.rstrip("/")
        self._made: Backend | None = None
        self._lock = threading.Lock()

    @property
    def shared(self) -> bool:
        """Whether another host can reach it."""
        return not self.url.startswith(("file:", "memory:"))

    # -- for code that may wait

    async def put(
        self, prefix: str, data: bytes | Path | Iterable[bytes], content_type: str = JSON
    ) -> BlobRef:
        """Keeps the content under `prefix` (`namespace/pipeline/job`); the same content again is
        the same blob. A path is copied in pieces, so memory stays flat."""
        return await asyncio.to_thread(self.put_now, prefix, data, content_type)

    async def get(self, ref: BlobRef) -> bytes:
        """The content, checked against its name."""
        return await asyncio.to_thread(self.get_now, ref)

    async def value(self, ref: BlobRef) -> Any:
        """The content as a value: JSON decoded, text as text, the rest as bytes."""
        return await asyncio.to_thread(self.value_now, ref)

    async def delete_prefix(self, prefix: str) -> int:
        """Removes all blobs under a prefix (also what a crash left half-written); counts them."""
        return await asyncio.to_thread(self._call, self._backend_remove, place(prefix))

    async def list_prefix(self, prefix: str) -> list[str]:
        """Addresses of all blobs under a prefix, sorted."""
        return await asyncio.to_thread(self._list, place(prefix))

    # -- for code in a thread of its own, and for small values on the fast path

    def put_now(
        self, prefix: str, data: bytes | Path | Iterable[bytes], content_type: str = JSON
    ) -> BlobRef:
        if not isinstance(data, bytes | Path):
            with _spooled(data) as file:
                return self.put_now(prefix, file, content_type)
        name, size = _digest(data)
        path = f"{place(prefix)}/{name}"
        self._call(self._write_once, path, data, size)
        return BlobRef(url=f"{self.url}/{path}", size=size, sha256=name, type=content_type)

    def get_now(self, ref: BlobRef) -> bytes:
        data: bytes = self._call(self._read, self._path(ref))
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise BlobError(f"blob {ref.sha256[:12]} is damaged", code="B002")
        return data

    def value_now(self, ref: BlobRef) -> Any:
        data = self.get_now(ref)
        kind = ref.type.partition(";")[0].strip().lower()
        try:
            if kind == JSON or kind.endswith("+json"):
                return msgspec.json.decode(data)
            return data.decode() if kind.startswith("text/") else data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BlobError(
                f"blob {ref.sha256[:12]} does not hold {ref.type}", code="B002"
            ) from error

    # -- inside

    def _path(self, ref: BlobRef) -> str:
        """Where a reference points, if that is inside this store: events come from outside."""
        path = ref.url.removeprefix(f"{self.url}/")
        *folders, name = path.split("/")
        inside = ref.url.startswith(f"{self.url}/") and all(map(_SEGMENT.fullmatch, folders))
        if not inside or not _SHA256.fullmatch(name) or name != ref.sha256:
            raise BlobError(f"{ref.url!r} is not an address in the blob store", code="B003")
        return path

    def _write_once(self, path: str, data: bytes | Path, size: int) -> None:
        if self._backend.size(path) != size:
            self._backend.write(path, data)

    def _read(self, path: str) -> bytes:
        return self._backend.read(path)

    def _backend_remove(self, path: str) -> int:
        return self._backend.remove(path)

    def _list(self, path: str) -> list[str]:
        names: list[str] = self._call(lambda: self._backend.names(path))
        return [f"{self.url}/{name}" for name in sorted(names)]

    def _call(self, work: Any, *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except BlobError:
            raise
        except FileNotFoundError as error:
            raise BlobError("a blob is not in the store", code="B001") from error
        except Exception as error:
            raise BlobError(
                f"the blob store failed: {type(error).__name__}: {error}",
                code="B004",
                retriable=True,
            ) from error

    @property
    def _backend(self) -> Backend:
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = _backend_for(self.url)
        return self._made


def place(prefix: str) -> str:
    """The folder of `namespace/pipeline/job`: no two jobs share one, none leads outside.

    Everything after the second slash is the job's id, which may hold anything.
    """
    return "/".join(_segment(text) for text in prefix.split("/", 2))


def _segment(text: str) -> str:
    if not text:
        raise BlobError("a blob's prefix has an empty part", code="B003")
    quoted = quote(text, safe="").replace("~", "%7E")
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    # Some file systems take A for a, and most take no name over 255 bytes.
    if len(quoted) <= _LONGEST and text == text.lower():
        return quoted
    return f"{quoted[:_LONGEST]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _digest(data: bytes | Path) -> tuple[str, int]:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest(), len(data)
    found, size = hashlib.sha256(), 0
    with data.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            size += len(chunk)
    return found.hexdigest(), size


@contextlib.contextmanager
def _spooled(chunks: Iterable[bytes]) -> Iterator[Path]:
    """The chunks in a temporary file, as their name is only known at their end."""
    with tempfile.NamedTemporaryFile(prefix="streams-blob-") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        yield Path(file.name)


def _backend_for(url: str) -> Backend:
    if url.startswith("file:"):
        return FolderBackend(Path(unquote(urlsplit(url).path) or "/"))
    return BucketBackend(url)


class FolderBackend:
    """A folder of this machine, or one that several share."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._count = itertools.count()
        # Unique among processes and hosts that write the same blob at the same time.
        self._writer = f"{socket.gethostname()}-{os.getpid()}"

    def size(self, path: str) -> int | None:
        try:
            return (self._base / path).stat().st_size
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes | Path) -> None:
        final = self._base / path
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(f"{_PART}{self._writer}-{next(self._count)}-{final.name[:16]}")
        try:
            with part.open("wb") as out:
                if isinstance(data, bytes):
                    out.write(data)
                else:
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, out, CHUNK)
                out.flush()
                # The event that refers to it is committed next: it must be there after a crash.
                os.fsync(out.fileno())
            part.replace(final)
        finally:
            part.unlink(missing_ok=True)

    def read(self, path: str) -> bytes:
        return (self._base / path).read_bytes()

    def names(self, path: str) -> list[str]:
        # `os.walk`, as `rglob` raises when a folder goes (a purge) while it looks.
        return [
            (Path(folder) / name).relative_to(self._base).as_posix()
            for folder, _, names in os.walk(self._base / path)
            for name in names
            if not name.startswith(_PART)
        ]

    def remove(self, path: str) -> int:
        count = len(self.names(path))
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._base / path)
        return count


class BucketBackend:
    """Anything fsspec knows: memory, S3, GCS, Azure. Objects appear whole or not at all."""

    def __init__(self, url: str) -> None:
        import fsspec  # type: ignore[import-untyped]

        self._fs, base = fsspec.core.url_to_fs(url)
        self._base = base.rstrip("/")

    def size(self, path: str) -> int | None:
        try:
            return int(self._fs.size(f"{self._base}/{path}"))
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes | Path) -> None:
        where = f"{self._base}/{path}"
        if isinstance(data, bytes):
            self._fs.pipe_file(where, data)
        else:
            self._fs.put_file(str(data), where)

    def read(self, path: str) -> bytes:
        return bytes(self._fs.cat_file(f"{self._base}/{path}"))

    def names(self, path: str) -> list[str]:
        self._fs.invalidate_cache()
        found = self._fs.find(f"{self._base}/{path}")
        return [str(name).removeprefix(f"{self._base}/") for name in found]

    def remove(self, path: str) -> int:
        names = self.names(path)
        if names:
            self._fs.rm([f"{self._base}/{name}" for name in names])
        return len(names)
