"""An open-loop load generator: requests leave when they are due, whatever the answers do.

Latencies count from the due time, so that a server that stalls cannot hide it by slowing its client down
(coordinated omission, as Gil Tene named it).
"""

import asyncio
import itertools
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import aiohttp

from delivery.application import LoadTest
from delivery.errors import InvalidSettings
from delivery.ports import Address
from delivery.release import Release

TIMEOUT_SECONDS = 10.0
MOST_OPEN = 2000
_LONGEST_NAP_SECONDS = 0.05  # how late a stop may be noticed


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the load; `label` is for whoever reads the answers."""

    url: str
    method: str = "GET"
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request. Times are seconds since the load began; `status` is None when there was no answer, and `error` tells
    why: `timeout`, `connection`, `payload` (the answer broke off), or `saturated` (never sent, too many were open).
    """

    number: int
    due: float
    start: float
    end: float
    status: int | None
    error: str | None
    label: str = ""

    @property
    def latency_ms(self) -> float:
        """From when it was due, not from when it left."""
        return 1000 * (self.end - self.due)

    @property
    def failed(self) -> bool:
        return self.status is None or self.error is not None or self.status >= 400


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said: headers (names in any case) and body. It is handed on and not kept, since a load has many."""

    headers: Mapping[str, str]
    body: bytes


NO_REPLY = Reply({}, b"")


@dataclass(frozen=True)
class LoadResult:
    """What a load showed. Percentiles are milliseconds from the due time over all requests, None when none was sent."""

    requests: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    by_status: Mapping[str, int]

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> "LoadResult":
        latencies = sorted(answer.latency_ms for answer in answers)
        seen = Counter(str(answer.status) if answer.error is None else answer.error for answer in answers)
        return cls(
            requests=len(answers),
            failed=sum(answer.failed for answer in answers),
            p50_ms=percentile(latencies, 0.50),
            p95_ms=percentile(latencies, 0.95),
            p99_ms=percentile(latencies, 0.99),
            by_status=dict(sorted(seen.items())),
        )

    @property
    def failed_share(self) -> float | None:
        return self.failed / self.requests if self.requests else None

    def problems(self, wanted: LoadTest) -> tuple[str, ...]:
        """What is worse than the load test allows, as sentences; a load that sent nothing has shown nothing."""
        if self.failed_share is None or self.p95_ms is None:
            return ("no request was sent",)
        found = []
        if self.failed_share > wanted.max_failed_share:
            found.append(
                f"{self.failed} of {self.requests} requests failed ({100 * self.failed_share:.3g} %), "
                f"expected at most {100 * wanted.max_failed_share:.3g} %; answers: {_told(self.by_status)}"
            )
        if self.p95_ms > wanted.max_p95_ms:
            found.append(f"p95 response time {self.p95_ms:.0f} ms, expected at most {wanted.max_p95_ms:.0f} ms")
        return tuple(found)

    def sentence(self) -> str:
        p95 = "unknown" if self.p95_ms is None else f"{self.p95_ms:.0f} ms"
        return f"{self.requests:,} requests, {self.failed} failed, p95 {p95}"

    def facts(self) -> dict[str, object]:
        rounded = {name: None if value is None else round(value, 1) for name, value in self._percentiles().items()}
        return {"requests": self.requests, "failed": self.failed, "by_status": dict(self.by_status), **rounded}

    def _percentiles(self) -> dict[str, float | None]:
        return {"p50_ms": self.p50_ms, "p95_ms": self.p95_ms, "p99_ms": self.p99_ms}


def run_load(base_url: str, wanted: LoadTest, *, stop: threading.Event | None = None) -> LoadResult:
    """The load test through one address, `paths` in turn. Returns early when `stop` is set."""
    urls = [urljoin(base_url, path) for path in wanted.paths]
    return _run(urls, wanted, stop)


def run_load_on(addresses: Sequence[Address], release: Release, wanted: LoadTest, *, stop: threading.Event | None = None) -> LoadResult:
    """The load test straight on a release's replicas, for a target without traffic layer: each path goes to the service whose route fits
    best, its replicas in turn.
    """
    widest = max((service.replicas for service in release.services), default=1)
    urls = []
    for turn, path in itertools.product(range(widest), wanted.paths):
        service = _service_for(path, release)
        replicas = [address.url for address in addresses if address.service == service]
        if not replicas:
            raise InvalidSettings(
                f"The load test asks for {path}: got no replica of {service or 'any service'} for it, expected one.",
                next="correct load.paths or the routes in greenroom.toml.",
            )
        urls.append(urljoin(replicas[turn % len(replicas)], path))
    return _run(urls, wanted, stop)


async def open_loop(
    rate: float,
    seconds: float | None,
    make_request: Callable[[int], Request],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    most_open: int = MOST_OPEN,
    stop: threading.Event | None = None,
    on_answer: Callable[[Answer, Reply], None] | None = None,
) -> list[Answer]:
    """Sends request number n at n/rate seconds, for `seconds` or (None) until `stop` is set; waits for the open ones and returns all.

    With more than `most_open` unanswered, a due request is not sent but recorded as failed (`saturated`), so that a dead server cannot
    fill the machine. `on_answer` gets each answer with what the server said as it arrives.
    """
    loop = asyncio.get_running_loop()
    answers: list[Answer] = []
    open_ones: set[asyncio.Task[None]] = set()
    total = math.inf if seconds is None else round(rate * seconds)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        began = loop.time()

        def keep(answer: Answer, reply: Reply = NO_REPLY) -> None:
            answers.append(answer)
            if on_answer is not None:
                on_answer(answer, reply)

        async def send(number: int, due: float, request: Request) -> None:
            start = loop.time() - began
            status, error, reply = await _exchange(session, request)
            keep(Answer(number, due, start, loop.time() - began, status, error, request.label), reply)

        number = 0
        while number < total and not (stop is not None and stop.is_set()):
            due = number / rate
            ahead = due - (loop.time() - began)
            if ahead > 0:
                await asyncio.sleep(min(ahead, _LONGEST_NAP_SECONDS))
                continue
            request = make_request(number)
            if len(open_ones) >= most_open:
                now = loop.time() - began
                keep(Answer(number, due, now, now, None, "saturated", request.label))
            else:
                task = loop.create_task(send(number, due, request))
                open_ones.add(task)
                task.add_done_callback(open_ones.discard)
            number += 1
            if number % 50 == 0:
                await asyncio.sleep(0)  # a generator that lags lets answers in
        if open_ones:
            await asyncio.gather(*open_ones)
    return answers


def percentile(ascending: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile: the smallest value that at least `share` of all values do not exceed; None of nothing."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None


async def _exchange(session: aiohttp.ClientSession, request: Request) -> tuple[int | None, str | None, Reply]:
    """(status, error, reply) of one request."""
    status: int | None = None
    try:
        async with session.request(
            request.method, request.url, data=request.body, headers=request.headers, allow_redirects=False
        ) as response:
            status = response.status
            return status, None, Reply(response.headers, await response.read())
    except TimeoutError:
        return status, "timeout", NO_REPLY
    except aiohttp.ClientPayloadError:
        return status, "payload", NO_REPLY
    except (aiohttp.ClientError, OSError):
        return status, "connection", NO_REPLY


def _run(urls: Sequence[str], wanted: LoadTest, stop: threading.Event | None) -> LoadResult:
    requests = [Request(url) for url in urls]
    if not requests or any(urlsplit(request.url).scheme not in ("http", "https") for request in requests):
        raise InvalidSettings("The load test has no address to ask.", next="give load.paths in greenroom.toml at least one path.")

    def whole() -> list[Answer]:
        return asyncio.run(open_loop(wanted.rate, wanted.seconds, lambda number: requests[number % len(requests)], stop=stop))

    # A thread of its own, since the caller's may already run an event loop.
    with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
        return LoadResult.of(thread.submit(whole).result())


def _service_for(path: str, release: Release) -> str | None:
    fitting = [(len(route), service.name) for service in release.services for route in service.routes if path.startswith(route)]
    return max(fitting)[1] if fitting else None


def _told(by_status: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in by_status.items())
