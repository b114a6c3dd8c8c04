"""Is what users reach still well, long after the rollout? Asked on a schedule, decided here: tell a person, go back, or leave it.

Only what fails again and again counts, each endpoint by itself, and the state of the counting is data that is kept with each answer.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from delivery.application import STRICT, Service
from delivery.environment import VerificationSettings
from delivery.journal import Ending
from delivery.record import RolloutRecord
from delivery.release import Release

Outcome = Literal["well", "sick", "unknown"]
# The schedule wakes up a little early or late; half an interval, at most this long, is not worth skipping a turn.
MOST_SLACK = timedelta(seconds=30)


class Deed(StrEnum):
    """What one verification leads to."""

    NOTHING = "nothing"
    ALERT = "alert"  # a person is told, once
    WELL_AGAIN = "well again"  # a person who was told is told so, once
    GO_BACK = "go back"  # the release before gets the users, and promotions are held until a person lets them go on


@dataclass(frozen=True)
class Endpoint:
    """What users ask for. `contains` must stand in the body; `version` is what a health answer must say (None: it need not say one)."""

    path: str
    status: int = 200
    contains: str | None = None
    version: str | None = None

    @property
    def name(self) -> str:
        return f"GET {self.path}"


@dataclass(frozen=True)
class Answer:
    """What one endpoint answered. `unknown` is the prober's own trouble: it says nothing about the endpoint. `detail` is a sentence."""

    endpoint: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class Finding:
    """An answer and how often in a row the endpoint has failed with it, since when; None while it does not fail. `proven`: it was well when
    the present promotion came, or has been since. What never was, or failed before it, is no fault of the live release.
    """

    __pydantic_config__ = STRICT

    endpoint: str
    outcome: Outcome
    detail: str
    failures: int = 0
    since: datetime | None = None
    proven: bool = False


@dataclass(frozen=True)
class Verification:
    """One look at an environment's endpoints, as the journal keeps it, numbered from 1 within the environment. `rollout` brought the
    release that was live. `alerted`: a person was told that it fails and not yet that it is well again.
    """

    environment: str
    number: int
    at: datetime
    rollout: str
    release: str
    findings: tuple[Finding, ...]
    deed: Deed
    reason: str
    alerted: bool

    @property
    def failing(self) -> tuple[Finding, ...]:
        """The endpoints that have failed and not been well since, the one that fails longest first."""
        return tuple(sorted((one for one in self.findings if one.failures), key=lambda one: -one.failures))


@dataclass(frozen=True)
class Hold:
    """No release is promoted to the environment until a person lets it go on (`held` False). The newest word counts."""

    environment: str
    at: datetime
    held: bool
    by: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """`reason` is a sentence wherever something is done; `obstacle` says why users do not go back although the policy would have it."""

    findings: tuple[Finding, ...]
    deed: Deed
    reason: str
    alerted: bool
    obstacle: str | None = None


def endpoints(release: Release) -> tuple[Endpoint, ...]:
    """The release's smoke requests that only read and the health paths of its services, as far as users' requests for them
    reach that service.
    """
    found = {smoke.path: Endpoint(smoke.path, smoke.status, smoke.contains) for smoke in release.reading_smoke}
    for service in release.services:
        if service.health and _serves(release.services, service.health) is service:
            smoke = found.get(service.health)
            version = str(release.version) if smoke is None or smoke.status == 200 else None
            known = smoke or Endpoint(service.health)
            found[service.health] = Endpoint(known.path, known.status, known.contains, version)
    return tuple(found.values())


def _serves(services: Iterable[Service], path: str) -> Service | None:
    """The service whose longest route begins the path, as the traffic layer has it."""
    matching = [(len(route), service) for service in services for route in service.routes if path.startswith(route)]
    return max(matching, key=lambda each: each[0])[1] if matching else None


def is_due(policy: VerificationSettings, before: Verification | None, *, now: datetime) -> bool:
    interval = timedelta(seconds=policy.interval_seconds)
    return before is None or now - before.at >= interval - min(MOST_SLACK, interval / 2)


def newest_promotion(records: Sequence[RolloutRecord]) -> RolloutRecord | None:
    """Of an environment's rollouts, newest first, the one that brought what is live."""
    return next((record for record in records if record.promoted_at), None)


def under_way(records: Iterable[RolloutRecord]) -> RolloutRecord | None:
    return next((record for record in records if record.ended_at is None), None)


