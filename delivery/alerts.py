"""What a person should hear of at once, and until when: read from what the journal tells of an environment, and kept nowhere else.

Whoever asks twice, later, in another process or after a restart, is told the same alerts under the same keys.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from delivery.journal import CANCELLED, Closed, Ending, Entry, Event, Evidence, Finished, Progress
from delivery.plan import Step, StepKind
from delivery.record import RolloutRecord
from delivery.verification import Deed, Finding, Verification

Severity = Literal["critical", "warning"]


class AlertKind(StrEnum):
    DEPLOYMENT_FAILED = "deployment-failed"  # a release did not get where it should, and no user suffered from it
    HEALTH_FAILED = "health-failed"  # what users reach, or the replicas that serve them, do not answer as they should
    ERROR_SPIKE = "error-spike"
    DEGRADED = "degraded"  # slow, short of something, or ill in part
    DATABASE_LOST = "database-lost"
    NEEDS_HUMAN = "needs-human"


# The fact by which a watch says in one word what it found, and what the words mean. An unknown word is a failed deployment.
CAUSE = "cause"
_CAUSES: Mapping[str, AlertKind] = {
    **dict.fromkeys(("error_rate", "errors"), AlertKind.ERROR_SPIKE),
    **dict.fromkeys(("health", "restarts", "log_pattern"), AlertKind.HEALTH_FAILED),
    **dict.fromkeys(("p95_ms", "cpu", "memory", "gauge", "slow"), AlertKind.DEGRADED),
    "database_lost": AlertKind.DATABASE_LOST,
}


@dataclass(frozen=True)
class Alert:
    """`about` tells it from others of its kind in the environment; `sentence` says what happened, `next` what a person does. It is open
    until `ended_at`; `ending` says what ended it. `went_back_at`: when the release before was called back for it. `rollout` is None where
    none is to blame.
    """

    kind: AlertKind
    severity: Severity
    environment: str
    about: str
    since: datetime
    sentence: str
    next: str
    rollout: str | None = None
    went_back_at: datetime | None = None
    ended_at: datetime | None = None
    ending: str = ""

    @property
    def key(self) -> str:
        """The same for the same alert, whoever derives it."""
        return f"{self.environment}/alert-{self.kind}-{self.about}"

    @property
    def is_open(self) -> bool:
        return self.ended_at is None

    def line(self, now: datetime) -> str:
        """All of it in one line."""
        minutes = (now - (self.ended_at or self.since)).total_seconds() / 60
        when = (
            f"ended {minutes:.0f} min ago" if self.ended_at else f"for {minutes:.0f} min" if minutes < 120 else f"for {minutes / 60:.0f} h"
        )
        return f"{self.severity}, {self.kind} {when}: {' '.join(self.sentence.split())}"

    @property
    def runbook(self) -> str:
        """Within the folder `docs`."""
        return f"runbooks/{self.kind}.md"


@dataclass(frozen=True)
class Walked:
    """One rollout; `entries` may be left out where it is live: those tell nothing here."""

    record: RolloutRecord
    entries: Sequence[Entry] = ()


def alerts_of(environment: str, rollouts: Iterable[Walked], looks: Iterable[Verification], *, is_watched: bool) -> tuple[Alert, ...]:
    """Every alert of one environment, the oldest first, whatever the order of `rollouts` and `looks`. Of looks, those whose deed is
    nothing may be left out. `is_watched`: canary verification still looks there; what it alerted of ends when nobody does.
    """
    walked = sorted(rollouts, key=lambda one: (one.record.opened_at, number_of(one.record)))
    records = [one.record for one in walked]
    found = [alert for place, one in enumerate(walked) for alert in _of_rollout(one, records[place + 1 :])]
    found += _of_looks(environment, sorted(looks, key=lambda look: look.number), is_watched=is_watched)
    return tuple(sorted(found, key=lambda alert: (alert.since, alert.key)))


def number_of(record: RolloutRecord) -> int:
    return int(record.id.rpartition("-")[2])


def critical_within(alerts: Iterable[Alert], window: timedelta, *, now: datetime) -> tuple[Alert, ...]:
    """Those that were open at some time in the last `window`."""
    return tuple(one for one in alerts if one.severity == "critical" and (one.ended_at is None or now - one.ended_at < window))


def journal_lost(environment: str, since: datetime, *, until: datetime | None = None) -> Alert:
    """The journal itself did not answer: nothing about it can stand there before it is back."""
    alert = Alert(
        kind=AlertKind.DATABASE_LOST,
        severity="critical",
        environment=environment,
        about=f"journal-{since:%Y%m%dT%H%M%S}",
        since=since,
        sentence="Greenroom's journal does not answer: no rollout goes on, and nobody takes over what is abandoned.",
        next="bring its database back; the steward goes on by itself.",
    )
    return replace(alert, ended_at=until, ending="The journal answers again.") if until else alert


# Rollouts.


@dataclass(frozen=True)
class _Turn:
    """Where a rollout turned back, and what it had found. What it watches, and loads, has users by then."""

    at: datetime
    reason: str
    evidence: Evidence | None
    step: Step | None

    @property
    def kind(self) -> AlertKind:
        if self.evidence is None or self.step is None:
            return AlertKind.DEPLOYMENT_FAILED
        match self.step.kind:
            case StepKind.WATCH:
                return _CAUSES.get(str(self.evidence.facts.get(CAUSE)), AlertKind.DEPLOYMENT_FAILED)
            case StepKind.LOAD:
                return AlertKind.DEGRADED
            case _:
                return AlertKind.DEPLOYMENT_FAILED


@dataclass(frozen=True)
class _Course:
    progress: Progress
    turn: _Turn | None = None
    restored_at: datetime | None = None
    closed_at: datetime | None = None

    def after(self, entry: Entry) -> "_Course":
        event = entry.event
        course = replace(self, progress=self.progress.after(event))
        if course.turn is None and (reason := course.progress.turned_back):
            return replace(course, turn=_turn(course.progress, entry.at, reason, event))
        if isinstance(event, Finished) and event.evidence.well and _step(course.progress, event.step).kind is StepKind.RESTORE:
            return replace(course, restored_at=course.restored_at or entry.at)
        return replace(course, closed_at=entry.at) if isinstance(event, Closed) else course


def _turn(progress: Progress, at: datetime, reason: str, event: Event) -> _Turn:
    if not isinstance(event, Finished):
        return _Turn(at, reason, None, None)
    return _Turn(at, reason, event.evidence, _step(progress, event.step))


def _step(progress: Progress, name: str) -> Step:
    return next(step for step in (*progress.plan.forward, *progress.plan.back) if step.name == name)


def _of_rollout(walked: Walked, later: Sequence[RolloutRecord]) -> Iterator[Alert]:
    """`later` are the rollouts after it, oldest first."""
    if not walked.entries or walked.record.ending is Ending.LIVE:
        return
    first, *rest = walked.entries
    course = _Course(Progress.of((first.event,)))
    for entry in rest:
        course = course.after(entry)
    settled = next((record for record in later if record.ending in (Ending.LIVE, Ending.ROLLED_BACK)), None)
    if course.turn and course.turn.reason != CANCELLED:
        yield _of_turn(walked.record, course, course.turn, later=later, settled=settled)
    closed = course.progress.closed
    if closed and course.closed_at and closed.ending is Ending.NEEDS_HUMAN:
        yield _until_settled(_needs_human(walked.record, course.progress, closed, course.closed_at), settled)


def _of_turn(
    record: RolloutRecord, course: _Course, turn: _Turn, *, later: Sequence[RolloutRecord], settled: RolloutRecord | None
) -> Alert:
    plan, kind = course.progress.plan, turn.kind
    tag, title, report = plan.release.version.tag, plan.environment.title, f"`greenroom report {record.id}`"
    alert = Alert(
        kind=kind,
        severity="warning" if kind in (AlertKind.DEPLOYMENT_FAILED, AlertKind.DEGRADED) else "critical",
        environment=record.environment,
        about=record.id,
        since=turn.at,
        sentence=f"{title} does not get {tag}: {turn.reason.rstrip('.')}.",
        next=f"mend what {report} shows, and release again.",
        rollout=record.id,
    )
    if kind is AlertKind.DEPLOYMENT_FAILED:  # until somebody tries again: what was wanted is not there
        return replace(alert, ended_at=later[0].opened_at, ending=f"{later[0].id} to v{later[0].version} has begun.") if later else alert
    alert = replace(alert, sentence=f"{title} goes back from {tag}: {turn.reason.rstrip('.')}.")
    if course.restored_at is None:
        return _until_settled(alert, settled)
    whom = f"on {plan.blue.version.tag}" if plan.blue else "on nothing, as before the first release"
    return replace(alert, ended_at=course.restored_at, ending=f"Every user is back {whom}.")


def _needs_human(record: RolloutRecord, progress: Progress, closed: Closed, at: datetime) -> Alert:
    stuck = progress.stuck_at()
    known = progress.finished[stuck.name].facts.get("next") if stuck else None
    return Alert(
        kind=AlertKind.NEEDS_HUMAN,
        severity="critical",
        environment=record.environment,
        about=record.id,
        since=at,
        sentence=f"{closed.message.rstrip('.')}.",
        next=f"{known or 'look at `greenroom status` and the runbook.'}",
        rollout=record.id,
    )


def _until_settled(alert: Alert, settled: RolloutRecord | None) -> Alert:
    """What a person has to see to ends when a later rollout has brought the environment to a known release."""
    if settled is None or settled.ended_at is None:
        return alert
    return replace(alert, ended_at=settled.ended_at, ending=settled.message or f"{settled.id} is {settled.ending}.")


# Canary verification.


def _of_looks(environment: str, looks: Sequence[Verification], *, is_watched: bool) -> Iterator[Alert]:
    """An alert begins with the look that tells people, and ends with the one that finds everything well."""
    alert: Alert | None = None
    for look in looks:
        match look.deed:
            case Deed.NOTHING:
                continue
            case Deed.ALERT | Deed.GO_BACK:
                alert = _of_look(look) if alert is None else alert
                if look.deed is Deed.GO_BACK and alert.went_back_at is None:
                    alert = _gone_back(alert, look)
            case Deed.WELL_AGAIN:
                if alert is not None:
                    yield replace(alert, ended_at=look.at, ending="Every endpoint answers as it should.")
                alert = None
    if alert is None:
        return
    unwatched = f"Nobody asks any more: verification of {environment} is switched off."
    yield alert if is_watched else replace(alert, ended_at=looks[-1].at, ending=unwatched)


def _of_look(look: Verification) -> Alert:
    return Alert(
        kind=_kind_of(look.findings),
        severity="critical",  # users met it, again and again
        environment=look.environment,
        about=f"look-{look.number}",
        since=look.at,
        sentence=f"{look.environment.capitalize()} fails under {look.release.rpartition('-')[0]}: {look.reason}",
        next=f"look at it; to go back: `greenroom rollback {look.environment}`.",
        rollout=look.rollout,
    )


def _gone_back(alert: Alert, look: Verification) -> Alert:
    tag = look.release.rpartition("-")[0]
    return replace(
        alert,
        went_back_at=look.at,
        sentence=f"{look.environment.capitalize()} fails under {tag} and goes back to the release before: {look.reason}",
        next=f"promotions are held until a person has looked: `greenroom unhold {look.environment}`.",
    )


def _kind_of(findings: Sequence[Finding]) -> AlertKind:
    failing = [one for one in findings if one.failures]
    if any("database" in f"{one.endpoint} {one.detail}".casefold() for one in failing):
        return AlertKind.DATABASE_LOST
    return AlertKind.HEALTH_FAILED if len(failing) == len(findings) else AlertKind.DEGRADED
