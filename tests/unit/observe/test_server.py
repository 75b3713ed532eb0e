"""The worker's port: what it answers, and what it does not put up with (reliability §4 H)."""

import asyncio
import contextlib

import pytest

from streams.observe import server as module
from streams.observe.server import Answer, PortError, Server

BIG = b"x" * 4_000_000


async def hello(_):
    return Answer(b"hello\n")


async def big(_):
    return Answer(BIG)


async def broken(_):
    raise RuntimeError("secret detail")


async def never(_):
    await asyncio.Event().wait()


PAGES = {"/hello": hello, "/big": big, "/broken": broken, "/never": never}


@pytest.fixture
async def server():
    made = Server(PAGES)
    await made.open("127.0.0.1", 0)
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def connection(server):
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def said(server, request):
    """(status, headers, body) of the answer to these bytes."""
    async with connection(server) as (reader, writer):
        writer.write(request)
        return parsed(await reader.read())


def parsed(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    return int(line.split()[1]), dict(each.split(": ", 1) for each in headers), body


async def test_a_page_is_served_and_the_connection_closed(server):
    """One request a connection: nothing to keep in memory for anybody."""
    status, headers, body = await said(server, b"GET /hello?verbose HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (status, body) == (200, b"hello\n")
    assert headers == {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": "6",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }


async def test_head_is_the_same_without_the_body(server):
    status, headers, body = await said(server, b"HEAD /hello HTTP/1.0\n\n")

    assert (status, headers["Content-Length"], body) == (200, "6", b"")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /hello HTTP/1.1\r\n\r\n", 405),
        (b"DELETE /hello HTTP/1.1\r\n\r\n", 405),
        (b"GET /unknown HTTP/1.1\r\n\r\n", 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /hello%00 HTTP/1.1\r\n\r\n", 404),
        (b"GET /hello HTTP/2.0\r\n\r\n", 505),
        (b"GET /hello\r\n\r\n", 400),
        (b"get /hello HTTP/1.1\r\n\r\n", 400),
        (b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400),
        (b"\x00\xff\xfe\n\n", 400),
        (b"GET /hello HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\na: b\rc\r\n\r\n", 400),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"a" * 900_000, 414),
        (b"GET /hello HTTP/1.1\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
        (b"GET /hello HTTP/1.1\r\n" + b"a: b\r\n" * 100_000 + b"\r\n", 431),
        (b"GET /hello HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\nxx", 413),
        (b"GET /hello HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 413),
        (b"GET /hello HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
    ],
)
async def test_what_is_wrong_gets_a_clear_answer_and_nothing_else(server, request_, status):
    """H1, H5: 4xx, no stack trace, and the next one is served."""
    found, headers, body = await said(server, request_)

    assert found == status
    assert headers["Connection"] == "close"
    assert b"secret" not in body
    assert len(body) < 200
    assert ("Allow" in headers) is (status == 405)
    assert (await said(server, b"GET /hello HTTP/1.1\r\n\r\n"))[0] == 200


async def test_who_closes_before_the_end_harms_nobody(server):
    """Health checks of balancers connect and go."""
    for sent in (b"", b"GET /hel", b"GET /hello HTTP/1.1\r\n", b"GET /big HTTP/1.1\r\n\r\n"):
        async with connection(server) as (_, writer):
            writer.write(sent)

    assert (await said(server, b"GET /hello HTTP/1.1\r\n\r\n"))[0] == 200


async def test_who_is_too_slow_is_told_so_and_cut_off(server, monkeypatch):
    """H2: a deadline for the whole request, however it trickles."""
    monkeypatch.setattr(module, "TO_ASK", 0.05)
    async with connection(server) as (reader, writer):
        writer.write(b"GET /hello HTTP/1.1\r\n")
        status, _, _ = parsed(await reader.read())

    assert status == 408


async def test_a_thousand_slow_ones_do_not_keep_a_probe_out(server):
    """H2: of those who have not asked yet only so many are kept, and the oldest makes room."""
    slow = []
    for _ in range(1_000):
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET ")
        slow.append((reader, writer))
        if len(slow) % 100 == 0:
            assert (await said(server, b"GET /hello HTTP/1.1\r\n\r\n"))[0] == 200
    await asyncio.gather(*(reader.read() for reader, _ in slow[:900]), return_exceptions=True)

    assert len(server._open) <= module.MOST_CONNECTIONS
    for _, writer in slow:
        writer.transport.abort()


async def test_when_all_are_busy_one_more_is_refused_at_once(server, monkeypatch):
    """H3: a bound, and an answer that says so."""
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 3)
    async with contextlib.AsyncExitStack() as open_:
        for _ in range(3):
            _, writer = await open_.enter_async_context(connection(server))
            writer.write(b"GET /never HTTP/1.1\r\n\r\n")
        while server._spare or len(server._open) < 3:
            await asyncio.sleep(0)
        assert (await said(server, b"GET /hello HTTP/1.1\r\n\r\n"))[0] == 503


async def test_a_page_that_takes_too_long_is_given_up(server, monkeypatch):
    """A scrape that hangs would pile up."""
    monkeypatch.setattr(module, "TO_ANSWER", 0.05)

    assert (await said(server, b"GET /never HTTP/1.1\r\n\r\n"))[0] == 503


async def test_who_does_not_take_the_answer_is_cut_off(server, monkeypatch):
    """H3: the answer is not kept for ever."""
    monkeypatch.setattr(module, "TO_ANSWER", 0.1)
    async with connection(server) as (_, writer):
        writer.write(b"GET /big HTTP/1.1\r\n\r\n")
        while not server._open:
            await asyncio.sleep(0)
        while server._open:
            await asyncio.sleep(0.01)

    assert (await said(server, b"GET /hello HTTP/1.1\r\n\r\n"))[0] == 200


async def test_a_large_answer_arrives_whole(server):
    """Two thousand series are some hundred kilobytes."""
    _, _, body = await said(server, b"GET /big HTTP/1.1\r\n\r\n")

    assert len(body) == len(BIG)


async def test_a_port_that_is_taken_is_an_error_with_a_code(server):
    """A worker that starts without the port it was told to have would look dead."""
    host, port = server.address
    other = Server(PAGES)
    with pytest.raises(PortError) as caught:
        await other.open(host, port)

    assert caught.value.code == "C020"
    assert f"127.0.0.1:{port}" in caught.value.message
    await other.close()


async def test_an_address_of_somebody_else_is_the_same_error():
    with pytest.raises(PortError, match=r"192\.0\.2\.1:0"):
        await Server(PAGES).open("192.0.2.1", 0)


async def test_closing_cuts_off_who_is_still_there():
    """The end of a worker waits for nobody's probe."""
    server = Server(PAGES)
    await server.open("127.0.0.1", 0)
    async with connection(server) as (reader, writer):
        writer.write(b"GET /never HTTP/1.1\r\n\r\n")
        while not server._open:
            await asyncio.sleep(0)
        await server.close()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
