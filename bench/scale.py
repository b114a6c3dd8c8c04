"""How long a large journal takes to tell how well software is delivered: `python -m bench.scale --events 100000`.

A journal in SQLite with whole rollouts in it (twenty-eight entries each, with plans, evidence and commits as large as real ones), written
as the journal writes them but without its locks; then the delivery metrics from it, as `greenroom metrics` makes them. The last line is one
JSON object:

* events, rollouts: what the journal holds; journal_mib: the file's size;
* read_seconds: from the database to stories; facts_seconds: from stories to facts; measure_seconds: from facts to the metrics of the last
  four weeks and of each week of the last quarter;
* seconds: all of it, the best of `--rounds`; seconds_median: the middle of them;
* load_average, cpus: of this machine over the last 1, 5 and 15 minutes, since every figure is worth what the machine was.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from blocks.documents import canonical
from blocks.journal import SqlJournal
from blocks.journal_tables import entries, releases, rollouts
from delivery.application import Hook, LoadTest, MigrationSettings, Service, Smoke
from delivery.dora_facts import facts_of
from delivery.environment import Capability, Environment, Identity, Proving, Traffic
from delivery.image import ImageRef
from delivery.journal import Closed, Ending, Event, Evidence, Finished, Opened, Promoted, Started, TurnedBack
from delivery.plan import Plan, plan_rollout
from delivery.release import Release, release_id
from delivery.source import Commit, Semver, Sha
from tasks.delivery_report import figures, weeks_until, window_until

BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)
EVERY = timedelta(hours=5)
COMMITS = 8
SICK_EVERY = 7
ENVIRONMENT = Environment(
    environment=Identity("production", target="production"),
    traffic=Traffic(steps=(10, 50, 100)),
    prove=Proving(smoke=True, load=True),
)
COUNTERS = {
    "counters": {side: {"requests": 123_456, "errors": 12, "release": "v1.0.0-3f2a1bc9"} for side in ("green", "blue")},
    "p95_ms": 41.5,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "journal.db"
        journal = SqlJournal(f"sqlite:///{file}")
        journal.migrate()
        events, count = fill(journal, asked.events)
        print(f"{events} events of {count} rollouts are written", flush=True)
        rounds = [measured(journal) for _ in range(asked.rounds)]
        size = file.stat().st_size / 2**20
        journal.close()
    whole = [sum(times) for times in rounds]
    best = rounds[whole.index(min(whole))]
    found = {
        "events": events,
        "rollouts": count,
        "journal_mib": round(size, 1),
        **{name: round(seconds, 3) for name, seconds in zip(("read_seconds", "facts_seconds", "measure_seconds"), best, strict=True)},
        "seconds": round(min(whole), 3),
        "seconds_median": round(statistics.median(whole), 3),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "cpus": os.cpu_count(),
    }
    print(json.dumps(found))
    return 0


def measured(journal: SqlJournal) -> tuple[float, float, float]:
    began = time.perf_counter()
    stories, reports = journal.stories(), journal.incident_facts()
    read = time.perf_counter()
    facts = facts_of(stories, reports)
    told = time.perf_counter()
    now = stories[-1].opened_at + EVERY
    window = window_until(now, days=28)
    found = [facts.deliveries("production", "shop", one) for one in (window, *weeks_until(window.end))]
    pages = [figures(seen) for seen in found]
    done = time.perf_counter()
    if not all(seen.population and seen.lead_times().per_commit for seen in found) or not pages:
        raise SystemExit("The journal told nothing: this bench measures nothing.")
    return read - began, told - read, done - told


def fill(journal: SqlJournal, wanted: int) -> tuple[int, int]:
    """Whole rollouts, until there are as many entries; every seventh is turned back. Returns how many entries and rollouts there are."""
    with journal._database.engine.begin() as connection:  # noqa: SLF001  past the leases, which would take an hour
        blue, written, number = release(0), 0, 0
        connection.execute(insert(releases).values(_release_row(blue)))
        while written < wanted:
            number += 1
            green, at = release(number), BEGINNING + number * EVERY
            plan = plan_rollout(green, ENVIRONMENT, capabilities=frozenset(Capability), blue=blue)
            events = list(story(plan, sick=number % SICK_EVERY == 0))
            rollout = f"production-{number}"
            is_live = any(isinstance(event, Promoted) for event in events)
            connection.execute(insert(releases).values(_release_row(green)))
            connection.execute(
                insert(rollouts).values(
                    id=rollout,
                    environment="production",
                    number=number,
                    release_id=green.id,
                    blue_id=blue.id,
                    version=str(green.version),
                    kind="normal",
                    by="bench",
                    request=number,
                    opened_at=at,
                    promoted_at=at + timedelta(minutes=30) if is_live else None,
                    ended_at=at + timedelta(minutes=40),
                    ending=(Ending.LIVE if is_live else Ending.ROLLED_BACK).value,
                    message="told",
                )
            )
            connection.execute(
                insert(entries),
                [
                    {
                        "rollout": rollout,
                        "sequence": place,
                        "at": at + place * timedelta(minutes=1),
                        "fence": number,
                        "kind": type(event).__name__,
                        "payload": canonical(event),
                        "previous": "0" * 64,
                        "hash": "0" * 64,
                    }
                    for place, event in enumerate(events, start=1)
                ],
            )
            written += len(events)
            blue = green if is_live else blue
    return written, number


def story(plan: Plan, *, sick: bool) -> Iterator[Event]:
    yield Opened(plan, by="bench")
    for step in plan.forward:
        if sick and step.name == "watch-50":
            yield TurnedBack("error rate 8.1 % is above 5 % for 45 s")
            break
        yield Started(step.name, 1)
        yield Finished(step.name, Evidence(well=True, summary=f"{step.name} is well", facts=COUNTERS))
        if step.name == "promote":
            yield Promoted(plan.release.id)
    if sick:
        for step in plan.back:
            yield Started(step.name, 1)
            yield Finished(step.name, Evidence(well=True, summary=f"{step.name} is well", facts=COUNTERS))
    yield Closed(Ending.ROLLED_BACK if sick else Ending.LIVE, "told")


def release(number: int) -> Release:
    sha, version = Sha(f"{number:040x}"), Semver(1, number, 0)
    at = BEGINNING + number * EVERY
    services = tuple(
        Service(name, "web" if name != "worker" else "worker", name, "Dockerfile", replicas=2, port=8000, ready=("true",))
        for name in ("api", "web", "worker")
    )
    return replace(
        _TEMPLATE,
        id=release_id(version, sha),
        version=version,
        sha=sha,
        created_at=at,
        services=services,
        commits=tuple(f"What commit {number}.{each} brings to people" for each in range(COMMITS)),
        changes=tuple(Commit(f"{number:032x}{each:08x}", at - timedelta(hours=1 + each)) for each in range(COMMITS)),
    )


_TEMPLATE = Release(
    id="template",
    application="shop",
    version=Semver(1, 0, 0),
    sha=Sha("0" * 40),
    author="Ann Author",
    created_at=BEGINNING,
    services=(),
    images={name: ImageRef("registry.example", f"team/shop-{name}", "sha256:" + "0" * 64) for name in ("api", "web", "worker")},
    migrations=MigrationSettings("api"),
    smoke=(Smoke("api", "/api/listings"),),
    load=LoadTest(rate=50, seconds=30, paths=("/api/listings",)),
    hooks=(Hook("cache", ("promote", "rollback"), "api", ("hook", "{event}", "{version}")),),
    evidence={name: f"{name}: passed in 12.3 s, nothing found" for name in ("ruff", "pytest", "eslint", "vitest", "e2e")},
)


def _release_row(one: Release) -> dict[str, object]:
    return {"id": one.id, "version": str(one.version), "sha": str(one.sha), "document": "{}", "saved_at": one.created_at}


if __name__ == "__main__":
    sys.exit(main())
