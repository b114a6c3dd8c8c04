"""What a migration costs the users who are there: `python -m bench.migrations`. A PostgreSQL of its own; no Docker where its programs are.

An idle reader holds a lock on a table of `--rows` rows for `--seconds`, an application reads and writes beside it, and a column is added by
the runner that a rollout uses. The last line is one JSON object:

* stall_ms: the longest that one request of the application took, per driver of the migration;
* tries: how often the runner asked for its lock;
* control_stall_ms: the same with a runner that waits as long as it has to (no short lock timeout);
* applied: how many of `--runners` runners at once applied the revision, per driver, expected 1; succeeded: how many found it done;
* with `--cases FILE` (format of `greenroom replay migrations`, with `expected`): unsafe cases, how many were found, false alarms,
  safe cases; from the text alone (`offline`) and with a clone (`clone`).

It stands on the project and the server of the tests, so that both measure the same.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import psycopg
from pydantic import SecretStr

from tasks.clone import open_clones
from tasks.image_alembic import MigrationLimits
from tests.postgresql import empty_postgresql
from tests.tasks.alembic_project import SETUP, Application, Driver, a_project, answered, let_go_after

DRIVERS: tuple[Driver, ...] = ("psycopg", "asyncpg")
COLUMN = "ALTER TABLE rooms ADD COLUMN floor int"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long the idle reader holds its lock")
    parser.add_argument("--runners", type=int, default=3, help="how many migrate at once")
    parser.add_argument("--cases", type=Path, help="labelled cases that are judged as well")
    asked = parser.parse_args()
    at_once: dict[str, dict[str, int]] = {}
    found: dict[str, object] = {"rows": asked.rows, "reader_seconds": asked.seconds, "runners": asked.runners}
    with tempfile.TemporaryDirectory() as name, empty_postgresql() as url:
        rows = SETUP.replace("1, 1000)", f"1, {asked.rows})") + "VACUUM ANALYZE rooms"
        with open_clones(SecretStr(url), rows) as clones:
            patient = MigrationLimits(lock_timeout=timedelta(minutes=1))
            for limits, prefix in ((MigrationLimits(), ""), (patient, "control_")):
                felt = {}
                for driver in DRIVERS:
                    with clones.fresh() as address:
                        felt[driver] = _stall(Path(name) / f"{prefix}{driver}", address, driver, limits, asked.seconds)
                    print(f"{prefix}{driver}: {felt[driver]}", flush=True)
                found |= {f"{prefix}stall_ms": {d: one["stall_ms"] for d, one in felt.items()}}
                found |= {f"{prefix}tries": {d: one["tries"] for d, one in felt.items()}}
            for driver in DRIVERS:
                with clones.fresh() as address:
                    at_once[driver] = _at_once(Path(name) / f"{driver}-at-once", address, driver, asked.runners)
            found |= {key: {driver: one[key] for driver, one in at_once.items()} for key in ("applied", "succeeded")}
        if asked.cases:
            found["cases"] = {"offline": _judged(asked.cases, ()), "clone": _judged(asked.cases, ("--database-url", url))}
    print(json.dumps({**found, "load_average": [round(load, 2) for load in os.getloadavg()], "cpus": os.cpu_count()}))
    return 0


def _stall(folder: Path, address: str, driver: Driver, limits: MigrationLimits, seconds: float) -> dict[str, object]:
    folder.mkdir()
    project = a_project(folder, address, driver).revision("r1", COLUMN, down="r0")
    with psycopg.connect(address) as reader, Application(address) as application:
        reader.execute("SELECT * FROM rooms LIMIT 1")
        with let_go_after(reader, seconds=seconds):
            answer = project.upgrade(limits=limits)
    if answer.refusal:
        raise SystemExit(f"{driver}: {answer.refusal}")
    return {"stall_ms": round(1000 * application.worst), "tries": answer.told["tries"], "requests": application.requests}


def _at_once(folder: Path, address: str, driver: Driver, runners: int) -> dict[str, int]:
    folder.mkdir()
    project = a_project(folder, address, driver).revision("r1", COLUMN, "SELECT pg_sleep(0.5)", down="r0")
    answers = [answered(one) for one in [project.start(project.upgrading()) for _ in range(runners)]]
    return {
        "applied": sum(len(one.told["applied"]) for one in answers),
        "succeeded": sum(not one.refusal and one.told["after"] == ["r1"] for one in answers),
    }


def _judged(cases: Path, more: tuple[str, ...]) -> Mapping[str, int]:
    """By the command that people use, compared with the file's labels afterwards."""
    command = [sys.executable, "-m", "cli.main", "replay", "migrations", str(cases), *more]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    verdicts = {one["id"]: one["verdict"] for one in map(json.loads, lines)}
    expected = {one["id"]: one["expected"] for one in json.loads(cases.read_text())["cases"]}
    unsafe = {name for name, label in expected.items() if label == "unsafe"}
    told = {name for name, verdict in verdicts.items() if verdict == "unsafe"}
    return {
        "unsafe": len(unsafe), "found": len(unsafe & told), "false_alarms": len(told - unsafe), "safe": len(expected) - len(unsafe),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
