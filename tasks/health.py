"""Looks twice at how an environment fares, and tells it: a page with rows, their verdicts, and how it went at the looks before."""

import json
import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delivery.errors import TransientError
from delivery.health_overview import CLIENT_ERRORS, P95, REQUESTS, SERVER_ERRORS, EnvironmentHealth, grown_between, health_of
from delivery.ports import MetricSource
from delivery.release import Release
from delivery.triggers import Trigger
from tasks.markdown import one_line, table
from tasks.plot import BLUE, GREY, RED, Chart, Line
from tasks.retry import ONCE, retried
from tasks.scene import Clock

log = logging.getLogger("greenroom.health")

KEPT_LOOKS = 100


@dataclass(frozen=True)
class Point:
    """One look: `at` in seconds since 1970, the rate in requests per second, the shares from 0 to 1, p95 in ms; None: not known."""

    at: float
    rate: float | None
    client_errors: float | None
    server_errors: float | None
    p95_ms: float | None


@retried(ONCE, name="look at an environment's health", run_name="look at the health of {environment}")
def look_twice(
    environment: str, releases: Sequence[Release], source: MetricSource | None, *, limits: Sequence[Trigger], seconds: float, clock: Clock
) -> EnvironmentHealth:
    """Scrapes, waits `seconds`, scrapes again. A source that is silent makes unknown what it would have told, and says so."""
    if not releases or source is None:
        silent = f"no metric source bears the name {environment}"
        return health_of(environment, releases, grew=None, seconds=seconds, gauges={}, limits=limits, silent=silent)
    grew, silent, passed = None, "", seconds
    try:
        before, began = source.scrape(releases), clock.now()
        clock.wait(seconds)
        now, passed = source.scrape(releases), clock.now() - began
        grew = grown_between(before, now, [release.id for release in releases])
    except TransientError as broken:
        silent = broken.what
    gauges: dict[str, float] = {}
    for release in releases:
        try:
            for name, value in source.gauges_of(release).items():
                gauges[name] = max(value, gauges.get(name, value))
        except TransientError as broken:
            log.warning("Some gauges of %s are not known: %s", release.id, broken)
    return health_of(environment, releases, grew=grew, seconds=passed, gauges=gauges, limits=limits, silent=silent)


def remember(file: Path, seen: EnvironmentHealth, *, at: datetime) -> tuple[Point, ...]:
    """Adds this look to those that `file` keeps, and returns the newest of all, the oldest of them first. A file that cannot be read
    begins anew: it is a picture's past, and decides nothing.
    """
    point = Point(at.timestamp(), *(seen.value(name) for name in (REQUESTS, CLIENT_ERRORS, SERVER_ERRORS, P95)))
    points = (*_kept(file), point)[-KEPT_LOOKS:]
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as written:
        json.dump([astuple(one) for one in points], written)
    Path(written.name).replace(file)
    return points


def _kept(file: Path) -> tuple[Point, ...]:
    try:
        return tuple(Point(float(at), *map(_number, others)) for at, *others in json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as broken:
        log.warning("The looks before are forgotten: %s cannot be read (%s)", file.name, type(broken).__name__)
        return ()


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def health_rows(seen: EnvironmentHealth) -> list[tuple[str, str, str, str, str]]:
    """Figure, value, limit, verdict, and why it is not known."""
    return [(one.name, one.shown, one.limit, one.verdict, one.why if one.value is None else "") for one in seen.figures]


def health_markdown(seen: EnvironmentHealth, *, at: datetime, points: Sequence[Point] = ()) -> str:
    """The page: the verdict, the rows, and a picture of the looks before."""
    parts = [f"# {one_line(seen.sentence())}"]
    if seen.releases:
        rows = [(name, one_line(shown), limit, _loud(verdict), one_line(why)) for name, shown, limit, verdict, why in health_rows(seen)]
        parts.append(f"{', '.join(seen.releases)}, over {seen.seconds:.0f} s until {at.astimezone(UTC):%d %b %Y %H:%M:%S} UTC")
        parts.append(table(("", "now", "limit", "verdict", ""), rows))
    if len(points) > 1:
        parts += _trends(points)
    return "\n\n".join(parts) + "\n"


def _loud(verdict: str) -> str:
    return f"**{verdict}**" if verdict in ("over its limit", "unknown") else verdict


def _trends(points: Sequence[Point]) -> list[str]:
    first, last = (datetime.fromtimestamp(points[index].at, UTC) for index in (0, -1))
    ends = (f"{first:%d %b %H:%M}", f"{last:%d %b %H:%M} UTC")

    def line(label: str, colour: str, values: Sequence[float | None]) -> Line:
        known = [None if value is None or not math.isfinite(value) else value for value in values]
        return Line(label, colour, [(point.at, value) for point, value in zip(points, known, strict=True)])

    def percent(shares: Sequence[float | None]) -> list[float | None]:
        return [None if share is None else 100 * share for share in shares]

    errors = [
        line("4xx", GREY, percent([point.client_errors for point in points])),
        line("5xx", RED, percent([point.server_errors for point in points])),
    ]
    charts = (
        Chart("Requests per second", [line("", BLUE, [point.rate for point in points])], ends=ends),
        Chart("Answers with an error", errors, unit=" %", at_least=1.0, ends=ends),
        Chart("p95 response time", [line("", BLUE, [point.p95_ms for point in points])], unit=" ms", ends=ends),
    )
    return [chart.markdown(f"{chart.title}, the last {len(points)} looks") for chart in charts]
