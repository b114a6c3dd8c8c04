"""The alerts of an environment, read from the journal."""

from collections.abc import Sequence

from delivery.alerts import Alert, Walked, alerts_of
from delivery.journal import Ending
from delivery.ports import JournalStore
from delivery.record import RolloutRecord

# How far back is looked: what is still open here began within these, and what ended before is long told.
ROLLOUTS, LOOKS = 20, 100


def alerts_in(store: JournalStore, environment: str, *, is_watched: bool) -> Sequence[Alert]:
    """Oldest first. `is_watched`: canary verification looks there. Raises `DeliveryError` when the journal does not answer."""
    records = store.rollouts(environment=environment, limit=ROLLOUTS)
    looks = store.telling_verifications(environment, limit=LOOKS)
    return alerts_of(environment, [_walked(store, record) for record in records], looks, is_watched=is_watched)


def _walked(store: JournalStore, record: RolloutRecord) -> Walked:
    return Walked(record) if record.ending is Ending.LIVE else Walked(record, store.entries(record.id))
