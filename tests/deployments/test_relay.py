import socket
import threading
from collections.abc import Iterator

import pytest

from deployments.relay import relay


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def test_what_is_said_arrives_in_both_directions_and_so_does_the_end(listening: socket.socket) -> None:
    caller, arrived = socket.socketpair()
    relay(arrived, listening.getsockname())
    answering, _ = listening.accept()
    with caller, answering:
        caller.sendall(b"question" * 20_000)
        caller.shutdown(socket.SHUT_WR)
        assert read_all(answering) == b"question" * 20_000
        answering.sendall(b"answer" * 20_000)
        answering.shutdown(socket.SHUT_WR)
        assert read_all(caller) == b"answer" * 20_000


def test_with_nobody_to_carry_to_the_connection_is_closed(listening: socket.socket) -> None:
    address = listening.getsockname()
    listening.close()
    caller, arrived = socket.socketpair()
    with caller:
        relay(arrived, address)
        assert read_all(caller) == b""


def test_more_connections_than_it_may_carry_are_closed(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.relay._places", threading.BoundedSemaphore(1))
    first, second = socket.socketpair(), socket.socketpair()
    relay(first[1], listening.getsockname())
    relay(second[1], listening.getsockname())
    assert read_all(second[0]) == b""
    with listening.accept()[0] as answering:
        first[0].sendall(b"still carried")
        assert answering.recv(100) == b"still carried"
    for one in (first[0], second[0]):
        one.close()


def read_all(one: socket.socket) -> bytes:
    one.settimeout(10)
    said = b""
    while part := one.recv(65_536):
        said += part
    return said
