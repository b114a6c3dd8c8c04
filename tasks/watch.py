"""Watching green at its present share: is it as well as the environment asks, for as long as the environment asks?

Unknown is not good: a watch that cannot tell goes on, and turns the rollout back when it stays blind.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from delivery.alerts import CAUSE
from delivery.canary import Decision
from delivery.environment import WatchSettings
from delivery.errors import DeliveryError, TransientError
from delivery.health import Counters, HealthReport
from delivery.journal import Evidence
from delivery.plan import Step
from delivery.release import Release
from delivery.triggers import Firing, Metric, Sample, Trigger, breach_since
from delivery.verdict import Verdict
from tasks.judging import FACTS, Judging
from tasks.scene import CANCELLED, Scene
from tasks.traffic import Facts, Traffic

log = logging.getLogger("greenroom.watch")

SICK_LOOKS = 3  # in a row: one slow answer of a health page is no reason to send everybody back
KEPT_LOOKS = 200

# What a limit is set on: the metric, and its own name again or that of a gauge.
Limit = tuple[Metric, str]


@dataclass(frozen=True)
class Look:
    """One look at green and blue. What could not be read is None."""

    at: float
    green: Counters | None
    blue: Counters | None
    report: HealthReport | None
    blue_memory: float | None = None
    gauges: Mapping[str, float] = field(default_factory=dict)

    @property
    def memory(self) -> tuple[float, float] | None:
        """Green's and blue's as shares of their limits, when both are known."""
        green = self.report.memory if self.report else None
        return None if green is None or self.blue_memory is None else (green, self.blue_memory)


class Watching:
    """What a watch has seen so far, and what that amounts to."""

    def __init__(self, settings: WatchSettings, triggers: tuple[Trigger, ...], judging: Judging | None = None) -> None:
        self._settings = settings
        self._judging = judging
        self._triggers = triggers
        self.green = Traffic(settings.window_seconds, settings.minimum_requests)
        self.blue = Traffic(settings.window_seconds, settings.minimum_requests)
        self.latest: Look | None = None
        self._samples: dict[Limit, list[Sample]] = {}
        self._matches: deque[tuple[float, tuple[str, ...]]] = deque()
        self._sick_looks = 0
        self._rows: deque[Facts] = deque(maxlen=KEPT_LOOKS)
        longest = max((trigger.for_seconds + trigger.max_gap_seconds for trigger in triggers), default=0.0)
        self._kept_seconds = 2 * longest + 10 * settings.interval_seconds

    def count(self, at: float, green: Counters | None, blue: Counters | None) -> bool:
        """Takes one scrape in, before the slower half of a look; True when it already sends green back, by a limit or by the judge's
        evidence. Green's memory is the one of the look before.
        """
        self.green.see(at, green)
        self.blue.see(at, blue)
        scraped = green is not None
        rate, p95 = (self.green.error_rate, self.green.p95_ms) if scraped else (None, None)
        self._sample(at, {("error_rate", "error_rate"): rate, ("p95_ms", "p95_ms"): p95})
        if self._judging is not None:
            self._judging.see(at, green, blue, self.latest.memory if self.latest else None)
        is_worse = self.verdict is not None and self.verdict.decision is Decision.ROLLBACK
        return is_worse or self.firing() is not None

    def see(self, look: Look) -> None:
        """The whole look, whose scrape was counted."""
        self.latest = look
        if look.report is not None:
            self._sick_looks = 0 if look.report.well else self._sick_looks + 1
            self._matches.append((look.at, look.report.log_matches))
        while self._matches and self._matches[0][0] <= look.at - self._settings.window_seconds:
            self._matches.popleft()
        gauges: dict[Limit, float | None] = {
            ("gauge", trigger.name): look.gauges.get(trigger.name) for trigger in self._triggers if trigger.gauge
        }
        self._sample(look.at, {**self._of_replicas(look.report), **gauges})
        self._rows.append(self._row(look))

    @property
    def verdict(self) -> Verdict | None:
        """What the judge said at its last look, if there is a judge and it has looked."""
        return self._judging.verdict if self._judging else None

    def firing(self) -> Firing | None:
        """The first trigger that has fired."""
        return next((firing for trigger in self._triggers if (firing := self._breach(trigger)[1])), None)

    def sickness(self) -> str | None:
        """What is wrong with green when several looks in a row found it sick."""
        report = self.latest.report if self.latest else None
        return report.sentence() if report is not None and not report.well and self._sick_looks >= SICK_LOOKS else None

    def cause(self) -> str:
        """What green is sent back for, in one word that `delivery.alerts` understands; asked in the order of `_verdict`."""
        if firing := self.firing():
            return firing.trigger.metric
        if self.sickness():
            report = self.latest.report if self.latest else None
            return "database_lost" if report and _database_lost(report) else "health"
        if self.verdict is not None and self.verdict.decision is Decision.ROLLBACK:
            return "slow" if self.verdict.slow else "errors"
        return "doubt"

    def log_lines(self) -> tuple[str, ...]:
        return tuple(line for _, lines in self._matches for line in lines)

    def doubt(self) -> str | None:
        """Why the last look does not say that green is well; None when it does."""
        if blindness := self._blindness():
            return f"nobody can tell whether green is well: {blindness}"
        if self.latest and self.latest.report and not self.latest.report.well:
            return f"green is not well: {self.latest.report.sentence()}"
        if breaching := next((trigger for trigger in self._triggers if self._breach(trigger)[0] is not None), None):
            return f"{breaching.name} is still beyond {breaching.threshold:g}"
        if self.verdict is not None and self.verdict.decision is Decision.HOLD:
            return self.verdict.reason
        return None

    def _blindness(self) -> str | None:
        """What cannot be known now."""
        if self.latest is None or self.latest.green is None:
            return "its metrics cannot be read"
        if self.latest.report is None:
            return "its replicas cannot be asked"
        if self.latest.report.well and self.green.error_rate is None:
            seen = self.green.window.requests if self.green.window else 0
            window, least = self._settings.window_seconds, self._settings.minimum_requests
            return f"{seen:,.0f} requests in the last {window:g} s, expected at least {least:,}"
        unknown = [trigger.name for trigger in self._triggers if trigger.metric == "gauge" and trigger.name not in self.latest.gauges]
        return f"{unknown[0]} is not known" if unknown else None

    def facts(self) -> Facts:
        """Both versions' totals, and the last looks as compact rows for plots."""
        judged = {FACTS: self._judging.facts()} if self._judging else {}
        looks, lines = list(self._rows), list(self.log_lines())[:20]
        return {"green": self.green.facts(), "blue": self.blue.facts(), "looks": looks, "log_lines": lines, **judged}

    def _breach(self, trigger: Trigger) -> tuple[float | None, Firing | None]:
        return breach_since(trigger, self._samples.get((trigger.metric, trigger.name), ()))

    def _of_replicas(self, report: HealthReport | None) -> Mapping[Limit, float | None]:
        values: dict[Metric, float | None] = {
            "cpu": report.cpu if report else None,
            "memory": report.memory if report else None,
            "restarts": float(report.restarts) if report else None,
            "log_pattern": float(len(self.log_lines())) if report else None,
            "database_lost": _database_lost(report) if report else None,
        }
        return {(metric, metric): value for metric, value in values.items()}

    def _sample(self, at: float, values: Mapping[Limit, float | None]) -> None:
        for trigger in self._triggers:
            limit: Limit = (trigger.metric, trigger.name)
            if limit not in values:
                continue
            kept = self._samples.setdefault(limit, [])
            kept.append(Sample(at, values[limit]))
            while kept[0].at < at - self._kept_seconds:
                kept.pop(0)

    def _row(self, look: Look) -> Facts:
        return {
            "t": round(look.at, 1),
            "green": _counted(look.green),
            "blue": _counted(look.blue),
            "p95_ms": [_rounded(self.green.p95_ms), _rounded(self.blue.p95_ms)],
            "cpu": _rounded(look.report.cpu if look.report else None, digits=3),
            "memory": _rounded(look.report.memory if look.report else None, digits=3),
            "evidence": _rounded(self.verdict.evidence if self.verdict else None, digits=3),
        }


