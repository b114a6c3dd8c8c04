"""Many schedules: run, summed up, shrunk, told."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tests.chaos.simulated.company import Tell, tell_nobody
from tests.chaos.simulated.mutations import mutated
from tests.chaos.simulated.play import Outcome, Play
from tests.chaos.simulated.schedule import Schedule, schedule_of

CHUNK = 250
WORTH_TWO_PROCESSES = 2_000
COMMAND = "python -m tests.chaos.simulated --seed {seed}"


@dataclass(frozen=True)
class Summary:
    """What many schedules came to. `faults` counts those that the schedules held, `befallen` those that met somebody.

    `failed_requests` are the pipeline's fault, `failed_apart` that of replicas that died by themselves; `seconds` is real time,
    `recovery_seconds` the virtual times from a walker's death to the end of its rollout.
    """

    schedules: int = 0
    endings: Mapping[str, int] = field(default_factory=dict)
    violations: tuple[tuple[int, str], ...] = ()
    failed_requests: float = 0.0
    failed_apart: float = 0.0
    orphans: int = 0
    open_rollouts: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    befallen: int = 0
    recovery_seconds: tuple[float, ...] = ()
    seconds: float = 0.0

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(
            schedules=self.schedules + other.schedules,
            endings=Counter(self.endings) + Counter(other.endings),
            violations=self.violations + other.violations,
            failed_requests=self.failed_requests + other.failed_requests,
            failed_apart=self.failed_apart + other.failed_apart,
            orphans=self.orphans + other.orphans,
            open_rollouts=self.open_rollouts + other.open_rollouts,
            faults=Counter(self.faults) + Counter(other.faults),
            befallen=self.befallen + other.befallen,
            recovery_seconds=self.recovery_seconds + other.recovery_seconds,
            seconds=self.seconds + other.seconds,
        )

    def sentence(self) -> str:
        endings = ", ".join(f"{count:,} {ending}" for ending, count in sorted(self.endings.items()))
        return (
            f"{self.schedules:,} schedules in {self.seconds:.1f} s: {endings}; {len(self.violations)} violations, "
            f"{self.failed_requests:.0f} failed requests, {self.orphans} orphans, {self.open_rollouts} open rollouts"
        )


def play(schedule: Schedule, tell: Tell = tell_nobody) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="greenroom-chaos-") as folder:
        return Play(schedule, Path(folder), tell).played()


def run(
    seeds: Iterable[int],
    *,
    mutation: str | None = None,
    processes: int | None = None,
    on_progress: Callable[[Summary], None] = lambda _: None,
) -> Summary:
    """Plays every seed's schedule; `mutation` switches a mechanism off meanwhile. `on_progress` hears the sum after every few hundred.

    `processes` defaults to two for thousands of seeds, where starting another interpreter pays.
    """
    began, wanted = time.monotonic(), list(seeds)
    if processes is None:
        processes = min(2, os.cpu_count() or 1) if len(wanted) >= WORTH_TWO_PROCESSES else 1
    chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)]
    summed = Summary()
    with_pool = processes > 1 and len(chunks) > 1
    played = partial(_run_some, mutation=mutation)
    if with_pool:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for part in pool.map(played, chunks):
                summed = replace(summed + part, seconds=time.monotonic() - began)
                on_progress(summed)
    else:
        for part in map(played, chunks):
            summed = replace(summed + part, seconds=time.monotonic() - began)
            on_progress(summed)
    return summed


def caught(mutation: str, seeds: Iterable[int]) -> int | None:
    """The first seed that turns red when this mechanism is switched off; None when nobody notices, which must not be."""
    with mutated(mutation):
        return next((seed for seed in seeds if play(schedule_of(seed)).violations), None)


def shrunk(schedule: Schedule) -> Schedule:
    """The same schedule with as few faults as still violate something, and with the first of its stewards alone if that suffices."""
    for index in range(len(schedule.faults)):
        fewer = replace(schedule, faults=schedule.faults[:index] + schedule.faults[index + 1 :])
        if play(fewer).violations:
            return shrunk(fewer)
    return schedule


def _run_some(seeds: Sequence[int], *, mutation: str | None) -> Summary:
    summed = Summary()
    with mutated(mutation), tempfile.TemporaryDirectory(prefix="greenroom-chaos-") as folder:
        for seed in seeds:
            summed += _alone(Play(schedule_of(seed), Path(folder)).played())
    return summed


def _alone(outcome: Outcome) -> Summary:
    return Summary(
        schedules=1,
        endings={outcome.ending: 1},
        violations=tuple((outcome.schedule.seed, sentence) for sentence in outcome.violations),
        failed_requests=outcome.failed_requests,
        failed_apart=outcome.failed_apart,
        orphans=outcome.orphans,
        open_rollouts=int(outcome.is_open),
        faults=Counter(type(fault).__name__ for fault in outcome.schedule.faults),
        befallen=outcome.befallen,
        recovery_seconds=() if outcome.recovered_after is None else (outcome.recovered_after,),
    )
