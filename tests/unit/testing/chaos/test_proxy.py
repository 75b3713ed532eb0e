"""The proxy knows where one request ends, and whose it is."""

import asyncio
import struct

import pytest

from streams.testing.chaos.proxy import HOST, Proxy

END_TXN = 26


def request(api, client, number=1):
    name = client.encode()
    body = struct.pack(">hhih", api, 0, number, len(name)) + name
    return struct.pack(">i", len(body)) + body


@pytest.fixture
async def between():
    """A proxy before something that answers every request with its number."""
    got = []

    async def serve(reader, writer):
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                data = await reader.readexactly(size)
                got.append(data)
                writer.write(struct.pack(">i", 4) + data[4:8])
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    proxy = Proxy(server.sockets[0].getsockname()[1])
    port = await proxy.start()
    reader, writer = await asyncio.open_connection(HOST, port)
    yield proxy, reader, writer, got
    writer.close()
    await proxy.close()
    server.close()


async def test_requests_and_answers_go_through(between):
    """Without a fault it is as if it were not there."""
    _, reader, writer, got = between
    writer.write(request(3, "w-1", 42))

    assert await reader.readexactly(8) == struct.pack(">ii", 4, 42)
    assert len(got) == 1


async def test_a_trap_springs_once_for_its_worker_and_its_request(between):
    """A producer's client id ends with the name of its worker."""
    proxy, reader, writer, _ = between
    sprung = []
    proxy.trap("w-1", "in commit", lambda frame: sprung.append(frame.client) or 0.0)
    for number, client in enumerate(("n.p.pool.w-2", "n.p.pool.w-1", "n.p.pool.w-1")):
        writer.write(request(END_TXN, client, number))
        await reader.readexactly(8)

    assert sprung == ["n.p.pool.w-1"]


async def test_a_held_request_arrives_although_its_sender_is_gone(between):
    """Row 10: that is how a late EndTxn meets the next transaction."""
    proxy, _, writer, got = between
    trap = proxy.trap("w-1", "in commit", lambda _: 0.05)
    writer.write(request(END_TXN, "n.p.pool.w-1"))
    await trap.sprung.wait()
    writer.close()
    assert got == []
    async with asyncio.timeout(5):
        while not got:
            await asyncio.sleep(0.01)


async def test_what_is_cut_arrives_when_it_is_joined(between):
    """Packets are dropped and sent again: connections outlive a short cut."""
    proxy, reader, writer, got = between
    proxy.cut("to worker")
    writer.write(request(3, "w-1", 9))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.readexactly(8)
    assert len(got) == 1
    proxy.join()

    assert await reader.readexactly(8) == struct.pack(">ii", 4, 9)
