"""What is still to be told of alerts: as messages for people and as events for Prefect, each phase once.

A phase counts as told when its event lies in the outbox, sent or not; so the answer is the same after any restart.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from delivery.alerts import Alert

# The outbox of what Prefect is told. No environment can bear that name, so a Prefect that is dead holds up no message, nor the reverse.
EVENTS = "prefect events"
# An alert that was over for longer when it was first seen is history and no news.
FRESH = timedelta(hours=1)


class Phase(StrEnum):
    """In the order in which they come; the value is the end of the event's name."""

    OPENED = ""
    WENT_BACK = ".went-back"
    ESCALATED = ".escalated"
    RESOLVED = ".resolved"


@dataclass(frozen=True)
class News:
    """One phase of an alert, at the time at which it came."""

    alert: Alert
    phase: Phase
    at: datetime

    @property
    def event_key(self) -> str:
        return event_key(self.alert, self.phase)

    @property
    def message_key(self) -> str:
        """The alert's own message, or an urgent word in its thread (`delivery/notices.py`)."""
        return f"{self.alert.key}#urgent-open" if self.phase is Phase.ESCALATED else self.alert.key

    def text(self) -> str:
        """For people: severity, environment, what happened, what to do."""
        alert = self.alert
        match self.phase:
            case Phase.ESCALATED:
                minutes = (self.at - alert.since).total_seconds() / 60
                return f"Still {alert.kind} in {alert.environment}, for {minutes:.0f} min: {alert.sentence}\nNext: {alert.next}"
            case Phase.RESOLVED:
                span = f"{alert.since:%Y-%m-%d %H:%M} to {self.at:%H:%M} UTC"
                return f"OVER ({alert.severity}): {alert.kind} in {alert.environment}, {span}\n{alert.sentence}\nEnded: {alert.ending}"
            case Phase.OPENED | Phase.WENT_BACK:
                headline = f"{alert.severity.upper()}: {alert.kind} in {alert.environment}, since {alert.since:%Y-%m-%d %H:%M} UTC"
                return f"{headline}\n{alert.sentence}\nNext: {alert.next}\nRunbook: docs/{alert.runbook}"

    def document(self, flow_run: str | None) -> str:
        """The event as JSON; `flow_run` is the run of the rollout that it is about, where one is known."""
        alert = self.alert
        told = {
            "event": f"greenroom.alert.{alert.kind}{self.phase}",
            "occurred": self.at.isoformat(),
            "environment": alert.environment,
            "flow_run": flow_run,
            "payload": {
                "key": alert.key,
                "severity": alert.severity,
                "sentence": alert.sentence,
                "next": alert.next,
                "runbook": alert.runbook,
                "rollout": alert.rollout,
                "since": alert.since.isoformat(),
                "ended_at": alert.ended_at.isoformat() if alert.ended_at else None,
                "ending": alert.ending or None,
            },
        }
        return json.dumps(told, ensure_ascii=False)


def event_key(alert: Alert, phase: Phase) -> str:
    return f"{EVENTS}/{alert.key}#{phase.name.lower().replace('_', '-')}"


def keys_of(alerts: Iterable[Alert]) -> tuple[str, ...]:
    """Everything that `news_of` has to know about."""
    return tuple(event_key(alert, phase) for alert in alerts for phase in Phase)


def news_of(alerts: Iterable[Alert], told: Collection[str], *, escalate: timedelta | None, now: datetime) -> tuple[News, ...]:
    """What is to be told now, in the order in which it happened. `told` are the keys of `keys_of` that lie in the outbox; `escalate` is how
    long a critical alert may be open before more people are called, None: for ever.
    """
    return tuple(one for alert in alerts for one in _due(alert, told, escalate=escalate, now=now) if one.event_key not in told)


def _due(alert: Alert, told: Collection[str], *, escalate: timedelta | None, now: datetime) -> Iterator[News]:
    is_known = event_key(alert, Phase.OPENED) in told
    if not is_known and alert.ended_at is not None and now - alert.ended_at > FRESH:
        return
    yield News(alert, Phase.OPENED, alert.since)
    if alert.went_back_at is not None:
        yield News(alert, Phase.WENT_BACK, alert.went_back_at)
    if alert.ended_at is not None:
        yield News(alert, Phase.RESOLVED, alert.ended_at)
    elif escalate is not None and alert.severity == "critical" and now - alert.since >= escalate:
        yield News(alert, Phase.ESCALATED, now)
