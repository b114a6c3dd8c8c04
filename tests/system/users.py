"""Users who are there all along: an open loop of readers on one environment, and a memory of what each of them got."""

import asyncio
import threading
import time
from dataclasses import dataclass

from tasks.load import Answer, Reply, Request, open_loop

VERSION_HEADER = "x-release-version"
PATHS = ("/", "/api/listings?limit=5", "/health")


@dataclass(frozen=True)
class Got:
    """What one user got: when (monotonic seconds), from which version, and what went wrong, if anything did."""

    at: float
    version: str
    failure: str | None


class Users:
    """Use as a context manager; `rate` is requests per second."""

    def __init__(self, url: str, *, rate: float) -> None:
        self._url = url.rstrip("/")
        self._rate = rate
        self._stop = threading.Event()
        self._got: list[Got] = []
        self._thread = threading.Thread(target=self._run, name=f"users of {url}", daemon=True)

    def start(self) -> None:
        """From now on; once they have come, they stay."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=60)

    def got(self, *, since: float = 0.0) -> list[Got]:
        """What came in from that moment on (monotonic seconds)."""
        return [one for one in list(self._got) if one.at >= since]

    def failures(self, *, since: float = 0.0) -> list[str]:
        return [one.failure for one in self.got(since=since) if one.failure]

    def versions(self, *, since: float = 0.0) -> set[str]:
        """Which versions answered; what failed without an answer counts as none."""
        return {one.version for one in self.got(since=since) if not one.failure}

    def _run(self) -> None:
        asyncio.run(open_loop(self._rate, None, self._request, stop=self._stop, on_answer=self._note, timeout_seconds=30.0))

    def _request(self, number: int) -> Request:
        path = PATHS[number % len(PATHS)]
        return Request(f"{self._url}{path}", label=path)

    def _note(self, answer: Answer, reply: Reply) -> None:
        told = f"{answer.status or answer.error} {reply.body[:120]!r}"
        failure = f"{answer.label} at {time.strftime('%H:%M:%S')}: {told}" if answer.failed else None
        self._got.append(Got(time.monotonic(), reply.headers.get(VERSION_HEADER, ""), failure))
