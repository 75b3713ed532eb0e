"""When a node counts as serving."""

import socket
import threading
from contextlib import contextmanager

import pytest

from streams.broker.devbroker import probe
from tests.unit.broker import fake_java


@contextmanager
def serving(handle):
    """A port of this machine that handles connections so."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            try:
                while True:
                    handle(server.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_node_that_answers_what_it_can_do_serves():
    with serving(lambda connection: fake_java.answer(connection, 3)) as port:
        assert probe.serves(port)
        assert probe.known_nodes(port) == 3


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\x06\0\0", b"\0\0\0\x06\0\0\0\x01\0\x23"])
def test_an_open_port_is_not_enough(said):
    """Closed at once, in the middle of an answer, or with an error instead of it."""

    def handle(connection):
        with connection:
            connection.recv(1024)
            connection.sendall(said)

    with serving(handle) as port:
        assert not probe.serves(port)


def test_a_closed_port_does_not_serve():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert not probe.serves(port)
    assert probe.known_nodes(port) == 0
