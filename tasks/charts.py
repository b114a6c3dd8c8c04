"""The charts of a rollout's report, from what its journal kept of each watch. Where numbers are missing there is a gap."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from delivery.journal import Entry, Finished, Progress, Started
from delivery.plan import Plan, StepKind
from tasks.plot import BLUE, GREEN, GREY, Chart, Line

_ONE_LOOK = 2  # rows: the one that it is compared with, and itself


def charts(entries: Sequence[Entry]) -> tuple[Chart, ...]:
    """How both versions fared while green was watched, over the seconds since the rollout began: errors, p95, evidence, green's share.
    None when nothing was watched.
    """
    plan = Progress.of(entry.event for entry in entries).plan
    watches = [watch for watch in _watches(entries, plan) if watch]
    looks = [look for watch in watches for look in watch]
    if not looks:
        return ()
    bands = [(watch[0].since, watch[-1].at, f"{watch[0].percent:g} %") for watch in watches]
    sides = ((plan.release.version.tag, GREEN), (plan.blue.version.tag if plan.blue else "", BLUE))

    def both(values: Callable[["_Look"], tuple[float | None, float | None]]) -> list[Line]:
        found = [[point for look in looks for point in look.points(values(look)[side])] for side in range(2)]
        return [Line(label, colour, points) for (label, colour), points in zip(sides, found, strict=True) if label]

    limits: dict[str, float] = {trigger.metric: trigger.threshold for trigger in plan.environment.trigger}
    limit = limits.get("error_rate")
    found = [
        Chart("errors", both(lambda look: look.errors), unit=" %", limit=None if limit is None else 100 * limit, bands=bands),
        Chart("p95", both(lambda look: look.p95_ms), unit=" ms", bands=bands),
    ]
    if any(look.evidence is not None for look in looks):
        odds = [Line("that it is worse", GREY, [point for look in looks for point in look.points(look.evidence)])]
        found.append(Chart("evidence", odds, unit=":1", limit=1 / plan.environment.judge.alpha, logarithmic=True, bands=bands))
    shares = [Line("share of the users", GREEN, [point for look in looks for point in look.points(look.percent)], steps=True)]
    return (*found, Chart(plan.release.version.tag, shares, unit=" %", at_least=100, bands=bands))


@dataclass(frozen=True)
class _Look:
    """It tells of the time from `since` to `at`, in seconds since the rollout began; errors in percent of the requests in it; pairs are
    green's and blue's. `is_alone`: its watch had no other.
    """

    since: float
    at: float
    is_alone: bool
    percent: float
    errors: tuple[float | None, float | None]
    p95_ms: tuple[float | None, float | None]
    evidence: float | None

    def points(self, value: float | None) -> list[tuple[float, float | None]]:
        """One look alone is drawn over all of its time, since a dot would be all that one sees."""
        return [(self.since, value), (self.at, value)] if self.is_alone else [(self.at, value)]


def _watches(entries: Sequence[Entry], plan: Plan) -> Iterator[list[_Look]]:
    """The looks of each finished watch, in their order, as the journal keeps them."""
    percents = {step.name: step.percent or 0 for step in plan.forward if step.kind is StepKind.WATCH}
    began: dict[str, float] = {}
    for entry in entries:
        seconds = (entry.at - entries[0].at).total_seconds()
        if isinstance(entry.event, Started):
            began[entry.event.step] = seconds
        elif isinstance(entry.event, Finished) and entry.event.step in percents:
            rows = entry.event.evidence.facts.get("looks")
            kept = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []
            start, percent = began.get(entry.event.step, seconds), percents[entry.event.step]
            alone = len(kept) == _ONE_LOOK
            yield [_look(before, row, start=start, percent=percent, alone=alone) for before, row in pairwise(kept)]


def _look(before: Mapping[str, object], row: Mapping[str, object], *, start: float, percent: float, alone: bool) -> _Look:
    return _Look(
        since=start + (_float(before.get("t")) or 0.0),
        is_alone=alone,
        at=start + (_float(row.get("t")) or 0.0),
        percent=percent,
        errors=(_errors(before.get("green"), row.get("green")), _errors(before.get("blue"), row.get("blue"))),
        p95_ms=_pair(row.get("p95_ms")),
        evidence=_float(row.get("evidence")),
    )


def _errors(before: object, now: object) -> float | None:
    """Percent of the requests between two looks that were answered with an error; None without requests."""
    (requests_before, errors_before), (requests, errors) = _pair(before), _pair(now)
    if None in (requests_before, errors_before, requests, errors) or (requests or 0) <= (requests_before or 0):
        return None
    return 100 * max(0.0, (errors or 0) - (errors_before or 0)) / ((requests or 0) - (requests_before or 0))


def _pair(found: object) -> tuple[float | None, float | None]:
    return (_float(found[0]), _float(found[1])) if isinstance(found, list | tuple) and len(found) == 2 else (None, None)


def _float(found: object) -> float | None:
    return float(found) if isinstance(found, int | float) else None
