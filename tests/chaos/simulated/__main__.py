"""`python -m tests.chaos.simulated`: many schedules, or one as a story."""

import argparse
import json
import logging
import sys

from tests.chaos.simulated.harness import COMMAND, Summary, play, run, shrunk
from tests.chaos.simulated.mutations import MUTATIONS, mutated
from tests.chaos.simulated.schedule import schedule_of

SHOWN_SEEDS = 10


def main(arguments: list[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    if options.seed is not None:
        with mutated(options.without):
            return _tell_one(options.seed, shrink=options.shrink)
    seeds = range(options.start, options.start + options.seeds)
    summary = run(seeds, mutation=options.without, processes=options.processes, on_progress=lambda so_far: _progress(so_far, len(seeds)))
    _report(summary, without=options.without)
    return 1 if summary.violations else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.simulated", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many schedules (default: 10,000)")
    parser.add_argument("--from", dest="start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="tell this one schedule as a story")
    parser.add_argument("--shrink", action="store_true", help="with --seed: leave out every fault that is not needed for the violation")
    parser.add_argument("--without", choices=MUTATIONS, help="switch a mechanism off, to see that the harness notices")
    parser.add_argument("--processes", type=int, help="default: two for thousands of schedules, else one")
    return parser


def _tell_one(seed: int, *, shrink: bool) -> int:
    schedule = schedule_of(seed)
    if shrink and play(schedule).violations:
        schedule = shrunk(schedule)
    _say(f"seed {seed}: " + "\n".join(schedule.sentences()))
    outcome = play(schedule, lambda at, who, what: _say(f"{at:9.3f} s  {who:10}  {what}"))
    _say(f"{outcome.ending}: {outcome.failed_requests:.1f} requests failed, {outcome.failed_apart:.1f} more since replicas died")
    for sentence in outcome.violations:
        _say(f"VIOLATION {sentence}")
    return 1 if outcome.violations else 0


def _progress(so_far: Summary, wanted: int) -> None:
    left = so_far.seconds / so_far.schedules * (wanted - so_far.schedules)
    _say(f"{so_far.schedules:,} of {wanted:,}, {len(so_far.violations)} violations, {left:.0f} s left", aside=True)


def _report(summary: Summary, *, without: str | None) -> None:
    _say(summary.sentence())
    _say(
        f"{summary.befallen:,} faults befell somebody, of "
        + ", ".join(f"{count:,} {kind}" for kind, count in sorted(summary.faults.items()))
    )
    by_seed: dict[int, list[str]] = {}
    for seed, sentence in summary.violations:
        by_seed.setdefault(seed, []).append(sentence)
    for seed, sentences in list(by_seed.items())[:SHOWN_SEEDS]:
        off = f" --without {without}" if without else ""
        _say(f"seed {seed}: {'; '.join(sentences)}\n  again: {COMMAND.format(seed=seed)}{off} --shrink")
    if summary.recovery_seconds:
        times = sorted(summary.recovery_seconds)
        _say(f"from the walker's death to the end: median {times[len(times) // 2]:.1f} s, longest {times[-1]:.1f} s (virtual)")
    _say(
        json.dumps(
            {
                "simulated": summary.schedules,
                "endings": dict(summary.endings),
                "violations": len(summary.violations),
                "failed_requests": round(summary.failed_requests),
                "orphans": summary.orphans,
                "open_rollouts": summary.open_rollouts,
                "seconds": round(summary.seconds, 1),
            }
        )
    )


def _say(text: str, *, aside: bool = False) -> None:
    print(text, file=sys.stderr if aside else sys.stdout, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    sys.exit(main())
