"""Users: an open loop of requests from a process of its own, each answer told as it comes.

Reads and orders over kept-alive and over new connections, slow requests of three seconds, and always one long poll.
"""

import asyncio
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from threading import Event

from tasks.load import Answer, Reply, Request, open_loop
from tests.chaos.real.processes import context

SLOW_SECONDS, POLL_SECONDS = 3, 6
RATE = 40.0
NEW_SHARE = 0.35  # of the requests come over a connection of their own
CLOSE = {"Connection": "close"}


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer. Times are the machine's steady clock; `kind` is read, order, slow or poll, `order` its id; `new` is a new connection."""

    due: float
    ended: float
    status: int | None
    error: str | None
    kind: str
    order: str
    new: bool
    version: str

    @property
    def failed(self) -> bool:
        return self.status is None or self.error is not None or self.status >= 400

    @property
    def acknowledged(self) -> bool:
        return self.kind == "order" and not self.failed

    def sentence(self) -> str:
        connection = "a new" if self.new else "a kept"
        return f"{self.kind} over {connection} connection: {self.error or self.status}"


def _request(url: str, number: int, *, new: bool) -> Request:
    headers = CLOSE if new else {}
    if number % 13 == 5:
        return Request(f"{url}/slow?seconds={SLOW_SECONDS}", headers=headers, label="slow")
    if number % 4 == 1:
        order = uuid.uuid4().hex
        return Request(f"{url}/order?id={order}", method="POST", headers=headers, label=f"order {order}")
    return Request(f"{url}/{number}", headers=headers, label="read")


def _ask(url: str, rate: float, stop: Event, answers: Connection) -> None:
    """The process' main function."""

    async def everything() -> None:
        async def loop(rate: float, *, new: bool, poll: bool = False) -> None:
            def make(number: int) -> Request:
                return Request(f"{url}/poll?seconds={POLL_SECONDS}", label="poll") if poll else _request(url, number, new=new)

            def on_answer(answer: Answer, reply: Reply) -> None:
                ended = time.monotonic()
                kind, _, order = answer.label.partition(" ")
                due = ended - (answer.end - answer.due)
                answers.send((due, ended, answer.status, answer.error, kind, order, new, _version(reply)))

            await open_loop(rate, None, make, stop=stop, on_answer=on_answer)

        await asyncio.gather(
            loop(rate * (1 - NEW_SHARE), new=False), loop(rate * NEW_SHARE, new=True), loop(1 / POLL_SECONDS, new=False, poll=True)
        )

    asyncio.run(everything())
    answers.close()


def _version(reply: Reply) -> str:
    try:
        return str(json.loads(reply.body)["version"]) if reply.body else ""
    except (ValueError, KeyError, TypeError):
        return ""


class Users:
    """A load that goes on until `leave`; `between` tells what was answered in a span of time."""

    def __init__(self, url: str, rate: float = RATE) -> None:
        self._stop = context().Event()
        self._answers, sending = context().Pipe(duplex=False)
        self._process = context().Process(target=_ask, args=(url, rate, self._stop, sending), daemon=True)
        self._process.start()
        sending.close()
        self._seen: list[Seen] = []
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="users", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                fields = self._answers.recv()
            except (EOFError, OSError):
                return
            with self._lock:
                self._seen.append(Seen(*fields))

    def between(self, since: float, until: float) -> list[Seen]:
        """By when they were answered: a request that fails is counted where it failed, not where it began."""
        with self._lock:
            return [seen for seen in self._seen if since <= seen.ended < until]

    def leave(self) -> None:
        """No new requests; the open ones are waited for."""
        self._stop.set()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()
        self._reader.join(5)


def told(failed: Sequence[Seen]) -> str:
    """`3 x order over a new connection: 502, …`."""
    return ", ".join(f"{count} x {sentence}" for sentence, count in Counter(seen.sentence() for seen in failed).most_common(4))
