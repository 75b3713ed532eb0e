"""Whether a node serves, asked in Kafka's own protocol: an open port alone is too early."""

from __future__ import annotations

import socket
import struct

HOST = "127.0.0.1"
ANSWER_SECONDS = 1.0
API_VERSIONS = 18
METADATA = 3
METADATA_VERSION = 1


def serves(port: int) -> bool:
    """The node answers what it can do."""
    answer = _asked(port, struct.pack(">hhih", API_VERSIONS, 0, 1, -1))
    return len(answer) >= 6 and struct.unpack_from(">h", answer, 4)[0] == 0


def known_nodes(port: int) -> int:
    """How many nodes this one knows to be in service, 0 if it does not say."""
    no_topics = struct.pack(">i", 0)
    request = struct.pack(">hhih", METADATA, METADATA_VERSION, 1, -1) + no_topics
    answer = _asked(port, request)
    return int(struct.unpack_from(">i", answer, 4)[0]) if len(answer) >= 8 else 0


def _asked(port: int, request: bytes) -> bytes:
    """The answer without its length, empty if there is none."""
    try:
        with socket.create_connection((HOST, port), ANSWER_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as stream:
                size = stream.read(4)
                return stream.read(struct.unpack(">i", size)[0]) if len(size) == 4 else b""
    except OSError:
        return b""
