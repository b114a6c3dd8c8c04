"""Slack as a bot and a webhook see it: a server over real HTTP that keeps messages, and refuses what Slack would refuse.

It knows chat.postMessage, chat.update, conversations.history and conversations.replies; tokens and scopes; Block Kit's limits; rate limits
and outages.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TOKEN = "xoxb-a-secret-token"
HOOK = "hook/T1/B1/a-secret-path"
MENTION = re.compile(r"<([!@#][^>]*)>")
LINK = re.compile(r"<((?:https?|mailto):[^>]*)>")


class Refusal(Exception):  # noqa: N818
    pass


@dataclass
class Slack:
    """The workspace: its channel C1 is called #releases. `errors` are answered by method, `after` is called, `bodies` is what was sent."""

    scopes: set[str] = field(default_factory=lambda: {"chat:write", "channels:history"})
    messages: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    token: str = TOKEN
    errors: dict[str, str] = field(default_factory=dict)
    status: int = 200
    limited_for: int | None = None
    after: Callable[[str], None] = lambda _: None
    url: str = ""

    @property
    def headlines(self) -> list[dict[str, Any]]:
        return [one for one in self.messages if "thread_ts" not in one]

    def texts(self) -> list[str]:
        return [one["text"] for one in self.messages]

    def replies(self, ts: str) -> list[dict[str, Any]]:
        return [one for one in self.messages if one.get("thread_ts") == ts]

    def delete(self, ts: str) -> None:
        self.messages = [one for one in self.messages if one["ts"] != ts]

    def mentions(self) -> list[str]:
        return [found for one in self.messages for words in _words(one) for found in MENTION.findall(words)]

    def links(self) -> set[str]:
        return {found for one in self.messages for words in _words(one) for found in LINK.findall(words)}

    def answer(self, method: str, fields: dict[str, Any], token: str) -> dict[str, Any]:  # noqa: C901  one arm per method
        if token != self.token:
            raise Refusal("invalid_auth")
        wanted = "chat:write" if method.startswith("chat.") else "channels:history"
        if wanted not in self.scopes:
            raise Refusal("missing_scope")
        if error := self.errors.get(method):
            raise Refusal(error)
        match method:
            case "chat.postMessage":
                if fields.get("channel") not in ("#releases", "C1"):
                    raise Refusal("channel_not_found")
                require_fit(fields)
                if "thread_ts" in fields and not self._at(fields["thread_ts"]):
                    raise Refusal("thread_not_found")
                kept = {name: fields[name] for name in ("text", "blocks", "thread_ts", "reply_broadcast", "metadata") if name in fields}
                self.messages.append({**kept, "ts": f"{2_000_000_000 + len(self.asked)}.000100"})
                return {"channel": "C1", "ts": self.messages[-1]["ts"]}
            case "chat.update":
                self._require_id(fields)
                require_fit(fields)
                if not (message := self._at(fields.get("ts"))):
                    raise Refusal("message_not_found")
                message.update({name: fields[name] for name in ("text", "blocks") if name in fields})
                return {"channel": "C1", "ts": message["ts"]}
            case "conversations.history" | "conversations.replies":
                self._require_id(fields)
                oldest = float(fields.get("oldest", 0))
                here = self.headlines if method == "conversations.history" else self.replies(fields["ts"])
                seen = [one for one in here if float(one["ts"]) >= oldest]
                if fields.get("include_all_metadata") not in (True, "true", "1"):
                    seen = [{name: value for name, value in one.items() if name != "metadata"} for one in seen]
                return {"messages": seen[::-1]}
            case _:
                raise Refusal("unknown_method")

    def _at(self, ts: object) -> dict[str, Any] | None:
        return next((one for one in self.messages if one["ts"] == ts), None)

    def _require_id(self, fields: dict[str, Any]) -> None:
        if fields.get("channel") != "C1":  # a name does only for chat.postMessage
            raise Refusal("channel_not_found")


