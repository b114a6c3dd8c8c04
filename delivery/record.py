"""What happened, as rows: one per rollout."""

from dataclasses import dataclass
from datetime import datetime

from delivery.environment import Kind
from delivery.journal import Ending


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


@dataclass(frozen=True)
class Lease:
    """The right to act on one environment. `fence` never goes down; the database's clock decides when it has expired."""

    environment: str
    holder: str
    purpose: str
    fence: int
    since: datetime
    expires_at: datetime
