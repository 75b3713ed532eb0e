"""The worker's port: a few pages over HTTP, for machines that scrape and probe.

Takes GET and HEAD, one request a connection. Whoever is at the other end may be slow, broken or
hostile: every request has a deadline and a bound on its size, and of those who have not said yet
what they want only so many are kept; the oldest makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from streams.errors import UserError
from streams.observe.logs import get_logger

log = get_logger(__name__)

LONGEST_LINE = 8 * 1024
"""Bytes of the request line."""
LONGEST_HEAD = 16 * 1024
"""Bytes of all header lines."""
MOST_CONNECTIONS = 64
TO_ASK = 5.0
"""Seconds from the connection to the end of the request."""
TO_ANSWER = 10.0
"""Seconds to make the answer, and as many to take it."""

EXPLANATIONS: dict[str, str] = {
    "C020": """\
**The worker's port cannot be opened.** The address is taken by another process, is not one of this
machine, or needs rights that this process does not have. The worker was not started: one without
the port it was told to have would look dead to whoever watches it.
Next: choose another (`--port`, `worker.port`; 0 takes any that is free), or leave the port out.""",
}

_REQUEST = re.compile(rb"([A-Z]{1,20}) (\S+) HTTP/(\d)\.(\d)\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*\r?\n")


class PortError(UserError):
    """The port could not be opened."""

    code = "C020"


class Answer(NamedTuple):
    """What a page says."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


Page = Callable[[Mapping[str, str]], Awaitable[Answer]]
"""Headers (names in lower case) to an answer."""


class Refused(Exception):
    """A request that gets no page."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Server:
    """Serves pages until it is closed."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._spare: dict[asyncio.Task[None], None] = {}
        """Connections that nothing is owed to, oldest first: not asked yet, or answered."""
        self._open: set[asyncio.Task[None]] = set()
        self.address = ("", 0)

    async def open(self, host: str, port: int) -> None:
        """Listens from now on. Raises `PortError`."""
        try:
            self._server = await asyncio.start_server(
                self._connected, host, port, limit=LONGEST_HEAD
            )
        except (OSError, OverflowError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise PortError(
                f"cannot listen on {host}:{port}: {why}",
                help="choose another port (--port, worker.port; 0 takes any that is free)",
            ) from None
        self.address = self._server.sockets[0].getsockname()[:2]

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def close(self) -> None:
        """Listens no more; whoever is connected is cut off."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    # -- one connection ---------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writer.transport.set_write_buffer_limits(high=0)  # `drain` waits for the last byte
        self._make_room()
        self._open.add(task)
        self._spare[task] = None
        try:
            await self._serve(task, reader, writer)
        except asyncio.CancelledError:
            pass  # it made room, or the server closes: the connection is all that this task has
        except (OSError, TimeoutError):
            pass  # the other side went away, or does not take its answer
        except Exception:
            log.exception("port.failed")
        finally:
            self._spare.pop(task, None)
            self._open.discard(task)
            writer.transport.abort()

    def _make_room(self) -> None:
        if len(self._open) >= MOST_CONNECTIONS and self._spare:
            oldest = next(iter(self._spare))
            del self._spare[oldest]
            self._open.discard(oldest)
            oldest.cancel()

    async def _serve(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        method = "GET"
        try:
            try:
                async with asyncio.timeout(TO_ASK):
                    method, path, headers = await _request(reader)
            except TimeoutError:
                raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the request did not end") from None
            self._spare.pop(task, None)
            if len(self._open) > MOST_CONNECTIONS:
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            answer = await self._answer(method, path, headers)
        except Refused as refused:
            answer = Answer(f"{refused.why}\n".encode(), status=refused.status)
        writer.write(_head(answer) + (b"" if method == "HEAD" else answer.body))
        async with asyncio.timeout(TO_ANSWER):
            await writer.drain()
        self._spare[task] = None
        if writer.can_write_eof():
            writer.write_eof()
        await _drop_rest(reader)

    async def _answer(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        page = self._pages.get(path.partition("?")[0])
        if page is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"here are: {', '.join(self._pages)}")
        if method not in ("GET", "HEAD"):
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a request here has no body")
        try:
            async with asyncio.timeout(TO_ANSWER):
                return await page(headers)
        except TimeoutError:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "no answer in time") from None
        except Exception:
            log.exception("port.failed", path=path[:100])
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "this page is broken") from None


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    """Method, path and headers. Raises `Refused`."""
    line = await _line(reader, HTTPStatus.REQUEST_URI_TOO_LONG, LONGEST_LINE)
    found = _REQUEST.fullmatch(line)
    if found is None:
        raise Refused(HTTPStatus.BAD_REQUEST, "not a request of HTTP/1.1")
    method, path, major, _ = found.groups()
    if major != b"1":
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is spoken here")
    headers: dict[str, str] = {}
    room = LONGEST_HEAD
    while (line := await _line(reader, _TOO_LARGE, room)) not in (b"\r\n", b"\n"):
        room -= len(line)
        header = _HEADER.fullmatch(line)
        if header is None:
            raise Refused(HTTPStatus.BAD_REQUEST, "not a header")
        name, value = header.groups()
        headers[name.decode().lower()] = value.decode("latin-1")
    return method.decode(), path.decode("latin-1"), headers


_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


async def _line(reader: asyncio.StreamReader, too_long: HTTPStatus, most: int) -> bytes:
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise Refused(too_long, "too long") from None
    except asyncio.IncompleteReadError:
        raise Refused(HTTPStatus.BAD_REQUEST, "the request did not end") from None
    if len(line) > most:
        raise Refused(too_long, "too long")
    return line


async def _drop_rest(reader: asyncio.StreamReader) -> None:
    """Reads what is left of a refused request, a little, so that the answer is not lost with a
    reset of the connection."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(0.5):
            for _ in range(16):
                if not await reader.read(LONGEST_HEAD):
                    return


def _head(answer: Answer) -> bytes:
    status = HTTPStatus(answer.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