def watch(step: Step, scene: Scene) -> Evidence:
    """Looks at green every interval until it has been well for `step.seconds`, or is not.

    Well: the time is over (or the judge has seen enough, where the environment lets that count), the last look knows the error rate, no
    limit is being broken and the judge does not hold. Sick: a trigger fired; green was not well in three looks in a row; the judge found
    it worse than blue; the rollout was cancelled; or the watch stayed blind, or a limit broken, `blind_seconds` beyond its time.
    """
    plan, clock = scene.plan, scene.clock
    settings, share, length = plan.environment.watch, step.percent or 0, step.seconds or 0.0
    release = plan.release.version.tag
    if scene.metrics is None:
        return Evidence(well=False, summary=f"{release} cannot be watched at {share} %: the environment has no source of metrics")
    # With every user on green there is nobody left to compare with.
    compared = plan.environment.judge.enabled and plan.blue is not None and share < 100
    watching = Watching(settings, plan.environment.trigger, _judging(scene) if compared else None)
    began = clock.now()
    while True:
        scene.ensure()
        if scene.stop.is_set():
            return CANCELLED
        at = clock.now() - began
        green, blue = _scraped(scene)
        decided = watching.count(at, green, blue)
        # Users of a green that is worse do not wait until its replicas have been asked, which a sick one draws out.
        watching.see(Look(at, green, blue, report=None) if decided else _look(scene, at, green, blue))
        passed = clock.now() - began
        seen = f"green {watching.green.sentence()}, blue {watching.blue.sentence()}"
        scene.tell(f"{min(passed, length):.0f} of {length:.0f} s, {seen}")
        early = plan.environment.judge.promote_early
        verdict = _verdict(watching, passed=passed, length=length, blind=settings.blind_seconds, early=early)
        if verdict is not None:
            well, reason = verdict
            told = f"; {watching.verdict.reason}" if well and watching.verdict else ""
            summary = f"{release} is well at {share} % ({seen}){told}" if well else f"{reason} at {share} % ({seen})"
            cause = {} if well else {CAUSE: watching.cause()}
            return Evidence(well=well, summary=summary, facts={"percent": share, "seconds": round(passed, 1), **cause, **watching.facts()})
        if clock.wait(settings.interval_seconds, scene.stop):
            return CANCELLED


