"""How soon does the judge know, and how often is it wrong? The published protocol, with other judges on the same canaries.

`python -m bench.judge --workers 2`. Cells are named as in the protocol, for instance `err/(0.01, 0.02)/0.1/10` (rates, green's share of
the traffic, requests per second), `lat/1.1/0.5/100`, `fa/iid/0.001/10/0.1`, `trace/late`; `--cells` takes a part of a name. Each cell draws
its own random numbers, so a cell alone gives the same figures. The last line is one JSON object:

* cells: per regression the median look and requests at the alarm (null: most were not detected within sixty looks), the ninth decile,
  the share detected, wrong promotions, the requests an oracle needs, and the same of the rivals on the first hundred canaries; per
  healthy cell how many were rolled back all the same; per trace the shares of its verdicts; `cost` in milliseconds a look;
* claims: whether each claim of the protocol holds over the cells that were run (null: none of its cells was).
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import inf, isinf
from pathlib import Path
from typing import Any

import numpy as np

from bench import canaries as simulated
from bench.canaries import BASE, BOUNDS, LOOK_SECONDS, LOOKS, Canaries, Numbers, World, clumps, draw, generator, healthy, regressed
from bench.rivals import flagger, kayenta_at, kayenta_peeking
from bench.traces import NAMES, RATE, trace
from delivery.canary import FINAL, Context, Decision, Look, State
from delivery.evidence import Counts, Pair
from delivery.judge import Judge
from delivery.noise import Halves, measured_noise
from delivery.triggers import Sample, Trigger, fires_at

Figures = dict[str, Any]

HEALTHY, REGRESSED, TRACED, CALIBRATED, RIVALS = 2000, 500, 100, 400, 100
CONTEXT = Context(LOOK_SECONDS, LOOKS, BOUNDS, BASE)
TRAFFIC = ((10, 0.1), (100, 0.5), (1000, 0.1))
MUST_NOT_ALARM = ("iid", "diurnal", "shared_burst", "noise_10_3")
MOST_ALARMS = 31 / 2000  # compatible with 1 % at 99 %

# The reference's judge with its default settings: median look of the alarm at 10, 100 and 1000 requests per second.
REFERENCE: Mapping[str, tuple[float, float, float]] = {
    "err/(0.001, 0.005)/0.1": (38, 5, 1),
    "err/(0.001, 0.005)/0.5": (18, 3, 1),
    "err/(0.005, 0.01)/0.1": (inf, 10, 2),
    "err/(0.005, 0.01)/0.5": (36, 5, 2),
    "err/(0.01, 0.02)/0.1": (45, 6, 2),
    "err/(0.01, 0.02)/0.5": (20, 4, 2),
    "err/(0.01, 0.05)/0.1": (5, 1, 1),
    "err/(0.01, 0.05)/0.5": (2, 1, 1),
    "lat/1.1/0.1": (16, 5, 4),
    "lat/1.1/0.5": (9, 4, 3),
    "lat/1.25/0.1": (4, 2, 2),
    "lat/1.25/0.5": (3, 2, 2),
    "lat/2.0/0.1": (2, 2, 2),
    "lat/2.0/0.5": (2, 2, 2),
}
UNDETECTED_SHARE = {"err/(0.005, 0.01)/0.1/10": 0.34}


def cells() -> list[str]:
    """All cells of the protocol."""
    found = [f"{what}/{rps}" for what in REFERENCE for rps in (10, 100, 1000)]
    found += [f"fa/iid/{rate}/{rps}/{w}" for rate in (0.001, 0.01) for rps, w in TRAFFIC]
    scenarios = ("shared_burst", "noise_10_3", "clump10", "diurnal", "noise_30_5")
    found += [f"fa/{scenario}/{RATE}/{rps}/{w}" for scenario in scenarios for rps, w in TRAFFIC]
    found += [f"aa/clump10/{RATE}/{rps}/{w}" for rps, w in TRAFFIC]
    return [*found, *(f"trace/{name}" for name in NAMES), "trace/leak", "cost"]


def looks(drawn: Canaries, canary: int) -> Iterator[Look]:
    counted = zip(*(part[canary].tolist() for part in (drawn.n_g, drawn.x_g, drawn.h_g, drawn.n_b, drawn.x_b, drawn.h_b)), strict=True)
    for number, (n_g, x_g, h_g, n_b, x_b, h_b) in enumerate(counted, 1):
        yield Look(number, LOOK_SECONDS, Pair(Counts(n_g, x_g, tuple(h_g)), Counts(n_b, x_b, tuple(h_b))))


def judged(drawn: Canaries, judge: Judge | Callable[[int], Judge]) -> tuple[Numbers, Numbers]:
    """The looks of the alarm and of the promotion per canary, infinite without one. Whoever was promoted is watched on for an alarm."""
    alarms, promotions = [], []
    for canary in range(len(drawn.n_g)):
        asked = judge if isinstance(judge, Judge) else judge(canary)
        state, promoted, alarm = State(), inf, inf
        for look in looks(drawn, canary):
            state, verdict = asked.look(state, look)
            if verdict.decision is Decision.ROLLBACK:
                alarm = look.number
                break
            if verdict.decision is Decision.PROMOTE:
                promoted = min(promoted, look.number)
        alarms.append(alarm)
        promotions.append(promoted)
    return np.array(alarms, dtype=float), np.array(promotions, dtype=float)


def _first(drawn: Canaries, number: int) -> Canaries:
    return Canaries(*(part[:number] for part in (drawn.n_g, drawn.n_b, drawn.x_g, drawn.x_b, drawn.h_g, drawn.h_b)))


def _detection(alarms: Numbers, drawn: Canaries) -> Figures:
    """How soon, in looks and in requests of both colours."""
    requests = np.cumsum(drawn.n_g + drawn.n_b, axis=1)
    at = [inf if isinf(alarm) else float(total[int(alarm) - 1]) for alarm, total in zip(alarms, requests, strict=True)]
    return {
        "median_look": _finite(_middle(alarms)),
        "median_requests": _finite(_middle(np.array(at))),
        "look_90": _finite(float(np.sort(alarms)[int(np.ceil(0.9 * len(alarms))) - 1])),
        "detected": round(float(np.mean(np.isfinite(alarms))), 4),
    }


def _middle(numbers: Numbers) -> float:
    return float(statistics.median(numbers.tolist()))


def _finite(number: float) -> float | None:
    return None if isinf(number) else number


def _rivals(drawn: Canaries) -> Figures:
    first = _first(drawn, RIVALS)
    return {
        "kayenta_30": _detection(kayenta_at(first, 30), first),
        "kayenta_60": _detection(kayenta_at(first, 60), first),
        "kayenta_peeking": _detection(kayenta_peeking(first), first),
        "flagger": _detection(flagger(first), first),
    }


def regression_figures(cell: str, canaries: int | None) -> Figures:
    drawn = regressed(cell, canaries or REGRESSED)
    alarms, promotions = judged(drawn, Judge(CONTEXT))
    what, _, rps = cell.rpartition("/")
    reference = REFERENCE[what][("10", "100", "1000").index(rps)]
    found = _detection(alarms, drawn)
    median = _middle(alarms)
    within = found["detected"] >= UNDETECTED_SHARE[cell] if isinf(reference) else median <= 1.25 * reference
    rivals = _rivals(drawn)
    peeking = rivals["kayenta_peeking"]
    ahead = (median, -found["detected"]) <= (peeking["median_look"] or inf, -peeking["detected"])
    return {
        **found,
        "wrong_promotions": round(float(np.mean(promotions < alarms)), 4),
        "oracle_requests": round(simulated.oracle_bound(cell)),
        "reference_look": _finite(reference),
        "within": bool(within),
        "at_or_below_reference": bool(isinf(reference) or median <= reference),
        "ahead_of_kayenta_peeking": bool(ahead),
        "rivals": rivals,
    }


def healthy_figures(cell: str, canaries: int | None) -> Figures:
    drawn = healthy(cell, canaries or HEALTHY)
    alarms, promotions = judged(drawn, Judge(CONTEXT))
    rivals = {name: figures["detected"] for name, figures in _rivals(drawn).items()}
    return {
        "canaries": len(alarms),
        "rolled_back": int(np.isfinite(alarms).sum()),
        "share": round(float(np.mean(np.isfinite(alarms))), 5),
        "promoted": round(float(np.mean(np.isfinite(promotions))), 4),
        "median_promotion_look": _finite(_middle(promotions)),
        "rivals": rivals,
    }


def calibrated_figures(cell: str, canaries: int | None) -> Figures:
    """Clumped errors with the clump factor that an A/A comparison of two halves of blue found before each canary.

    Random numbers: healthy canaries as in the cell `fa/…` of the same name, the comparison from `<cell>`, halves in order; regressed
    ones from `<cell>/bad`, green first.
    """
    _, scenario, base, rps, share = cell.split("/")
    rate, w, number = float(base), float(share), canaries or CALIBRATED
    drawn = healthy(f"fa/{scenario}/{base}/{rps}/{share}", number)
    half = simulated.LOOK_SECONDS * float(rps) * (1 - w) / 2

    def calibrations(rng: np.random.Generator, *, clumped: bool) -> list[Context]:
        n_1, n_2 = rng.poisson(half, (number, LOOKS)), rng.poisson(half, (number, LOOKS))
        x_1, x_2 = (clumps(rng, n, rate) if clumped else rng.binomial(n, rate) for n in (n_1, n_2))
        rows = zip(*(part.tolist() for part in (n_1, n_2, x_1, x_2)), strict=True)
        return [replace(CONTEXT, noise=measured_noise([Halves(*look) for look in zip(*row, strict=True)])) for row in rows]

    rng = generator(cell)
    known = calibrations(rng, clumped=True)
    unclumped = calibrations(rng, clumped=False)
    bad = generator(f"{cell}/bad")
    worse = draw(bad, World(rate, rate), rps=float(rps), weight=w, canaries=number)
    worse = replace(worse, x_g=clumps(bad, worse.n_g, 5 * rate), x_b=clumps(bad, worse.n_b, rate))
    judges = [Judge(context) for context in known]
    return {
        "median_clump": round(statistics.median(context.noise.clump for context in known), 1),
        "false_without": round(float(np.mean(np.isfinite(judged(drawn, Judge(CONTEXT))[0]))), 4),
        "false_with": round(float(np.mean(np.isfinite(judged(drawn, judges.__getitem__)[0]))), 4),
        "clumps_seen_where_there_are_none": round(float(np.mean([context.noise.clump > 1 for context in unclumped])), 4),
        **_detection(judged(worse, judges.__getitem__)[0], worse),
    }


def trace_figures(name: str, canaries: int | None) -> Figures:
    """Each canary to its first final verdict."""
    played = trace(name, canaries or TRACED)
    judge = Judge(replace(CONTEXT, promotion_enabled=played.promotion_enabled))
    ends: list[tuple[Decision, float]] = []
    for canary in range(len(played.canaries.n_g)):
        state, parts = State(), played.parts(canary)
        for look, groups in zip(looks(played.canaries, canary), parts, strict=True):
            state, verdict = judge.look(state, replace(look, groups=groups) if groups else look)
            if verdict.decision in FINAL:
                ends.append((verdict.decision, look.number))
                break
    wanted = [look for decision, look in ends if decision in played.wanted]
    median = statistics.median(wanted) if wanted else inf
    return {
        **{decision.value: sum(end is decision for end, _ in ends) / len(ends) for decision in FINAL},
        "median_look": _finite(median),
        "as_wanted": len(wanted) >= 0.99 * len(ends) and (played.median is None or median <= max(1.25 * played.median, played.median)),
    }


def leak_figures(canaries: int | None) -> Figures:
    """Memory that grows from 60 % by 0.4 points a minute: held by forecast, then brought back by the sustained trigger."""
    number, length = canaries or TRACED, 90
    rng = generator("trace/leak")
    growing = 0.60 + 0.004 * np.arange(length)
    green = growing + 0.005 * rng.standard_normal((number, length))
    blue = 0.60 + 0.005 * rng.standard_normal((number, length))
    flat = 0.60 + 0.007 * rng.standard_normal((number, LOOKS))
    trigger = Trigger("memory", 0.85, 300.0, max_gap_seconds=90.0)
    held = [_first_hold(zip(g, b, strict=True)) for g, b in zip(green.tolist(), blue.tolist(), strict=True)]
    fired = [fires_at(trigger, [Sample(LOOK_SECONDS * at, value) for at, value in enumerate(row, 1)]) for row in green.tolist()]
    looks_fired = [inf if at is None else at / LOOK_SECONDS for at in fired]
    false = [_first_hold((value, 0.60) for value in row) for row in flat.tolist()]
    found = {"hold_look": statistics.median(held), "trigger_look": statistics.median(looks_fired)}
    well = found["hold_look"] <= 15 and max(held) < inf and found["trigger_look"] <= 69 and max(looks_fired) < inf
    share = sum(look < inf for look in false) / number
    return {**found, "false_holds": share, "as_wanted": well and share <= 0.05}


def _first_hold(memory: Iterator[tuple[float, float]] | Any) -> float:
    judge, state = Judge(replace(CONTEXT, looks_planned=90, promotion_enabled=False)), State()
    for number, both in enumerate(memory, 1):
        state, verdict = judge.look(state, Look(number, LOOK_SECONDS, memory=both))
        if verdict.decision is Decision.HOLD:
            return number
    return inf


def sustained_figures(file: Path) -> Figures:
    """How many cases of the file there are, and the ids of those whose sustained trigger does not fire when the file says."""
    cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    wrong = []
    for case in cases:
        rule = case["rule"]
        trigger = Trigger(rule["metric"], rule["threshold"], rule["for_s"], max_gap_seconds=rule["max_gap_s"])
        if fires_at(trigger, [Sample(at, value) for at, value in case["samples"]]) != case["expected_fire_t"]:
            wrong.append(case["id"])
    return {"cases": len(cases), "wrong": wrong}


def cost_figures() -> Figures:
    """Milliseconds of a processor for a look: of totals only, and with fifty groups."""
    found = {}
    for groups in (0, 50):
        drawn = regressed("err/(0.001, 0.001)/0.5/1000", 1)
        parts = {f"GET /{number}": Pair(Counts(600, 2), Counts(600, 1)) for number in range(groups)}
        judge, state, spent = Judge(CONTEXT), State(), []
        for look in looks(drawn, 0):
            began = time.process_time()
            state, _ = judge.look(state, replace(look, groups=parts))
            spent.append(1000 * (time.process_time() - began))
        found[f"{groups}_groups_ms"] = round(statistics.median(spent), 3)
    return found


def figures(cell: str, canaries: int | None) -> tuple[str, Figures]:
    """Everything about one cell, and how long it took."""
    began = time.monotonic()
    kind, _, rest = cell.partition("/")
    works: dict[str, Callable[[], Figures]] = {
        "err": lambda: regression_figures(cell, canaries),
        "lat": lambda: regression_figures(cell, canaries),
        "fa": lambda: healthy_figures(cell, canaries),
        "aa": lambda: calibrated_figures(cell, canaries),
        "trace": lambda: leak_figures(canaries) if rest == "leak" else trace_figures(rest, canaries),
        "cost": cost_figures,
    }
    found = works[kind]()
    return cell, {**found, "seconds": round(time.monotonic() - began, 1)}


def claims(found: Mapping[str, Figures]) -> dict[str, bool | None]:
    """The protocol's claims; None when no cell that was run speaks of it."""
    fa = [figure for cell, figure in found.items() if cell.startswith("fa/") and cell.split("/")[1] in MUST_NOT_ALARM]
    detections = {cell: figure for cell, figure in found.items() if cell.startswith(("err/", "lat/"))}
    slow = [figure["ahead_of_kayenta_peeking"] for cell, figure in detections.items() if cell.endswith("/10")]
    traces = [figure["as_wanted"] for cell, figure in found.items() if cell.startswith("trace/")]
    return {
        "1_false_rollbacks_at_most_1_percent": _all([figure["share"] <= MOST_ALARMS for figure in fa]),
        "2_detection_within_1.25_of_the_reference": _all([figure["within"] for figure in detections.values()]),
        "2_aim_at_or_below_the_reference": _all([figure["at_or_below_reference"] for figure in detections.values()]),
        "2_aim_ahead_of_peeking_kayenta_at_10_rps": _all(slow),
        "3_every_trace_as_wanted": _all(traces),
        "4_every_sustained_case": _all([not figure["wrong"] for cell, figure in found.items() if cell == "sustained"]),
        "5_a_look_at_50_groups_below_5_ms": _all([figure["50_groups_ms"] < 5 for cell, figure in found.items() if cell == "cost"]),
    }


