"""How the replicas of a release are: their answers, their use of the machine, and what their logs say."""

import calendar
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from blocks.docker_replicas import PROBE_SECONDS, Replicas, side_by_side
from blocks.engine_errors import MissingError
from blocks.engine_facts import Found
from blocks.http import shared_client
from delivery.application import Service
from delivery.health import HealthReport, ProbeResult, says_any
from delivery.release import Release

_LONGEST_MATCH, _MOST_MATCHES, _MOST_LINES = 300, 20, 5000


@dataclass(frozen=True)
class _Sample:
    """One look at a replica's resources: when (steady clock), CPU since its start, and what the look found as shares of the limits."""

    at: float
    cpu_ns: float
    cpu: float | None
    memory: float


@dataclass(frozen=True)
class ReplicaHealth:
    """Remembers from look to look only what CPU use and new lines of a log are told by."""

    replicas: Replicas
    _samples: dict[str, _Sample | None] = field(default_factory=dict)
    _last_lines: dict[str, str] = field(default_factory=dict)

    def check(self, release: Release, present: Sequence[Found], patterns: Sequence[str], *, with_users: bool) -> HealthReport:
        """Asks every replica that the release should have; `present` are those that it has."""
        by_name = {found.name: found for found in present}
        wanted = [(service, number) for service in release.services for number in range(service.replicas)]

        def look(one: tuple[Service, int]) -> HealthReport:
            service, number = one
            label, found = f"{service.name}-{number}", by_name.get(self.replicas.name_of(release, service, number))
            try:
                return self._look_at(release, service, label, found, patterns, with_users=with_users)
            except MissingError:  # removed between the list and the look
                return self._look_at(release, service, label, None, patterns, with_users=with_users)

        looks = side_by_side(look, wanted)
        return HealthReport(
            results=tuple(result for report in looks for result in report.results),
            cpu=max((report.cpu for report in looks if report.cpu is not None), default=None),
            memory=max((report.memory for report in looks if report.memory is not None), default=None),
            restarts=sum(report.restarts for report in looks),
            log_matches=tuple(match for report in looks for match in report.log_matches)[:_MOST_MATCHES],
        )

    def _look_at(
        self, release: Release, service: Service, label: str, found: Found | None, patterns: Sequence[str], *, with_users: bool
    ) -> HealthReport:
        if not service.takes_requests and not with_users:
            # Before it has users and after it had them, a release's worker takes no jobs: nothing runs that could be well or sick.
            there = ProbeResult(f"{label} exists", well=found is not None, detail="" if found else f"{label} does not exist.")
            return HealthReport(results=(there,))
        if found is None:
            return HealthReport(results=(ProbeResult(f"{label} runs", well=False, detail=f"{label} does not exist."),))
        matches = self._matching_lines(found, patterns)
        if not found.runs:
            ended = self.replicas.engine.ended(found.id)
            how = ended.sentence() if ended else "was never started" if found.state == "created" else f"is {found.state}"
            said = ProbeResult(f"{label} runs", well=False, detail=f"{label} {how}.")
            return HealthReport(results=(said,), restarts=1 if ended else 0, log_matches=matches)
        results = self._ask(service, label, found, release) if service.takes_requests else (self._is_ready(service, label, found),)
        cpu, memory = self._use_of_resources(found)
        return HealthReport(results=results, cpu=cpu, memory=memory, restarts=self.replicas.engine.restarts(found.id), log_matches=matches)

    def _ask(self, service: Service, label: str, found: Found, release: Release) -> tuple[ProbeResult, ...]:
        """Is it well, does it reach what it needs, and is it the version that was shipped?"""
        try:
            answer = shared_client().get(f"{self.replicas.url(service, found)}{service.health}", timeout=PROBE_SECONDS)
        except httpx.HTTPError as silent:
            detail = f"{service.name} did not answer {service.health} within {PROBE_SECONDS:g} s ({type(silent).__name__})."
            return (ProbeResult(f"{label} health", well=False, detail=detail),)
        said = _json_of(answer)
        status = "" if answer.status_code == 200 else f"{service.name} answered {answer.status_code}, expected 200."
        version, expected = said.get("version"), str(release.version)
        other = (
            ""
            if version == expected
            else f"{service.name} answered {f'version {version}' if version else 'no version'}, expected {expected}."
        )
        results = [
            ProbeResult(f"{label} health", well=not status, detail=status),
            ProbeResult(f"{label} version", well=not other, detail=other),
        ]
        for needed in ("database", "redis"):
            if needed in said:
                state = str(said[needed])[:80]
                away = "" if state == "connected" else f"{service.name} says {needed} {state}, expected connected."
                results.append(ProbeResult(f"{label} {needed}", well=not away, detail=away))
        return tuple(results)

    def _is_ready(self, service: Service, label: str, found: Found) -> ProbeResult:
        code = self.replicas.engine.execute(found.id, service.ready)
        detail = f"{service.name}'s ready command exited with {code}, expected 0." if code else ""
        return ProbeResult(f"{label} ready", well=code == 0, detail=detail)

    def _use_of_resources(self, found: Found) -> tuple[float | None, float | None]:
        """Unknown at the first look, which is about being well at all: the engine may take a second to measure. CPU needs two measures."""
        if found.id not in self._samples:
            self._samples[found.id] = None
            return None, None
        before = self._samples[found.id]
        # The engine measures once a second and lets whoever asks more often wait for its next time.
        if before and time.monotonic() - before.at < 1:
            return before.cpu, before.memory
        usage, now = self.replicas.engine.usage(found.id), time.monotonic()
        if usage is None:
            return None, None
        cpus = self.replicas.cpu_limit or usage.cpus
        cpu = (usage.cpu_ns - before.cpu_ns) / (1e9 * (now - before.at)) / cpus if before else None
        self._samples[found.id] = _Sample(now, usage.cpu_ns, cpu, usage.memory / usage.memory_limit)
        return cpu, usage.memory / usage.memory_limit

    def _matching_lines(self, found: Found, patterns: Sequence[str]) -> tuple[str, ...]:
        """New lines since the last look that contain a pattern, bounded. The first look sees the last lines there are."""
        if not patterns or found.state == "created":
            return ()
        last = self._last_lines.get(found.id)
        since = _seconds_of(last) if last else None
        matches = []
        for line in self.replicas.engine.log(found.id, tail=_MOST_LINES, since=since, timestamps=True).splitlines():
            at, _, text = line.partition(" ")
            # The engine's `since` is coarser than its timestamps, which sort as text.
            if last is not None and at <= last:
                continue
            self._last_lines[found.id] = at
            if says_any(text, patterns):
                matches.append(f"{found.label('service')}: {text[:_LONGEST_MATCH]}")
        return tuple(matches[-_MOST_MATCHES:])


def _json_of(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _seconds_of(timestamp: str) -> float | None:
    """Seconds since 1970 of the engine's `2026-01-02T03:04:05.678901234Z`, to the second below: what is read twice is skipped by text."""
    try:
        return float(calendar.timegm(time.strptime(timestamp[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None
