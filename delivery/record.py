"""What happened, as rows: one per rollout."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from delivery.environment import Kind
from delivery.journal import Ending
from delivery.release import build_of


@dataclass(frozen=True)
class RolloutRecord:
    """One rollout from outside. Times are aware UTC; `ended_at`, `ending` and `message` are None while it is under way."""

    id: str
    environment: str
    release: str
    version: str
    blue: str | None
    kind: Kind
    by: str
    opened_at: datetime
    promoted_at: datetime | None = None
    ended_at: datetime | None = None
    ending: Ending | None = None
    message: str | None = None

    @property
    def build(self) -> str:
        """The release as it was published, whichever settings it was brought with."""
        return build_of(self.release)


@dataclass(frozen=True)
class IncidentFact:
    """One word on an incident, never changed: a later word on the same incident is another one, with a higher `number`.

    `incident` is the number of the word that opened it. `at` is when it was noticed (opened), when it was over (restored) or when this was
    said (attributed); `rollout` is what it is blamed on, None: no rollout. Times are aware UTC.
    """

    number: int
    incident: int
    kind: Literal["opened", "restored", "attributed"]
    environment: str
    at: datetime
    by: str
    text: str
    rollout: str | None = None
    impact_started_at: datetime | None = None


@dataclass(frozen=True)
class Lease:
    """The right to act on one environment. `fence` never goes down; the database's clock decides when it has expired."""

    environment: str
    holder: str
    purpose: str
    fence: int
    since: datetime
    expires_at: datetime