def _all(holds: list[bool]) -> bool | None:
    return all(holds) if holds else None


def run(wanted: list[str], *, workers: int, canaries: int | None, sustained: Path | None) -> Figures:
    """The figures of these cells and the claims; one line is printed per cell as it is done."""
    found: dict[str, Figures] = {}
    work = partial(figures, canaries=canaries)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for number, (cell, figure) in enumerate(pool.imap_unordered(work, sorted(wanted, key=_weight)), 1):
            found[cell] = figure
            told = {key: value for key, value in figure.items() if key != "rivals"}
            print(f"  {number}/{len(wanted)} {cell}: {json.dumps(told)}", flush=True)
    ordered = {cell: found[cell] for cell in wanted} | ({"sustained": sustained_figures(sustained)} if sustained else {})
    return {"cells": ordered, "claims": claims(ordered)}


def _weight(cell: str) -> int:
    """Long cells first, so that workers end together."""
    return ("fa", "aa", "err", "lat").index(kind) if (kind := cell.partition("/")[0]) in ("fa", "aa", "err", "lat") else 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--cells", default="", help="only cells whose name contains this")
    parser.add_argument("--canaries", type=int, help="so many in each cell instead of the protocol's number")
    parser.add_argument("--sustained", type=Path, help="also a file of cases of sustained triggers, as `greenroom replay triggers` reads")
    asked = parser.parse_args()
    wanted = [cell for cell in cells() if asked.cells in cell]
    if not wanted:
        parser.error(f"no cell contains {asked.cells!r}; known: {', '.join(cells())}")
    found = run(wanted, workers=asked.workers, canaries=asked.canaries, sustained=asked.sustained)
    print(json.dumps(found))
    sys.exit(0 if all(holds is not False for claim, holds in found["claims"].items() if "aim" not in claim) else 1)


if __name__ == "__main__":
    main()