def judge_answers(
    policy: VerificationSettings,
    before: Verification | None,
    answers: Sequence[Answer],
    *,
    records: Sequence[RolloutRecord],
    has_previous: bool,
    now: datetime,
) -> Verdict:
    """What follows from the answers. `records` are the environment's rollouts, newest first; `has_previous` tells whether there is a
    release to go back to.

    An endpoint counts its failures while the same promotion is live; a well answer ends the count, an unknown one changes nothing.
    Nothing is done on an unknown answer alone, and nobody goes back for what was not well before the live release came. A person is
    told once, until everything is well again.
    """
    promotion = newest_promotion(records)
    is_same = before is not None and promotion is not None and before.rollout == promotion.id
    findings = _counted(before.findings if before else (), answers, now=now, is_same=is_same)
    was_alerted = before.alerted if before else False
    sick = sorted((one for one in findings if one.outcome == "sick"), key=lambda one: -one.failures)
    if not sick:
        is_well = bool(findings) and all(one.outcome == "well" for one in findings)
        if is_well and was_alerted:
            return Verdict(findings, Deed.WELL_AGAIN, "Every endpoint is well again.", alerted=False)
        return Verdict(findings, Deed.NOTHING, "", alerted=was_alerted)
    worst = sick[0]
    for_all = obstacle_to_going_back(records, has_previous=has_previous)
    ready = [one for one in sick if one.failures >= policy.rollback_after and not _own_obstacle(policy, one, now=now)]
    if policy.on_failure == "rollback" and ready and not for_all:
        return Verdict(findings, Deed.GO_BACK, told(sick), alerted=True)
    obstacle = (for_all or _own_obstacle(policy, worst, now=now)) if policy.on_failure == "rollback" else None
    if worst.failures >= policy.alert_after and not was_alerted:
        return Verdict(findings, Deed.ALERT, told(sick), alerted=True, obstacle=obstacle)
    return Verdict(findings, Deed.NOTHING, "", alerted=was_alerted, obstacle=obstacle)


def obstacle_to_going_back(records: Sequence[RolloutRecord], *, has_previous: bool) -> str | None:
    """Why nobody but a person may go back from what is live, or None. `records` are the environment's rollouts, newest first."""
    return next(_obstacles(records, has_previous=has_previous), None)


def _obstacles(records: Sequence[RolloutRecord], *, has_previous: bool) -> Iterator[str]:
    promotion = newest_promotion(records)
    if promotion is None:
        yield "nothing is live"
        return
    if open_one := under_way(records):
        yield f"{open_one.id} is under way"
    if records[0].ending is Ending.NEEDS_HUMAN:
        yield f"{records[0].id} needs a person"
    if promotion.kind == "rollback":
        yield f"{promotion.id} was itself a rollback, and a rollback is never rolled back"
    since = records[: records.index(promotion)]
    if tried := next((record for record in since if record.kind == "rollback"), None):
        yield f"{tried.id} has tried it and did not come through"
    if not has_previous:
        yield "nothing was live before it"


def _own_obstacle(policy: VerificationSettings, one: Finding, *, now: datetime) -> str | None:
    if not one.proven:
        return f"{one.endpoint} was not seen well since before the live release came, and going back would not help"
    if one.since is not None and now - one.since > timedelta(seconds=policy.newest_seconds):
        return f"{one.endpoint} has failed for more than {policy.newest_seconds / 60:g} minutes"
    return None


def _counted(before: Iterable[Finding], answers: Sequence[Answer], *, now: datetime, is_same: bool) -> tuple[Finding, ...]:
    """`is_same`: the promotion is still the one of the look before; another one counts anew."""
    known = {one.endpoint: one if is_same else _anew(one) for one in before}
    return tuple(_next(known.get(answer.endpoint, Finding(answer.endpoint, "unknown", "")), answer, now) for answer in answers)


def _anew(one: Finding) -> Finding:
    return Finding(one.endpoint, one.outcome, one.detail, proven=one.proven and not one.failures)


def _next(before: Finding, answer: Answer, now: datetime) -> Finding:
    match answer.outcome:
        case "well":
            return Finding(answer.endpoint, "well", answer.detail, proven=True)
        case "unknown":
            return Finding(answer.endpoint, "unknown", answer.detail, before.failures, before.since, before.proven)
        case "sick":
            return Finding(answer.endpoint, "sick", answer.detail, before.failures + 1, before.since or now, before.proven)


def told(failing: Iterable[Finding]) -> str:
    """`GET /health: it answered 503, expected 200 (5 times in a row).`"""
    each = [f"{one.endpoint}: {one.detail.rstrip('.')} ({_times(one.failures)})" for one in failing]
    return "; ".join(each) + "." if each else ""


def _times(failures: int) -> str:
    return "once" if failures == 1 else f"{failures} times in a row"
