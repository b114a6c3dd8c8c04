"""Telling Slack, against a small HTTP server that answers as Slack does."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from pydantic import SecretStr

from blocks.notifier import RememberedMessages, SlackNotifier, escaped
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.redaction import know

TOKEN = "xoxb-a-secret-token"


@dataclass
class Slack:
    """What was asked, and what is answered: an error's name, an HTTP status, or all is well."""

    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    status: int = 200
    url: str = ""


@pytest.fixture
def slack() -> Iterator[Slack]:
    state = Slack()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            fields = json.loads(body) if "json" in self.headers["content-type"] else dict(parse_qsl(body))
            method = self.path.rpartition("/")[2]
            state.asked.append((method, fields))
            error = state.errors.get(method)
            answer = {"ok": False, "error": error} if error else {"ok": True, "channel": "C1", "ts": f"17.{len(state.asked)}"}
            text = "ok" if method == "hook" else json.dumps(answer)
            self.send_response(state.status)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def bot(slack: Slack) -> SlackNotifier:
    return SlackNotifier(token=SecretStr(TOKEN), channel="#releases", api_url=f"{slack.url}api/")


def test_the_same_key_updates_the_same_message(slack: Slack, bot: SlackNotifier) -> None:
    bot.post("production/production-1", "it has begun")
    bot.post("production/production-1", "it is live")
    assert [method for method, _ in slack.asked] == ["chat.postMessage", "chat.update"]
    assert (slack.asked[1][1]["channel"], slack.asked[1][1]["ts"]) == ("C1", "17.1")


def test_another_process_updates_the_message_too(slack: Slack, bot: SlackNotifier, tmp_path: Path) -> None:
    bot.remember_in(RememberedMessages(tmp_path))
    bot.post("production/request-7", "waits for approval")
    later = SlackNotifier(token=SecretStr(TOKEN), channel="#releases", api_url=bot.api_url)
    later.remember_in(RememberedMessages(tmp_path))
    later.post("production/request-7", "it is live")
    assert slack.asked[-1][0] == "chat.update"


def test_a_message_that_somebody_deleted_is_posted_anew(slack: Slack, bot: SlackNotifier) -> None:
    bot.post("key", "one")
    slack.errors["chat.update"] = "message_not_found"
    bot.post("key", "two")
    assert [method for method, _ in slack.asked] == ["chat.postMessage", "chat.update", "chat.postMessage"]


def test_a_webhook_appends(slack: Slack) -> None:
    hook = SlackNotifier(webhook=SecretStr(f"{slack.url}hook"))
    hook.post("key", "one", link="http://here")
    hook.post("key", "two")
    assert [fields["text"] for _, fields in slack.asked] == ["one\n<http://here|Open>", "two"]


def test_a_text_mentions_nobody_and_links_nowhere() -> None:
    assert escaped("<!channel> & <http://evil|good>") == "&lt;!channel&gt; &amp; &lt;http://evil|good&gt;"


def test_what_is_known_to_be_secret_is_not_told_even_when_the_journal_has_kept_it(slack: Slack, bot: SlackNotifier) -> None:
    know(["correct-horse"])
    bot.post("key", "it said correct-horse")
    assert slack.asked[-1][1]["text"] == "it said ***"


@pytest.mark.parametrize(("status", "error"), [(503, None), (200, "ratelimited")])
def test_what_may_pass_is_told_as_such(slack: Slack, bot: SlackNotifier, status: int, error: str | None) -> None:
    slack.status = status
    if error:
        slack.errors["chat.postMessage"] = error
    with pytest.raises(TransientError):
        bot.post("key", "text")


def test_a_refused_token_is_named_without_the_token(slack: Slack, bot: SlackNotifier) -> None:
    slack.errors["chat.postMessage"] = "invalid_auth"
    with pytest.raises(DeliveryError, match="invalid_auth") as refused:
        bot.post("key", "text")
    assert not isinstance(refused.value, TransientError)
    assert TOKEN not in f"{refused.value!s}{refused.value!r}"


def test_a_dead_slack_is_a_transient_error_without_the_address() -> None:
    hook = SlackNotifier(webhook=SecretStr("http://127.0.0.1:9/secret-path"), timeout_seconds=1)
    with pytest.raises(TransientError) as dead:
        hook.post("key", "text")
    assert "secret-path" not in str(dead.value)


@pytest.mark.parametrize("fields", [{}, {"token": "t"}, {"channel": "c"}, {"token": "t", "channel": "c", "webhook": "http://x"}])
def test_a_notifier_has_exactly_one_way(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match="neither or both"):
        SlackNotifier(**fields)
