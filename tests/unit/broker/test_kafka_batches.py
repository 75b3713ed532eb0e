"""What a broker sends as batches, told apart by their heads."""

import asyncio
import struct

import pytest

from streams.broker.kafka_batches import Batch, BatchReader, read_batches
from streams.broker.port import TopicPartition
from streams.errors import LogUnavailable

HEAD = ">qiibihiqqqhii"
COMMIT = bytes([0x16, 0, 0, 0, 8, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0])
ABORT = bytes([0x16, 0, 0, 0, 8, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0])


def batch(first, last, attributes, producer=7, body=b"records", magic=2):
    length = struct.calcsize(HEAD) - 12 + len(body)
    return (
        struct.pack(
            HEAD, first, length, 0, magic, 0, attributes, last - first, 1, 1_000, producer, 3, 0, 1
        )
        + body
    )


def test_heads_tell_the_producer_and_the_end_of_its_transaction():
    """C7: a record's transaction is that of the next marker of its producer."""
    data = batch(0, 4, 0x18) + batch(5, 5, 0x38, body=COMMIT) + batch(6, 6, 0x30, body=ABORT)

    assert list(read_batches(data)) == [
        Batch(0, 4, 1_000, 7, 3, "transactional"),
        Batch(5, 5, 1_000, 7, 3, "commit"),
        Batch(6, 6, 1_000, 7, 3, "abort"),
    ]


def test_a_batch_without_a_transaction_is_plain():
    """An idempotent producer has an id, too."""
    assert [each.kind for each in read_batches(batch(0, 2, 0x08))] == ["plain"]


def test_the_last_batch_of_an_answer_may_be_cut_off():
    """A broker fills the bytes it was given, whatever ends there."""
    data = batch(0, 1, 0) + batch(2, 3, 0)

    assert [each.first for each in read_batches(data[:-3])] == [0]


class Node:
    """A broker that leads partition 0 of `t`; partition 1 is led by one that does not answer."""

    def __init__(self, dead):
        self.dead = dead

    async def serve(self, reader, writer):
        while size := await reader.read(4):
            request = await reader.readexactly(struct.unpack(">i", size)[0])
            key, _, number = struct.unpack_from(">hhi", request)
            body = self.leaders() if key == 3 else self.records()
            writer.write(struct.pack(">ii", len(body) + 4, number) + body)
        writer.close()

    def leaders(self):
        nodes = [(1, self.port), (2, self.dead)]
        body = struct.pack(">i", 2)
        for node, port in nodes:
            body += struct.pack(">ih9sih", node, 9, b"127.0.0.1", port, -1)
        body += struct.pack(">iihh1sbi", 1, 1, 0, 1, b"t", 0, 2)
        for partition, (node, _) in enumerate(nodes):
            body += struct.pack(">hiiii", 0, partition, node, 0, 0)
        return body

    def records(self):
        data = batch(0, 4, 0)
        place = struct.pack(">ihqqii", 0, 0, 5, 5, 0, len(data))
        return struct.pack(">iih1si", 0, 1, 1, b"t", 1) + place + data


async def test_what_one_leader_gave_is_not_lost_with_another():
    """Row 6: the judge missed the heads of batches, and took whole transactions for torn ones."""
    unused = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    node = Node(unused.sockets[0].getsockname()[1])
    unused.close()
    await unused.wait_closed()
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    node.port = server.sockets[0].getsockname()[1]
    reader = BatchReader(f"127.0.0.1:{node.port}")
    first, second = TopicPartition("t", 0), TopicPartition("t", 1)
    reader.follow({first: 0, second: 0})

    assert await reader.leaders({"t"}) == {
        first: ("127.0.0.1", node.port),
        second: ("127.0.0.1", node.dead),
    }
    found = await reader.poll()
    assert [each.last for each in found[first]] == [4]
    assert (reader.position(first), reader.position(second)) == (5, 0)
    reader.follow({first: 5})
    with pytest.raises(LogUnavailable, match="reading batches"):
        await reader.poll()

    await reader.close()
    server.close()
    await server.wait_closed()
