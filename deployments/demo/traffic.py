"""The demo's users: an open loop of reads, writes and jobs on production, and a ledger of everything that was promised to them."""

import asyncio
import json
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from pydantic import SecretStr

from tasks.load import Answer, Reply, Request, open_loop, percentile

# The one release of the story that fails by itself; what it answers wrongly is its own doing, not the pipeline's.
SICK_VERSION = "1.2.0"
VERSION_HEADER = "x-release-version"


@dataclass
class Ledger:
    """What users were promised: keys of writes that were acknowledged and of jobs that were accepted, as the answers told them."""

    written: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    own_errors: int = 0
    failed: list[str] = field(default_factory=list)
    last_answers: dict[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Tally:
    """The sum at the end. `failed` leaves out `own_errors`: answers of 5xx that say that the sick release gave them."""

    requests: int
    failed: int
    own_errors: int
    acknowledged_writes: int
    lost_writes: int
    doubled_writes: int
    accepted_jobs: int
    completed_jobs: int
    p50_ms: float
    p99_ms: float
    examples: tuple[str, ...] = ()

    def problems(self) -> tuple[str, ...]:
        found = []
        if self.failed:
            found.append(f"{self.failed} of {self.requests} requests failed: {'; '.join(self.examples)}")
        if self.lost_writes or self.doubled_writes:
            found.append(f"{self.lost_writes} acknowledged writes are lost and {self.doubled_writes} are there more than once, expected 0")
        if self.completed_jobs != self.accepted_jobs:
            found.append(f"{self.completed_jobs} of {self.accepted_jobs} accepted jobs were completed")
        if not self.requests:
            found.append("no request was sent")
        return tuple(found)


class Users:
    """Starts and stops the load on its own thread. One in ten requests writes, one in a hundred asks for a job."""

    def __init__(self, url: str, *, rate: float, seeded_rows: int, prefix: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._rate = rate
        self._rows = seeded_rows
        self._prefix = prefix or f"demo-{int(time.time())}-"
        self._ledger = Ledger()
        self._stop = threading.Event()
        self._answers: list[Answer] = []
        self._random = random.Random(7)  # noqa: S311  the same users in each demo
        self._thread = threading.Thread(target=self._run, name="users", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sends nothing more, and waits for the answers that are still under way."""
        self._stop.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        self._answers = asyncio.run(open_loop(self._rate, None, self._request, stop=self._stop, on_answer=self._note, timeout_seconds=30.0))

    def _request(self, number: int) -> Request:
        key = f"{self._prefix}{number}"
        if number % 100 == 50:
            return self._post("/api/jobs", {"key": key}, label=f"job {key}")
        match number % 10:
            case 0:
                return self._post(
                    "/api/listings", {"key": key, "title": f"Listing {number}", "price_cents": 1000 + number}, label=f"write {key}"
                )
            case 1:
                return Request(f"{self._url}/", label="page")
            case 2 | 3:
                return Request(f"{self._url}/api/listings?limit=20", label="list")
            case _:
                return Request(f"{self._url}/api/listings/{self._random.randint(1, self._rows)}", label="read")

    def _post(self, path: str, body: dict[str, Any], *, label: str) -> Request:
        return Request(
            f"{self._url}{path}", method="POST", body=json.dumps(body).encode(), headers={"content-type": "application/json"}, label=label
        )

    def last_answer_from(self, version: str) -> datetime | None:
        """When anybody last got an answer from that version, by this machine's clock; None when nobody did."""
        return self._ledger.last_answers.get(version)

    def _note(self, answer: Answer, reply: Reply) -> None:
        if version := reply.headers.get(VERSION_HEADER):
            self._ledger.last_answers[version] = datetime.now(UTC)
        what, _, key = answer.label.partition(" ")
        if answer.failed:
            if answer.status is not None and answer.status >= 500 and reply.headers.get(VERSION_HEADER) == SICK_VERSION:
                self._ledger.own_errors += 1
            else:
                self._ledger.failed.append(f"{what} at {answer.due:.1f} s: {answer.status or answer.error} {reply.body[:80]!r}")
        elif what == "write":
            self._ledger.written.add(key)
        elif what == "job":
            self._ledger.accepted.add(key)

    def tally(self, database: SecretStr, *, jobs_patience_seconds: float) -> Tally:
        """Compares the ledger with production's own tables; waits for the jobs that workers still have to do."""
        ledger = self._ledger
        with psycopg.connect(database.get_secret_value(), autocommit=True) as connection:
            listings = self._keys(connection, "SELECT key FROM listings WHERE starts_with(key, %s)")
            completed = self._completed(connection, deadline=time.monotonic() + jobs_patience_seconds)
        latencies = sorted(answer.latency_ms for answer in self._answers)
        return Tally(
            requests=len(self._answers),
            failed=len(ledger.failed),
            own_errors=ledger.own_errors,
            acknowledged_writes=len(ledger.written),
            lost_writes=len(ledger.written - set(listings)),
            doubled_writes=len(listings) - len(set(listings)),
            accepted_jobs=len(ledger.accepted),
            completed_jobs=len(ledger.accepted & completed),
            p50_ms=round(percentile(latencies, 0.5) or 0.0, 1),
            p99_ms=round(percentile(latencies, 0.99) or 0.0, 1),
            examples=tuple(ledger.failed[:5]),
        )

    def _completed(self, connection: "psycopg.Connection[tuple[str]]", *, deadline: float) -> set[str]:
        pause = 0.2
        while True:
            done = set(self._keys(connection, "SELECT key FROM job_completions WHERE starts_with(key, %s)"))
            if done >= self._ledger.accepted or time.monotonic() > deadline:
                return done
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)

    def _keys(self, connection: "psycopg.Connection[tuple[str]]", query: LiteralString) -> list[str]:
        return [row[0] for row in connection.execute(query, (self._prefix,)).fetchall()]
