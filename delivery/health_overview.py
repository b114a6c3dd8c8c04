"""How one environment fares now: what grew between two scrapes and what is measured beside it, as rows with a verdict each.

What is not known is None and named; it is never 0 and never well.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from delivery.application import GAUGES
from delivery.counters import growth
from delivery.health import Counters
from delivery.release import Release
from delivery.triggers import Trigger

# "idle": no request came, so there is nothing to measure. "not measured": nobody says what would tell it.
Verdict = Literal["well", "no limit", "over its limit", "unknown", "idle", "not measured"]
WORST_FIRST: tuple[Verdict, ...] = ("over its limit", "unknown", "idle", "well", "no limit")
LABELS = {"database_pool": "Database pool", "redis": "Redis", "queue_depth": "Queue depth"}


@dataclass(frozen=True)
class Figure:
    """One row. `value` in the unit that `shown` names; shares are from 0 to 1. `why` is said where the value is None."""

    name: str
    value: float | None
    shown: str
    limit: str
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True)
class EnvironmentHealth:
    """`releases` are those that have users, by id; `seconds` lie between the two scrapes."""

    environment: str
    releases: tuple[str, ...]
    seconds: float
    figures: tuple[Figure, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of its figures; what nobody measures is named, and decides nothing."""
        found = {figure.verdict for figure in self.figures}
        return next((verdict for verdict in WORST_FIRST if verdict in found), "unknown")

    def value(self, name: str) -> float | None:
        return next((figure.value for figure in self.figures if figure.name == name), None)

    def sentence(self) -> str:
        """`Production is well: 12.5 requests/s, 5xx 0 %, p95 40 ms. Not measured: Redis.`"""
        where = self.environment.capitalize()
        if not self.releases:
            return f"Nothing is live in {self.environment}."
        these = [figure for figure in self.figures if figure.verdict == self.verdict]
        lead = {figure.name: figure for figure in self.figures}
        key = f"{lead[REQUESTS].shown}, 5xx {lead[SERVER_ERRORS].shown}, p95 {lead[P95].shown}"
        told = {
            "over its limit": f"is over a limit: {'; '.join(f'{one.name} {one.shown}, {one.limit}' for one in these)}",
            "unknown": f"is not known to be well: {_reasons(these)}",
            "idle": f"has had no request for {self.seconds:.0f} s",
            "well": f"is well: {key}",
            "no limit": f"has no limit to be judged by: {key}",
        }[self.verdict]
        missing = [figure.name for figure in self.figures if figure.verdict == "not measured"]
        return f"{where} {told}." + (f" Not measured: {', '.join(missing)}." if missing else "")


REQUESTS, CLIENT_ERRORS, SERVER_ERRORS, P50, P95, P99 = "Requests", "4xx", "5xx", "p50", "p95", "p99"


def grown_between(before: Mapping[str, Counters], now: Mapping[str, Counters], releases: Iterable[str]) -> Counters | None:
    """What the releases' counters grew by together; None when that is not known of any of them. A release that only the second scrape
    knows gives its starting point, as does one whose counters contradict themselves.
    """
    known = [part for one in releases if one in before and one in now and (part := growth(before[one], now[one])) is not None]
    return Counters.sum(known) if known else None


def health_of(
    environment: str,
    releases: Sequence[Release],
    *,
    grew: Counters | None,
    seconds: float,
    gauges: Mapping[str, float],
    limits: Sequence[Trigger],
    silent: str = "",
) -> EnvironmentHealth:
    """The rows of one environment. `grew` is over `seconds`; `gauges` are by the names that applications and limits call them; `silent`
    says why nobody could tell, where that is known.
    """
    why = silent or "no metric source has counted a request of it"
    figures = [*_requests(grew, seconds, limits, why), *_gauges(releases, gauges, limits, silent)] if releases else []
    return EnvironmentHealth(environment, tuple(release.id for release in releases), seconds, tuple(figures))


def wanted_gauges(releases: Iterable[Release], limits: Iterable[Trigger]) -> frozenset[str]:
    """By which names gauges are to be asked for: the application's, the environment's limits', and the figures' own."""
    own = {name for release in releases for name in _named(release).values()}
    return frozenset({*own, *GAUGES, *(limit.gauge for limit in limits if limit.gauge)})


def _named(release: Release) -> dict[str, str]:
    return {key: name for service in release.services if service.metrics for key, name in service.metrics.gauges.items()}


def _requests(grew: Counters | None, seconds: float, limits: Sequence[Trigger], why: str) -> list[Figure]:
    count = None if grew is None else grew.requests
    rate = None if count is None or seconds <= 0 else count / seconds
    first = Figure(
        REQUESTS, rate, "unknown" if rate is None else f"{rate:.3g} requests/s", "", "unknown" if rate is None else "no limit", why
    )
    idle = count == 0
    reason = f"no request in {seconds:.0f} s" if idle else why

    def share(of: int) -> float | None:
        return sum(n for code, n in grew.by_code.items() if code // 100 == of) / count if grew is not None and count else None

    found = [
        _judged(CLIENT_ERRORS, share(4), _percent, None, reason, idle=idle),
        _judged(SERVER_ERRORS, share(5), _percent, _limit(limits, "error_rate"), reason, idle=idle),
    ]
    for name, quantile in ((P50, 0.5), (P95, 0.95), (P99, 0.99)):
        latency = grew.quantile_ms(quantile) if grew is not None and count else None
        said = reason if idle or grew is None else "no latencies are counted"
        found.append(_judged(name, latency, _milliseconds, _limit(limits, "p95_ms") if name == P95 else None, said, idle=idle))
    return [first, *found]


def _gauges(releases: Sequence[Release], gauges: Mapping[str, float], limits: Sequence[Trigger], silent: str) -> list[Figure]:
    """The figures that are always shown, then what else the application names or a limit asks for."""
    named: dict[str, str] = {}
    for release in releases:
        named.update(_named(release))
    bounds = {limit.gauge: limit.threshold for limit in limits if limit.gauge}
    keys = dict.fromkeys((*GAUGES, *named, *(gauge for gauge in bounds if gauge not in named.values())))
    found = []
    for key in keys:
        name = named.get(key, key)
        value = gauges.get(name, gauges.get(key))
        is_asked_for = key in named or key in bounds
        if value is None and not is_asked_for:
            found.append(
                Figure(LABELS[key], None, "not measured", "", "not measured", "[service.metrics.gauges] names nothing that tells it")
            )
        else:
            limit = bounds.get(name, bounds.get(key))
            found.append(_judged(LABELS.get(key, key), value, "{:g}".format, limit, silent or f"nothing told {name}"))
    return found


def _judged(name: str, value: float | None, show: Callable[[float], str], limit: float | None, why: str, *, idle: bool = False) -> Figure:
    bound = "" if limit is None else f"at most {show(limit)}"
    if value is None:
        return Figure(name, None, "-" if idle else "unknown", bound, "idle" if idle else "unknown", why)
    verdict: Verdict = "no limit" if limit is None else "over its limit" if value > limit else "well"
    return Figure(name, value, show(value), bound, verdict)


def _limit(limits: Iterable[Trigger], metric: str) -> float | None:
    """The strictest, where there are several."""
    return min((limit.threshold for limit in limits if limit.metric == metric), default=None)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms"


def _reasons(figures: Sequence[Figure]) -> str:
    """Each reason once, with the figures that it keeps from being known."""
    by_reason: dict[str, list[str]] = {}
    for figure in figures:
        by_reason.setdefault(figure.why, []).append(figure.name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())
