"""Redeployments in a row under an open loop of requests: does a user notice, and what does Greenroom itself cost?

`python -m bench.rollout --redeploys 20 --rate 200`. Each redeployment is a whole rollout: leased, journaled in SQLite, walked by the
very code that flows and the command line walk, and its predecessor retired at once. The last line is one JSON object:

* requests, failed: what the load generator (a process of its own) saw, from before the first redeployment to after the last;
* overhead_seconds_median: one service with one replica, from the launch's entry in the journal to blue being gone, less the
  application's own start (from the engine's StartedAt to the application's line that it serves); nothing is watched or held;
* overhead_seconds_median_three_services: api and web with two replicas each and a worker;
* p99_ms_before, p99_ms_during: from when a request was due, before the first redeployment and while one was under way;
* load_average, cpus: of this machine over the last 1, 5 and 15 minutes, since every figure is worth what the machine was.
"""

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event as ThreadEvent

from bench.stand import Stand, web, worker
from blocks.journal import SqlJournal
from blocks.targets.docker import DockerTarget
from delivery.application import Service
from delivery.environment import Environment, Identity, Proving, Traffic
from delivery.errors import DeliveryError
from delivery.journal import Ending, Started
from delivery.plan import plan_rollout
from delivery.release import Release
from tasks.lease import LeaseKeeper
from tasks.load import Answer, Request, open_loop, percentile
from tasks.rollout import Means, retire_warm, walk_rollout

VERSIONS = ("1.0.0", "1.1.0")
ONE = (web("web"),)
THREE = (
    web("api", replicas=2, routes=("/api",)),
    web("web", replicas=2),
    worker(settings={"JOB_SECONDS": "0.01"}),
)
SERVES = (b" serves", b"takes jobs")
BEFORE_SECONDS = 10.0


@dataclass(frozen=True)
class Redeploy:
    """One redeployment, in seconds: when it began and ended on this machine's steady clock, and of what its time consisted."""

    began: float
    ended: float
    overhead: float
    application_start: float
    steps: dict[str, float]


class Bench:
    """One environment on a stand, with the journal and the walk that a real one has."""

    def __init__(self, stand: Stand, folder: Path, services: tuple[Service, ...]) -> None:
        self.name = stand.environment()
        self._stand = stand
        self._services = services
        self._target: DockerTarget = stand.target(self.name, memory_limit_mb=128)
        self._journal = SqlJournal(f"sqlite:///{folder / self.name}.db")
        self._journal.migrate()
        self._folder = folder
        self._blue: Release | None = None
        self._environment = Environment(
            environment=Identity(self.name, target=self.name),
            traffic=Traffic(steps=(100,), watch_seconds=0, bake_seconds=0, hold_seconds=0),
            prove=Proving(smoke=False),
        )

    def redeploy(self, version: str) -> Redeploy:
        """Brings the environment to this version and retires the one before. Raises `DeliveryError` when it did not go live."""
        green = self._stand.release(version, self._services)
        plan = plan_rollout(green, self._environment, capabilities=self._target.capabilities, blue=self._blue)
        self._journal.save_release(green)
        began = time.monotonic()
        with LeaseKeeper(self._journal, self.name, holder="bench", purpose="a redeployment", ttl=timedelta(seconds=30)) as keeper:
            rollout = self._journal.open_rollout(keeper.lease, plan, by="bench")
            means = Means(target=self._target, metrics=None, folder=self._folder)
            closed = walk_rollout(self._journal, keeper, rollout, means, stop=ThreadEvent())
        if closed.ending is not Ending.LIVE:
            raise DeliveryError(f"The redeployment did not go live: {closed.message}", next="look at the message.")
        retire_warm(self._journal, self._target, self.name, now=self._journal.now(), holder="bench", ttl=timedelta(seconds=30))
        ended, ended_at = time.monotonic(), self._journal.now()
        self._blue = green
        begun = {entry.event.step: entry.at for entry in self._journal.entries(rollout) if isinstance(entry.event, Started)}
        start = self._application_start(green)
        # The last step's time goes on until blue is gone.
        marks = [*begun.items(), ("gone", ended_at)]
        steps = {name: round((until - at).total_seconds(), 3) for (name, at), (_, until) in pairwise(marks)}
        return Redeploy(began, ended, (ended_at - begun["launch"]).total_seconds() - start, start, steps)

    def _application_start(self, release: Release) -> float:
        """The longest of the web services' starts plus the longest of the workers', since they come one after the other."""
        longest = {"web": 0.0, "worker": 0.0}
        labels = [f"greenroom.environment={self.name}", f"greenroom.release={release.id}"]
        for container in self._stand.engine.containers.list(filters={"label": labels}, ignore_removed=True):
            said = container.logs(timestamps=True, tail="all").splitlines()
            serves = next(line for line in said if any(word in line for word in SERVES)).split()[0].decode()
            began = container.attrs["State"]["StartedAt"]
            kind = container.labels["greenroom.kind"]
            longest[kind] = max(longest[kind], (_instant(serves) - _instant(began)).total_seconds())
        return sum(longest.values())


