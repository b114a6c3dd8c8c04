"""The same notices for whoever takes a POST."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.webhook import WebhookNotifier
from delivery.errors import DeliveryError, TransientError, TryLater, Undeliverable
from delivery.redaction import know


@dataclass
class Address:
    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    got: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def address() -> Iterator[Address]:
    state = Address()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.got.append(({name.casefold(): value for name, value in self.headers.items()}, body))
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/a-secret-path"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def test_a_notice_arrives_as_it_was_written_with_its_key(address: Address) -> None:
    hook = WebhookNotifier(url=SecretStr(address.url), token=SecretStr("t"))
    hook.post("production/request-7#urgent-waiting", "<!channel> “waits”", link="http://here")
    hook.post("production/request-7@", "what passes is left out")
    [(headers, body)] = address.got
    assert body == {
        "key": "production/request-7#urgent-waiting",
        "message": "production/request-7",
        "environment": "production",
        "urgent": True,
        "text": "<!channel> “waits”",
        "link": "http://here",
    }
    assert (headers["idempotency-key"], headers["authorization"]) == ("production/request-7#urgent-waiting", "Bearer t")


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (429, {"Retry-After": "17"}, TryLater),
        (429, {}, TransientError),
        (500, {}, TransientError),
        (413, {}, Undeliverable),
        (401, {}, DeliveryError),
        (302, {"Location": "http://elsewhere.example"}, DeliveryError),
    ],
)
def test_a_refusal_is_told_for_what_it_is(address: Address, status: int, headers: dict[str, str], kind: type[DeliveryError]) -> None:
    address.status, address.headers = status, headers
    with pytest.raises(DeliveryError) as refused:
        WebhookNotifier(url=SecretStr(address.url)).post("production/production-1", "text")
    assert type(refused.value) is kind
    assert "secret-path" not in str(refused.value)
    assert getattr(refused.value, "seconds", 17) == 17


def test_a_dead_address_is_a_transient_error_without_the_address() -> None:
    with pytest.raises(TransientError) as dead:
        WebhookNotifier(url=SecretStr("http://127.0.0.1:9/secret-path"), timeout_seconds=1).post("production/production-1", "text")
    assert "secret-path" not in str(dead.value)


def test_what_is_known_to_be_secret_is_not_sent(address: Address) -> None:
    know(["correct-horse"])
    WebhookNotifier(url=SecretStr(address.url)).post("production/production-1", "it said correct-horse")
    assert "correct-horse" not in str(address.got[-1])
