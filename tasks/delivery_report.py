"""How well releases reach their users, for people: the key figures against the specification's targets, read in five seconds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from delivery.dora import DAY, Deliveries, LeadTimes, Recoveries, Share, Window
from delivery.dora_facts import facts_of
from delivery.dora_targets import FAIL_RATE, LEAD_TIME, RECOVERY, targets_met
from delivery.ports import JournalStore
from tasks.markdown import table
from tasks.plot import BLUE, Chart, Line

WEEKS_SHOWN = 12
A_WEEK, HOUR, MINUTE = timedelta(days=7), timedelta(hours=1), timedelta(minutes=1)
NOTHING_YET = "No rollout has been told of yet."
DEFINITIONS = (
    "By the definitions of [DORA](https://dora.dev/guides/dora-metrics-four-keys/). What used to be called MTTR is the failed deployment "
    "recovery time: failures that a release caused, nothing else. Rollbacks count as events of the rollout that failed."
)


@dataclass(frozen=True)
class Delivered:
    """One application in one environment: the window that is looked at, and the weeks before. `coverage`: what failures are known from."""

    seen: Deliveries
    weeks: tuple[Deliveries, ...]
    coverage: str


@dataclass(frozen=True)
class Figure:
    """One of the five metrics in words; `is_met` None: there is no target, or nothing is known to judge by."""

    name: str
    value: str
    target: str
    is_met: bool | None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: "unknown" if self.target else ""}[self.is_met]


def delivered(store: JournalStore, *, days: int, environment: str | None = None) -> tuple[Delivered, ...]:
    """The metrics of the last `days` UTC days, today included, for each environment and application that ever had a rollout."""
    facts = facts_of(store.stories(environment), store.incident_facts(environment))
    window = window_until(store.now(), days=days)
    weeks = weeks_until(window.end)
    return tuple(
        Delivered(
            facts.deliveries(place, service, window),
            tuple(facts.deliveries(place, service, week) for week in weeks),
            facts.coverage(place),
        )
        for place, service in facts.places
    )


def window_until(now: datetime, *, days: int) -> Window:
    """Whole UTC days, the last of them the present one."""
    end = datetime.combine(now.astimezone(UTC).date(), datetime.min.time(), tzinfo=UTC) + DAY
    return Window(end - days * DAY, end)


def weeks_until(end: datetime) -> tuple[Window, ...]:
    """Seven days each, oldest first."""
    return tuple(Window(end - (number + 1) * A_WEEK, end - number * A_WEEK) for number in reversed(range(WEEKS_SHOWN)))


def figures(seen: Deliveries) -> tuple[Figure, ...]:
    frequency, recoveries, met = seen.frequency(), seen.recoveries(), targets_met(seen)
    often = (
        f"{frequency.per_day:.2g} a day ({_count(frequency.deployments, 'deployment')}, on {frequency.deployment_days} of"
        f" {seen.window.days:g} days)"
        if frequency.per_day is not None
        else f"none in {seen.window.days:g} days"
    )
    return (
        Figure("Deployment frequency", often, "daily", met.frequency),
        Figure("Change lead time", _lead_time(seen.lead_times()), f"< {duration(LEAD_TIME)}", met.lead_time),
        Figure("Change fail rate", _share(seen.change_fail_rate()), f"< {FAIL_RATE:.0%}".replace("%", " %"), met.fail_rate),
        Figure("Failed deployment recovery time", _recovery(recoveries), f"< {duration(RECOVERY)}", met.recovery),
        Figure("Deployment rework rate", _share(seen.rework_rate()), "", None),
    )


def sentence(told: Delivered) -> str:
    """`Production, shop: 2 of 4 targets are met over the last 28 days.`"""
    seen = told.seen
    judged = [figure for figure in figures(seen) if figure.target]
    met = sum(figure.is_met is True for figure in judged)
    where = f"{seen.environment.capitalize()}, {seen.service}"
    missed = [figure.name.lower() for figure in judged if figure.is_met is False]
    unknown = [figure.name.lower() for figure in judged if figure.is_met is None]
    more = (f" Missed: {', '.join(missed)}." if missed else "") + (f" Unknown: {', '.join(unknown)}." if unknown else "")
    return f"{where}: {met} of {len(judged)} targets are met over the last {seen.window.days:g} days.{more}"


def metrics_markdown(found: Sequence[Delivered]) -> str:
    """The page of one environment: what is met and missed first, then how it came to be."""
    parts: list[str] = []
    for told in found:
        parts += [
            f"# {sentence(told)}",
            table(
                ("", f"last {told.seen.window.days:g} days", "target", ""),
                [(f.name, f.value, f.target, _shown(f)) for f in figures(told.seen)],
            ),
            *_failures(told.seen),
            *_trends(told),
            f"Failures are known from: {told.coverage}.",
        ]
    return "\n\n".join([*(parts or [NOTHING_YET]), DEFINITIONS]) + "\n"


def metrics_rows(found: Iterable[Delivered]) -> list[dict[str, str]]:
    """The figures of everything as rows of a table artifact."""
    return [
        {
            "environment": told.seen.environment,
            "application": told.seen.service,
            "figure": figure.name,
            f"last {told.seen.window.days:g} days": figure.value,
            "target": figure.target,
            "verdict": figure.verdict,
        }
        for told in found
        for figure in figures(told.seen)
    ]


def duration(length: timedelta) -> str:
    """Two units at most: `2 h 57 min`, `3 d 4 h`."""
    minutes = round(length / MINUTE)
    if minutes < 1:
        return f"{length.total_seconds():.0f} s"
    days, rest = divmod(minutes, 24 * 60)
    hours, left = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (left, "min")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def _lead_time(times: LeadTimes) -> str:
    p90 = f"; nine of ten within {duration(times.p90)}" if times.p90 is not None else ""
    return f"{_median(times.median, len(times.per_commit), 'commit')}{p90}"


def _recovery(recoveries: Recoveries) -> str:
    still_open = f"; {recoveries.open} still open" if recoveries.open else ""
    return f"{_median(recoveries.median('impact'), recoveries.recovered, 'failure')}{still_open}"


def _median(length: timedelta | None, number: int, of: str) -> str:
    return f"no {of} to measure" if length is None else f"{duration(length)} (median of {_count(number, of)})"


def _share(share: Share) -> str:
    return "no deployment to measure" if share.value is None else f"{100 * share.value:.1f} % ({share.numerator} of {share.denominator})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _shown(figure: Figure) -> str:
    return f"**{figure.verdict}**" if figure.is_met is False else figure.verdict


def failed(seen: Deliveries) -> list[str]:
    """The failed deployments, and which of them are not over."""
    still_open = set(seen.still_failing)
    return [f"{name}{' (still open)' if name in still_open else ''}" for name in seen.change_fail_rate().deployments]


def _failures(seen: Deliveries) -> list[str]:
    names = failed(seen)
    lines = [f"Failed: {', '.join(names)}."] if names else []
    if seen.still_failing:
        lines.append("**Next:** when users are well again, say so: `greenroom incident close NUMBER`, or release what mends it.")
    return lines


def _trends(told: Delivered) -> list[str]:
    first, last = told.weeks[0].window.start, told.weeks[-1].window.end - DAY

    def image(title: str, value: Callable[[Deliveries], float | None], *, limit: float, unit: str = "") -> str:
        values = [value(week) for week in told.weeks]
        words = ", ".join("unknown" if value is None else f"{value:.3g}" for value in values)
        line = Line("", BLUE, list(enumerate(values)))
        chart = Chart(f"{title}, by week", [line], unit=unit, limit=limit, ends=(f"{first:%d %b}", f"{last:%d %b}"))
        return chart.markdown(f"{title}, by week: {words}")

    return [
        image("Days with a deployment", lambda week: week.frequency().deployment_days if week.population else None, limit=7),
        image("Change lead time, median", lambda week: _in(HOUR, week.lead_times().median), limit=LEAD_TIME / HOUR, unit=" h"),
        image("Change fail rate", lambda week: _percent(week.change_fail_rate().value), limit=100 * FAIL_RATE, unit=" %"),
        image("Recovery time, median", lambda week: _in(MINUTE, week.recoveries().median("impact")), limit=RECOVERY / MINUTE, unit=" min"),
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _in(unit: timedelta, length: timedelta | None) -> float | None:
    return None if length is None else length / unit
