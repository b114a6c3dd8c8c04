"""From the evidence to the users being back: how long do users of a worse release wait once the judge could know?

`python -m bench.way_back --times 5`. Two versions of a little application share the users on a real engine behind a real Traefik; the new
one answers every other request with an error. The whole rollout is walked, journaled in SQLite; the clock starts when the scrape that
made the evidence suffice was read, and stops when Traefik's API gives the old version every request. The last line is one JSON object:

* seconds_median, seconds_longest: with replicas that answer their health path at once;
* seconds_median_hanging, seconds_longest_hanging: with ones that hang there, as a sick one does, so that asking them takes its full time;
* load_average, cpus: of this machine, since every figure is worth what the machine was.
"""

import argparse
import itertools
import json
import logging
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx

from bench.stand import Stand, web
from blocks.journal import SqlJournal
from blocks.metrics import TraefikMetrics
from delivery.environment import Environment, Identity, JudgeSettings, Proving, Traffic, WatchSettings
from delivery.errors import DeliveryError, TransientError
from delivery.health import Counters
from delivery.journal import Ending
from delivery.plan import plan_rollout
from delivery.release import Release
from tasks.lease import LeaseKeeper
from tasks.rollout import Means, retire_warm, walk_rollout

A_MINUTE = timedelta(minutes=1)
ASKERS = 4


class Stamped:
    """Traefik's counters, and when they were read."""

    def __init__(self, source: TraefikMetrics) -> None:
        self._source = source
        self.read_at: list[float] = []

    def scrape(self, releases: Iterable[Release]) -> Mapping[str, Counters]:
        found = self._source.scrape(releases)
        self.read_at.append(time.monotonic())
        return found

    def gauges_of(self, release: Release) -> Mapping[str, float]:
        return self._source.gauges_of(release)


class WayBack:
    """One environment with a well release, to which a worse one comes again and again."""

    def __init__(self, stand: Stand, folder: Path, *, hanging: bool) -> None:
        self.name = stand.environment()
        self._stand, self._folder = stand, folder
        self._target = stand.target(self.name, memory_limit_mb=128)
        self._metrics = stand.metrics(self.name)
        self._journal = SqlJournal(f"sqlite:///{folder / self.name}.db")
        self._journal.migrate()
        settings = {"ERRS": "1", **({"HEALTH_SECONDS": "5"} if hanging else {})}
        self._blue = stand.release("1.0.0", (web(replicas=2),))
        self._green = stand.release("1.1.0", (web(replicas=2, settings=settings),))
        self._environment = Environment(
            environment=Identity(self.name, target=self.name),
            traffic=Traffic(steps=(50, 100), watch_seconds=60, bake_seconds=0, hold_seconds=0),
            watch=WatchSettings(interval_seconds=1, window_seconds=10, minimum_requests=1, blind_seconds=30),
            judge=JudgeSettings(look_seconds=1),
            prove=Proving(smoke=False),
        )

    def begin(self) -> None:
        unwatched = replace(self._environment, traffic=Traffic(steps=(100,), watch_seconds=0, bake_seconds=0, hold_seconds=0))
        self._roll_out(self._blue, None, unwatched, Stamped(self._metrics), expected=Ending.LIVE)

    def seconds(self) -> float:
        """One rollout of the worse release, from the deciding scrape to Traefik giving the well one every request."""
        stamped, back, over = Stamped(self._metrics), [0.0], threading.Event()

        def follow() -> None:
            shared = False
            while not over.wait(0.01):
                try:
                    weights = self._target.traffic.live_weights()
                except (TransientError, DeliveryError):
                    continue
                if shared and weights.get(self._blue.id) == 100 and not back[0]:
                    back[0] = time.monotonic()
                shared = shared or weights.get(self._green.id, 0) > 0

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            self._roll_out(self._green, self._blue, self._environment, stamped, expected=Ending.ROLLED_BACK)
        finally:
            over.set()
            follower.join()
        retire_warm(self._journal, self._target, self.name, now=self._journal.now(), holder="bench", ttl=A_MINUTE)
        # What is read once the users are back is for the report.
        return back[0] - max(moment for moment in stamped.read_at if moment < back[0])

    def _roll_out(self, green: Release, blue: Release | None, environment: Environment, metrics: Stamped, *, expected: Ending) -> None:
        plan = plan_rollout(green, environment, capabilities=self._target.capabilities, blue=blue)
        self._journal.save_release(green)
        with LeaseKeeper(self._journal, self.name, holder="bench", purpose="a rollout", ttl=A_MINUTE) as keeper:
            rollout = self._journal.open_rollout(keeper.lease, plan, by="bench")
            means = Means(target=self._target, metrics=metrics, folder=self._folder)
            closed = walk_rollout(self._journal, keeper, rollout, means, stop=threading.Event())
        if closed.ending is not expected or (blue and "green answers" not in closed.message):
            raise DeliveryError(f"The rollout ended otherwise than it should: {closed.message}", next="look at the message.")
        print(f"  {closed.message}", flush=True)


def measured(stand: Stand, folder: Path, *, times: int, hanging: bool) -> list[float]:
    way_back = WayBack(stand, folder, hanging=hanging)
    way_back.begin()
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=5, trust_env=False) as client:
            for number in itertools.count():
                if over.wait(0.02):
                    return
                client.get(f"{stand.url}/{number}")

    askers = [threading.Thread(target=ask, daemon=True) for _ in range(ASKERS)]
    for asker in askers:
        asker.start()
    try:
        return [way_back.seconds() for _ in range(times)]
    finally:
        over.set()
        for asker in askers:
            asker.join()
        stand.clear(way_back.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="rollouts of each kind")
    asked = parser.parse_args()
    logging.getLogger("greenroom").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as folder:
        stand = Stand(Path(folder) / "stand")
        try:
            stand.open()
            quick, hanging = (measured(stand, Path(folder), times=asked.times, hanging=hangs) for hangs in (False, True))
        finally:
            stand.close()
    print(
        json.dumps(
            {
                "times": asked.times,
                "seconds_median": round(statistics.median(quick), 2),
                "seconds_longest": round(max(quick), 2),
                "seconds_median_hanging": round(statistics.median(hanging), 2),
                "seconds_longest_hanging": round(max(hanging), 2),
                "load_average": [round(minutes, 1) for minutes in os.getloadavg()],
                "cpus": os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
