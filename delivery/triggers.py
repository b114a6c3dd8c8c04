"""Absolute limits held over time: the hard half of the watch. (The judge, which compares green with blue, is the other half.)"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from delivery.application import STRICT

Metric = Literal["error_rate", "p95_ms", "cpu", "memory", "database_lost", "log_pattern", "restarts", "gauge"]


@dataclass(frozen=True)
class Trigger:
    """Fires when `metric` stays beyond `threshold` for `for_seconds` without a good sample or an unexplained gap. The metric "gauge" is
    what the application or a metric source measures itself, called `gauge` there: connections in use, jobs that wait.

    Units: shares from 0 to 1 for error_rate, cpu and memory; milliseconds for p95_ms; counts for restarts and log_pattern;
    0 or 1 for database_lost. A gap between two known samples longer than `max_gap_seconds` starts the time anew.
    """

    __pydantic_config__ = STRICT

    metric: Metric
    threshold: float
    for_seconds: float
    max_gap_seconds: float = 45.0
    gauge: str | None = None

    @property
    def name(self) -> str:
        """What it limits, as people call it in the file."""
        return self.gauge or self.metric

    def problem(self) -> str | None:
        """What cannot be meant, as a sentence `key: got …, expected …`."""
        if (self.metric == "gauge") == (self.gauge is not None):
            return None
        got = "no name" if self.gauge is None else f"{self.gauge!r} beside metric = {self.metric!r}"
        return f'trigger.gauge: got {got}, expected the name of a gauge, and metric = "gauge"'

    def sentence(self, value: float) -> str:
        """What happened, for a person: `error rate 8.1 % is above 5 % for 45 s`."""
        got, limit = _amount(self.metric, value), _amount(self.metric, self.threshold)
        return f"{self.gauge or _LABELS[self.metric]} {got} is above {limit} for {self.for_seconds:g} s"


@dataclass(frozen=True)
class Sample:
    """One look: `at` in seconds on any steady clock; `value` None or NaN when it is not known."""

    at: float
    value: float | None


@dataclass(frozen=True)
class Firing:
    trigger: Trigger
    at: float
    value: float


def breach_since(trigger: Trigger, samples: Iterable[Sample]) -> tuple[float | None, Firing | None]:
    """Since when the limit is being broken at the last known sample (None: it is not), and the first firing if there was one.

    Semantics: a breach is strict (`value > threshold`); the trigger fires at the first sample whose distance from the first
    breaching sample is `for_seconds` or more (inclusive); a good sample resets; an unknown sample neither breaks nor recovers; a gap
    longer than `max_gap_seconds` between known samples restarts the time at the next breaching one. Samples are sorted by time and
    the last of several with one timestamp wins. It fires once.
    """
    by_time = {sample.at: sample.value for sample in sorted(samples, key=lambda sample: sample.at)}
    since: float | None = None
    previous: float | None = None
    for at, value in by_time.items():
        if value is None or math.isnan(value):
            continue
        if previous is not None and at - previous > trigger.max_gap_seconds:
            since = None
        previous = at
        if value <= trigger.threshold:
            since = None
            continue
        if since is None:
            since = at
        if at - since >= trigger.for_seconds:
            return since, Firing(trigger, at, value)
    return since, None


def fires_at(trigger: Trigger, samples: Iterable[Sample]) -> float | None:
    """The time of the sample at which the trigger fires, or None."""
    _, firing = breach_since(trigger, samples)
    return firing.at if firing else None


_LABELS: dict[Metric, str] = {
    "error_rate": "error rate",
    "p95_ms": "p95 response time",
    "cpu": "CPU",
    "memory": "memory",
    "database_lost": "database connectivity lost",
    "log_pattern": "critical log lines",
    "restarts": "restarts",
    "gauge": "gauge",
}


def _amount(metric: Metric, value: float) -> str:
    if metric in ("error_rate", "cpu", "memory"):
        return f"{100 * value:.3g} %"
    if metric == "p95_ms":
        return f"{value:.0f} ms"
    return f"{value:g}"
