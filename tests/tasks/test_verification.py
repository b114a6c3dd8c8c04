"""What the prober makes of an answer, of none, and of its own trouble."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from delivery.verification import Endpoint
from tasks.verification import ask_endpoints
from tests.tasks.small_server import serving

HEALTH = Endpoint("/health", version="1.1.0")


def ask(url: str, *endpoints: Endpoint, seconds: float = 2.0) -> list[tuple[str, str]]:
    return [(one.outcome, one.detail) for one in ask_endpoints(url, endpoints, timeout_seconds=seconds)]


@pytest.mark.parametrize(
    ("endpoint", "answer", "expected"),
    [
        (HEALTH, (200, '{"version": "1.1.0"}'), ("well", "it answered 200.")),
        (HEALTH, (200, '{"version": "1.0.0"}'), ("sick", "it answered version 1.0.0, expected 1.1.0.")),
        (HEALTH, (200, '{"status": "ok"}'), ("sick", "it answered no version, expected 1.1.0.")),
        (HEALTH, (200, "fine"), ("sick", "it answered no version, expected 1.1.0.")),
        (HEALTH, (503, '{"version": "1.1.0"}'), ("sick", "it answered 503, expected 200.")),
        (Endpoint("/health", status=308), (308, ""), ("well", "it answered 308.")),
        (Endpoint("/health", contains="Deal"), (200, "Deal Brain"), ("well", "it answered 200.")),
        (Endpoint("/health", contains="Deal"), (200, "oh"), ("sick", "it answered without 'Deal'; the answer begins with 'oh'.")),
    ],
)
def test_an_answer_is_well_or_sick(endpoint: Endpoint, answer: tuple[int, str], expected: tuple[str, str]):
    with serving({"/health": answer}) as url:
        assert ask(url, endpoint) == [expected]


def test_endpoints_are_asked_side_by_side_and_told_in_their_order():
    def slowly(path: str) -> tuple[int, str]:
        time.sleep(0.4)
        return (200, "") if path == "/1" else (500, "")

    began = time.monotonic()
    with serving(slowly) as url:
        found = ask(url, *(Endpoint(f"/{number}") for number in range(4)))
    assert [outcome for outcome, _ in found] == ["sick", "well", "sick", "sick"]
    assert time.monotonic() - began < 1.4


def test_no_connection_is_sick_and_is_asked_once():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert ask(f"http://127.0.0.1:{closed.getsockname()[1]}", HEALTH) == [("sick", "the connection failed (ConnectError).")]


def test_a_server_that_hangs_up_is_sick():
    asked: list[str] = []
    with serving(lambda path: (asked.append(path), (0, ""))[1]) as url:
        assert ask(url, HEALTH) == [("sick", "the connection failed (RemoteProtocolError).")]
    assert asked == ["/health"]


def test_silence_is_sick():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert ask(f"http://127.0.0.1:{silent.getsockname()[1]}", HEALTH, seconds=0.3) == [("sick", "no answer within 0.3 s.")]


@contextmanager
def trickling() -> Iterator[str]:
    """One byte after another, without an end."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                for _ in range(100):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return
                    time.sleep(0.05)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_an_answer_that_trickles_is_sick_in_time():
    began = time.monotonic()
    with trickling() as url:
        assert ask(url, HEALTH, seconds=0.5) == [("sick", "its answer was not complete within 0.5 s.")]
    assert time.monotonic() - began < 2


def test_a_name_that_this_machine_cannot_resolve_is_unknown(monkeypatch: pytest.MonkeyPatch):
    def nobody_knows(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    assert ask("http://shop.invalid", HEALTH) == [("unknown", "this machine could not resolve the public address.")]


def test_a_prober_that_breaks_is_unknown(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> object:
        raise MemoryError

    monkeypatch.setattr(httpx.Client, "stream", broken)
    assert ask("http://127.0.0.1:9", HEALTH) == [("unknown", "the prober broke (MemoryError).")]
