"""The canary judge inside a watch: scrapes become looks, and its state goes from watch to watch through the journal."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from delivery.calibration import Calibration, known_noise
from delivery.canary import Context, Look, State
from delivery.counters import common_bounds, counts, growth
from delivery.evidence import Pair
from delivery.health import Counters
from delivery.journal import Evidence
from delivery.judge import Judge
from delivery.plan import Plan, StepKind
from delivery.verdict import Verdict

log = logging.getLogger("greenroom.watch")

FACTS = "judge"  # its key among the facts of a watch
LOOKS_FILE = "looks.jsonl"

_CONTEXT, _STATE = TypeAdapter(Context), TypeAdapter(State)


class Judging:
    """Takes in what both versions have counted, scrape by scrape, and asks the judge whenever a look is due. `earlier` is what the
    rollout's steps before this watch found: a judge goes on where the last watch left it. Every look is kept in `folder`, in the form that
    `greenroom replay judge` reads. `calibrations` are what halves of blue were like; a judge that goes on has them from its beginning.
    """

    def __init__(self, plan: Plan, earlier: Iterable[Evidence], folder: Path, calibrations: Sequence[Calibration] = ()) -> None:
        self._settings = plan.environment.judge
        services = [service.name for service in plan.release.services if service.takes_requests]
        self._noise, self._halves = known_noise(
            calibrations, services, look_seconds=self._settings.look_seconds, usual=self._settings.error_noise
        )
        self._scrapes_a_look = max(1, round(self._settings.look_seconds / plan.environment.watch.interval_seconds))
        self._seconds_planned = sum(
            step.seconds or 0.0 for step in plan.forward if step.kind is StepKind.WATCH and (step.percent or 0) < 100
        )
        self._file = folder / LOOKS_FILE
        self._state = State()
        self._judge: Judge | None = None
        self._before: tuple[float, Counters, Counters] | None = None
        self._scrapes = 0
        self.verdict: Verdict | None = None
        if remembered := _remembered(earlier):
            self._state = remembered[1]
            self._judge = Judge(remembered[0], self._settings.policy())

    def see(self, at: float, green: Counters | None, blue: Counters | None, memory: tuple[float, float] | None) -> None:
        """One scrape, at seconds of a steady clock; one that failed is None, and what it missed comes with the next. `memory` are
        green's and blue's as shares of their limits.
        """
        if green is None or blue is None:
            return
        if self._judge is None:
            self._judge = self._first(blue)
        if self._before is None:
            # Without a judge there is nothing to count from yet; the next scrape may bring one.
            self._before = (at, green, blue) if self._judge else None
            return
        self._scrapes += 1
        if self._judge is not None and self._scrapes % self._scrapes_a_look == 0:
            began, *before = self._before
            self._before = at, green, blue
            if (pair := _grown(before, (green, blue), self._judge.context.bounds)) is not None:
                look = Look(
                    number=self._state.number + 1,
                    seconds=at - began,
                    counts=pair,
                    groups=_groups(before, (green, blue), self._judge.context.bounds),
                    memory=memory,
                )
                self._keep(_look_line(look))
                self._state, self.verdict = self._judge.look(self._state, look)

    def facts(self) -> Mapping[str, object]:
        """What the next watch goes on with, and what reports show."""
        if self._judge is None:
            return {}
        return {
            "context": _CONTEXT.dump_python(self._judge.context, mode="json"),
            "state": _STATE.dump_python(self._state, mode="json"),
            "looks": str(self._file),
            **(
                {"decision": self.verdict.decision.value, "evidence": self.verdict.evidence, "reason": self.verdict.reason}
                if self.verdict
                else {}
            ),
        }

    def _first(self, blue: Counters) -> Judge | None:
        """The judge of a canary that begins now: what blue has counted in its life is how it usually answers."""
        bounds = common_bounds(blue)
        if len(bounds) < 2:
            log.debug("The judge has nothing to compare with yet: the live release has answered nobody.")
            return None
        usual = counts(blue, bounds).buckets
        total = sum(usual)
        base = tuple(count / total if total else 1 / len(usual) for count in usual)
        look_seconds = self._settings.look_seconds
        context = Context(
            look_seconds=look_seconds,
            looks_planned=max(1, round(self._seconds_planned / look_seconds)),
            bounds=bounds,
            base=base,
            noise=self._noise,
        )
        self._keep(
            {"context": {**_context_line(context), "alpha": self._settings.alpha, "aa": [asdict(one) for one in self._halves] or None}}
        )
        return Judge(context, self._settings.policy())

    def _keep(self, line: Mapping[str, object]) -> None:
        """For what-if later; a disk that is full never touches the watch."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as broken:
            log.debug("A look could not be kept: %s", broken)


def _remembered(earlier: Iterable[Evidence]) -> tuple[Context, State] | None:
    """What the last watch that had a judge left for the next one."""
    for evidence in reversed([*earlier]):
        found = evidence.facts.get(FACTS)
        if isinstance(found, Mapping) and found:
            try:
                return _CONTEXT.validate_python(found["context"]), _STATE.validate_python(found["state"])
            except (ValidationError, KeyError):
                log.warning("What the judge remembered of the watch before cannot be read; it begins anew.")
                return None
    return None


def _grown(before: Sequence[Counters], now: Sequence[Counters], bounds: tuple[float, ...]) -> Pair | None:
    """What green and blue answered between two scrapes; None when counters contradict themselves."""
    green, blue = (growth(was, counters) for was, counters in zip(before, now, strict=True))
    return None if green is None or blue is None else Pair(counts(green, bounds), counts(blue, bounds))


def _groups(before: Sequence[Counters], now: Sequence[Counters], bounds: tuple[float, ...]) -> dict[str, Pair]:
    """Each service of green with the same one of blue; one alone says what the whole says."""
    names = sorted(set.intersection(*(set(counters.parts) for counters in now)))
    if len(names) < 2:
        return {}

    def of(name: str, colours: Sequence[Counters]) -> list[Counters]:
        return [counters.parts.get(name, Counters()) for counters in colours]

    grown = {name: _grown(of(name, before), of(name, now), bounds) for name in names}
    return {name: pair.without_buckets() for name, pair in grown.items() if pair is not None}


def _context_line(context: Context) -> Mapping[str, object]:
    return {
        "look_seconds": context.look_seconds,
        "looks_planned": context.looks_planned,
        "bounds": list(context.bounds),
        "base": list(context.base),
        "promotion_enabled": context.promotion_enabled,
    }


def _look_line(look: Look) -> Mapping[str, object]:
    green, blue = look.counts.green, look.counts.blue
    line: dict[str, object] = {"look": look.number, "seconds": look.seconds, **_numbers(look.counts)}
    line |= {"h_g": list(green.buckets), "h_b": list(blue.buckets)}
    line |= {"groups": {name: _numbers(pair) for name, pair in look.groups.items()}}
    return line | ({"gauges": {"memory_g": look.memory[0], "memory_b": look.memory[1]}} if look.memory else {})


def _numbers(pair: Pair) -> dict[str, int]:
    return {"n_g": pair.green.requests, "n_b": pair.blue.requests, "x_g": pair.green.errors, "x_b": pair.blue.errors}