def require_fit(fields: dict[str, Any]) -> None:
    """Raises `Refusal` as Slack does: https://api.slack.com/reference/block-kit/blocks"""
    text, blocks = fields.get("text", ""), fields.get("blocks", [])
    if not text and not blocks:
        raise Refusal("no_text")
    if len(text) > 40_000:
        raise Refusal("msg_too_long")
    if not isinstance(blocks, list) or len(blocks) > 50:
        raise Refusal("invalid_blocks")
    for block in blocks:
        _require_block(block)
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    if len(ids) != len(set(ids)) or any(len(one) > 255 for one in ids):
        raise Refusal("invalid_blocks")


def _require_block(block: dict[str, Any]) -> None:  # noqa: C901, PLR0912  one arm per kind of block
    match block.get("type"):
        case "section":
            if "text" not in block and "fields" not in block:
                raise Refusal("invalid_blocks")
            if "text" in block:
                _require_text(block["text"], 3000)
            if len(block.get("fields", [])) > 10:
                raise Refusal("invalid_blocks")
            for one in block.get("fields", []):
                _require_text(one, 2000)
        case "header":
            _require_text(block.get("text", {}), 150, kinds=("plain_text",))
        case "context":
            if not 1 <= len(block.get("elements", [])) <= 10:
                raise Refusal("invalid_blocks")
            for one in block["elements"]:
                _require_text(one, 3000)
        case "actions":
            if not 1 <= len(block.get("elements", [])) <= 25:
                raise Refusal("invalid_blocks")
            for one in block["elements"]:
                _require_button(one)
        case "divider":
            return
        case _:
            raise Refusal("invalid_blocks")


def _require_text(text: dict[str, Any], limit: int, *, kinds: tuple[str, ...] = ("plain_text", "mrkdwn")) -> None:
    known = {"type", "text", "verbatim"} if text.get("type") == "mrkdwn" else {"type", "text", "emoji"}
    if text.get("type") not in kinds or not 1 <= len(text.get("text", "")) <= limit or text.keys() - known:
        raise Refusal("invalid_blocks")


def _require_button(button: dict[str, Any]) -> None:
    _require_text(button.get("text", {}), 75, kinds=("plain_text",))
    too_long = len(button.get("action_id", "")) > 255 or len(button.get("url", "")) > 3000 or len(button.get("value", "")) > 2000
    if button.get("type") != "button" or too_long:
        raise Refusal("invalid_blocks")


def _words(message: dict[str, Any]) -> Iterator[str]:
    yield message.get("text", "")
    for block in message.get("blocks", []):
        if block.get("text", {}).get("type") == "mrkdwn":
            yield block["text"]["text"]


@contextmanager
def slack_server() -> Iterator[Slack]:  # noqa: C901  a handler is a class in its own right
    state, lock = Slack(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            self._serve(json.loads(body) if "json" in self.headers.get("content-type", "") else dict(parse_qsl(body)))

        def do_GET(self) -> None:
            self._serve(dict(parse_qsl(urlsplit(self.path).query)))

        def _serve(self, fields: dict[str, Any]) -> None:
            path = urlsplit(self.path).path.strip("/")
            method = path.rpartition("/")[2] if path.startswith("api/") else "hook"
            with lock:
                state.asked.append(method)
                state.bodies.append(fields)
                if state.limited_for is not None:
                    self._say(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": str(state.limited_for)})
                elif state.status != 200:
                    self._say(state.status, {"ok": False, "error": "fatal_error"})
                elif method == "hook":
                    self._hook(path, fields)
                else:
                    token = self.headers.get("authorization", "").removeprefix("Bearer ")
                    try:
                        answer = {"ok": True, **state.answer(method, fields, token)}
                    except Refusal as refused:
                        answer = {"ok": False, "error": str(refused)}
                    state.after(method)
                    self._say(200, answer)

        def _hook(self, path: str, fields: dict[str, Any]) -> None:
            try:
                require_fit(fields)
            except Refusal as refused:
                self._say(400, str(refused))
                return
            if path != HOOK:
                self._say(404, "no_service")
                return
            state.messages.append({**fields, "ts": f"{len(state.asked)}"})
            self._say(200, "ok")

        def _say(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # whoever asked was killed
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
