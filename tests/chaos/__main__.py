"""`make chaos`: kill it anywhere, and see whether users notice. `python -m tests.chaos --help` tells what can be chosen.

Rows come as they are measured; the table and its rows as JSON lines land in .greenroom/chaos/. The last line is one JSON object.
"""

import argparse
import importlib
import importlib.util
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(".greenroom/chaos")
# Scenarios that go through Prefect and a worker: a module with `scenarios(folder: Path) -> Sequence[Scenario]`.
THROUGH_PREFECT = "tests.chaos.through_prefect"
MUTATIONS = ("write-ahead", "fencing", "read-back", "lease", "draining")
MUTATION_SEEDS = 500


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  a person, or a log, reads along


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="GROUP|NAME", help="only this group, or names that contain this")
    parser.add_argument("--list", action="store_true", help="name the scenarios (kill points are found on the stand, so they need a run)")
    parser.add_argument("--simulated", type=int, default=10_000, metavar="N", help="so many simulated schedules; 0 for none")
    parser.add_argument("--fast", action="store_true", help="the six most telling real scenarios, 500 simulated ones")
    parser.add_argument("--without-prefect", action="store_true", help="leave out what goes through Prefect and a worker")
    asked = parser.parse_args()
    if asked.list:
        return list_scenarios()
    logging.getLogger("greenroom").setLevel(logging.ERROR)
    began = time.monotonic()
    FOLDER.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {}
    simulated = simulate(500 if asked.fast else asked.simulated) if asked.simulated else None
    found = real(asked)
    told = summary(found, simulated)
    told["seconds"] = round(time.monotonic() - began)
    say(f"The table is in {FOLDER / 'table.md'}.")
    say(json.dumps(told))
    return 1 if told["violations"] else 0


def real(asked: argparse.Namespace) -> list[Any]:
    """The rows of everything that happens on a real stand."""
    from tests.chaos.real import harness  # noqa: PLC0415  --help and --list need not wait for it

    def chosen(group: str, name: str) -> bool:
        return not asked.only or any(word == group or word in name for word in asked.only)

    rows = harness.run(
        (FOLDER / "work").absolute(), choose=lambda story: chosen(story.group, story.name), fast=asked.fast, say=say, lanes=2
    )
    found = [row for _, row in rows]
    if not asked.fast and not asked.without_prefect and importlib.util.find_spec(THROUGH_PREFECT):
        scenarios = importlib.import_module(THROUGH_PREFECT).scenarios((FOLDER / "prefect").absolute())
        found += through_prefect([one for one in scenarios if chosen(one.group, one.name)])
    (FOLDER / "table.md").write_text(harness.table(found))
    (FOLDER / "rows.jsonl").write_text("".join(json.dumps(row.document()) + "\n" for row in found))
    return found


def through_prefect(scenarios: Sequence[Any]) -> list[Any]:
    """One after another, since they share an installation; whoever ran last takes it down."""
    rows = []
    try:
        for number, scenario in enumerate(scenarios, start=1):
            row = scenario.run()
            rows.append(row)
            sign = "RED " if row.violations else "    "
            say(f"{sign}{number} of {len(scenarios)} through Prefect  {row.scenario}: {row.ending}, {row.failed} of {row.requests} failed")
            for sentence in row.violations:
                say(f"      {sentence}")
    finally:
        close = getattr(scenarios[-1], "close", None) if scenarios else None
        if close is not None:
            close()
    return rows


def simulate(schedules: int) -> dict[str, Any]:
    """The simulated half: what `tests.chaos.simulated` tells, and which mechanisms it misses when they are switched off."""
    from tests.chaos import simulated  # noqa: PLC0415  as above

    say(f"{schedules:,} simulated schedules")
    found = simulated.run(range(schedules), on_progress=lambda so_far: say(f"    {so_far.schedules:,} of {schedules:,} simulated"))
    for seed, sentence in found.violations:
        say(f"RED  simulated: {sentence} (python -m tests.chaos.simulated --seed {seed})")
    seeds = {name: simulated.caught(name, range(MUTATION_SEEDS)) for name in MUTATIONS}
    return {
        "schedules": found.schedules,
        "violations": len(found.violations),
        "failed_requests": round(found.failed_requests),
        "orphans": found.orphans,
        "open_rollouts": found.open_rollouts,
        "caught": [name for name, seed in seeds.items() if seed is not None],
    }


def summary(rows: Sequence[Any], simulated: dict[str, Any] | None) -> dict[str, Any]:
    """The last line. What was switched off on purpose counts as caught or not; what no pipeline can hide is counted apart."""
    from tests.chaos.real.mutants import GROUP, caught_in  # noqa: PLC0415  as above

    true = [row for row in rows if row.group != GROUP]
    counted = [row for row in true if row.apart is None]
    caught = caught_in(rows)
    if simulated is not None:
        caught = [name for name in MUTATIONS if name in simulated["caught"] and (name in caught or not any(r.group == GROUP for r in rows))]
    missed = [row.scenario for row in rows if row.group == GROUP and not row.violations]
    apart: dict[str, dict[str, float]] = {}
    for row in true:
        if row.apart:
            of = apart.setdefault(row.apart, {"scenarios": 0, "requests": 0, "failed": 0, "failed_in_control": 0})
            of["scenarios"] += 1
            of["requests"] += row.requests
            of["failed"] += row.failed
            of["failed_in_control"] += row.control
    recovered = sorted(row.recovered for row in true if row.recovered is not None)
    also = simulated or {"schedules": 0, "violations": 0, "failed_requests": 0, "orphans": 0, "open_rollouts": 0}
    return {
        "real": len(true),
        "simulated": also["schedules"],
        "requests": sum(row.requests for row in counted),
        "failed_requests": sum(row.failed for row in counted) + also["failed_requests"],
        "orphans": sum(row.orphans for row in true) + also["orphans"],
        "open_rollouts": sum(row.open_rollouts for row in true) + also["open_rollouts"],
        "endings": dict(Counter(str(row.ending) for row in true)),
        "mutations_caught": caught,
        "apart": apart,
        "seconds_to_recover": {"p50": recovered[len(recovered) // 2], "longest": recovered[-1]} if recovered else {},
        "violations": sum(bool(row.violations) for row in true) + also["violations"] + len(missed),
    }


def list_scenarios() -> int:
    from tests.chaos.real import harness  # noqa: PLC0415  as above

    for story in (*harness.telling_stories()[:3], *harness.fixed_stories()):
        say(f"{story.group:14} {story.name}")
    say("Beside these: killed before and after each side effect that a rollout has, found on the stand when it is set up.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