def _judging(scene: Scene) -> Judging:
    return Judging(scene.plan, scene.earlier(), scene.folder, scene.calibrations)


def _verdict(watching: Watching, *, passed: float, length: float, blind: float, early: bool) -> tuple[bool, str] | None:
    """(well, reason), or None when the watch goes on. Absolute limits first, then the comparison with blue."""
    if firing := watching.firing():
        lines = watching.log_lines()
        told = f": {lines[0][:200]}" if firing.trigger.metric == "log_pattern" and lines else ""
        return False, firing.trigger.sentence(firing.value) + told
    if sickness := watching.sickness():
        return False, f"green is not well: {sickness}"
    judged = watching.verdict
    if judged is not None and judged.decision is Decision.ROLLBACK:
        return False, judged.reason
    doubt = watching.doubt()
    if doubt is None:
        shown = early and judged is not None and judged.decision is Decision.PROMOTE
        return (True, "") if shown or passed >= length else None
    return (False, doubt) if passed >= length + blind else None


def _scraped(scene: Scene) -> tuple[Counters | None, Counters | None]:
    """What green and blue have counted; None what could not be read, and blue where there is none."""
    plan = scene.plan
    counters = scrape(scene, (plan.release,) if plan.blue is None else (plan.release, plan.blue))
    if counters is None:
        return None, None
    return counters[plan.release.id], counters[plan.blue.id] if plan.blue is not None else None


def _look(scene: Scene, at: float, green: Counters | None, blue: Counters | None) -> Look:
    plan = scene.plan
    report: HealthReport | None = None
    try:
        report = scene.target.check(plan.release, patterns=plan.environment.watch.log_patterns)
    except TransientError as broken:
        log.warning("%s could not be asked: %s", plan.release.id, broken)
    return Look(
        at=at,
        green=green,
        blue=blue,
        report=report,
        blue_memory=_memory_of(plan.blue, scene) if plan.blue is not None and plan.environment.judge.enabled else None,
        gauges=_gauges(scene) if any(trigger.gauge for trigger in plan.environment.trigger) else {},
    )


def _gauges(scene: Scene) -> Mapping[str, float]:
    """What green's limits name beside requests and containers; what is not known now is absent."""
    if scene.metrics is None:
        return {}
    try:
        return scene.metrics.gauges_of(scene.plan.release)
    except TransientError as broken:
        log.warning("No gauges: %s", broken)
        return {}


def _memory_of(blue: Release, scene: Scene) -> float | None:
    """What green's memory is compared with; not knowing it is nobody's sickness."""
    try:
        return scene.target.check(blue).memory
    except DeliveryError as broken:
        log.debug("%s could not be asked for its memory: %s", blue.id, broken)
        return None


def scrape(scene: Scene, releases: Iterable[Release]) -> Mapping[str, Counters] | None:
    """The counters of these releases by id, or None when they cannot be read now. A release that nobody knows yet had no requests."""
    wanted = tuple(releases)
    if scene.metrics is None:
        return None
    try:
        found = scene.metrics.scrape(wanted)
    except TransientError as broken:
        log.warning("No metrics: %s", broken)
        return None
    return {release.id: found.get(release.id, Counters()) for release in wanted}


def _database_lost(report: HealthReport) -> float:
    """1 when a sick probe names the database, else 0."""
    return float(any(not result.well and "database" in f"{result.name} {result.detail}".casefold() for result in report.results))


def _counted(counters: Counters | None) -> list[int] | None:
    return None if counters is None else [round(counters.requests), round(counters.errors)]


def _rounded(value: float | None, *, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)