def _instant(text: str) -> datetime:
    """The engine's timestamps have nanoseconds, datetime has microseconds."""
    return datetime.fromisoformat(f"{text.rstrip('Z')[:26].ljust(26, '0')}+00:00")


class Load:
    """Requests at a steady rate from a process of its own, so that it neither slows the rollout down nor is slowed down by it."""

    def __init__(self, url: str, rate: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._answers, sending = context.Pipe(duplex=False)
        self._process = context.Process(target=_ask, args=(url, rate, self._stop, sending), daemon=True)
        self._process.start()
        # On the machine's steady clock, which all processes share.
        self.zero: float = self._answers.recv()

    def finish(self) -> list[Answer]:
        """Stops asking and returns all answers; their times are seconds since `zero`."""
        self._stop.set()
        answers = [Answer(*fields) for fields in self._answers.recv()]
        self._process.join()
        return answers


def _ask(url: str, rate: float, stop: ThreadEvent, answers: Connection) -> None:
    answers.send(time.monotonic())
    found = asyncio.run(open_loop(rate, None, lambda number: Request(f"{url}/{number}"), stop=stop))
    answers.send([astuple(answer) for answer in found])


def run(stand: Stand, folder: Path, *, redeploys: int, rate: float, requests: int, three: int) -> dict[str, object]:
    """The whole bench; returns the numbers of the last line."""
    one = Bench(stand, folder, ONE)
    one.redeploy(VERSIONS[0])
    load = Load(stand.url, rate)
    time.sleep(BEFORE_SECONDS)
    # Spread over the time that so many requests take, since the redeployments alone are over sooner.
    done = _in_a_row(one, redeploys, pace_seconds=(requests / rate - BEFORE_SECONDS) / redeploys)
    time.sleep(max(0.0, load.zero + requests / rate + 1 - time.monotonic()))
    answers, load_zero = load.finish(), load.zero
    stand.clear(one.name)

    several = Bench(stand, folder, THREE)
    several.redeploy(VERSIONS[0])
    load = Load(stand.url, rate)
    done_three = _in_a_row(several, three, pace_seconds=0)
    answers_three = load.finish()

    # Both clocks are the machine's steady one.
    first = min(redeploy.began for redeploy in done)
    before = [answer for answer in answers if load_zero + answer.due < first]
    during = [answer for answer in answers if any(redeploy.began <= load_zero + answer.due <= redeploy.ended for redeploy in done)]
    return {
        "requests": len(answers),
        "failed": sum(answer.failed for answer in answers),
        "redeploys": len(done),
        "overhead_seconds_median": round(statistics.median(redeploy.overhead for redeploy in done), 2),
        "overhead_seconds_median_three_services": round(statistics.median(redeploy.overhead for redeploy in done_three), 2),
        "p99_ms_before": _p99_ms(before),
        "p99_ms_during": _p99_ms(during),
        "requests_three_services": len(answers_three),
        "failed_three_services": sum(answer.failed for answer in answers_three),
        "load_average": [round(minutes, 1) for minutes in os.getloadavg()],
        "cpus": os.cpu_count(),
    }


def _in_a_row(bench: Bench, times: int, *, pace_seconds: float) -> list[Redeploy]:
    done = []
    began = time.monotonic()
    for number in range(times):
        time.sleep(max(0.0, began + number * pace_seconds - time.monotonic()))
        redeploy = bench.redeploy(VERSIONS[(number + 1) % 2])
        done.append(redeploy)
        print(
            f"  {number + 1}: {redeploy.overhead:.2f} s and {redeploy.application_start:.2f} s of application start; {redeploy.steps}",
            flush=True,
        )
    return done


def _p99_ms(answers: Iterable[Answer]) -> float | None:
    found = percentile(sorted(answer.latency_ms for answer in answers), 0.99)
    return None if found is None else round(found, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redeploys", type=int, default=20)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--requests", type=int, default=20_000, help="at least so many requests are sent around the redeployments")
    parser.add_argument("--three", type=int, default=5, help="redeployments of three services")
    asked = parser.parse_args()
    logging.getLogger("greenroom").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as folder:
        stand = Stand(Path(folder) / "stand")
        try:
            stand.open()
            found = run(stand, Path(folder), redeploys=asked.redeploys, rate=asked.rate, requests=asked.requests, three=asked.three)
        finally:
            stand.close()
    print(json.dumps(found))
    sys.exit(1 if found["failed"] or found["failed_three_services"] else 0)


if __name__ == "__main__":
    main()
