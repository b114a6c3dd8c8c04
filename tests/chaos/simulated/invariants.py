"""What must hold, as functions that return a sentence for each thing that does not."""

from collections.abc import Sequence
from itertools import pairwise

from delivery.errors import DeliveryError
from delivery.journal import Ending, Finished, Progress
from delivery.record import RolloutRecord
from tests.chaos.simulated.colour import Colour
from tests.chaos.simulated.ledger import Ledger
from tests.chaos.simulated.platform import Platform


def requests(platform: Platform) -> list[str]:
    """I1: nobody was failed by the pipeline."""
    platform.users.count()
    return [f"I1: {reason}" for reason in platform.users.reasons]


def tokens(platform: Platform, ledger: Ledger) -> list[str]:
    """I8: fencing tokens never go down, neither at the platform nor in the journal."""
    found = []
    if any(later < earlier for earlier, later in pairwise(platform.fences)):
        found.append("I8: the platform acted for a token that was lower than one before")
    return found + [
        f"I8: the fences in the journal of {record.id} go down"
        for record in ledger.rollouts()
        if any(later.fence < earlier.fence for earlier, later in pairwise(ledger.entries(record.id)))
    ]


def story(ledger: Ledger) -> list[str]:
    """I11: each chain verifies, and each journal tells a legal story."""
    found = []
    for record in ledger.rollouts():
        try:
            ledger.verify_chain(record.id)
            Progress.of(entry.event for entry in ledger.entries(record.id))
        except DeliveryError as broken:
            found.append(f"I11: {record.id}: {broken.what}")
    return found


def surprises(ledger: Ledger) -> list[str]:
    """No step broke in a way that nobody foresaw: an error that is not one of ours is a fault of the pipeline."""
    events = [entry.event for record in ledger.rollouts() for entry in ledger.entries(record.id)]
    return [event.evidence.summary for event in events if isinstance(event, Finished) and "unexpectedly" in event.evidence.summary]


def ends(record: RolloutRecord, *, may_need_a_person: bool) -> list[str]:
    """I9: it ended, and without a person unless something was broken for good."""
    if record.ending is None:
        return [f"I9: {record.id} never ended"]
    if record.ending is Ending.NEEDS_HUMAN and not may_need_a_person:
        return [f"I9: {record.message}"]
    return []


def reality(platform: Platform, record: RolloutRecord, *, died: bool) -> list[str]:
    """I2 and I4: what the journal says is what the platform does."""
    live = record.release if record.ending is Ending.LIVE else record.blue
    served = {name: share for name, share in platform.weights.items() if share}
    found = []
    if served != ({live: 100} if live else {}):
        found.append(f"I2: {record.id} ended {record.ending} and the users are with {served or 'nobody'}")
    if platform.live != live:
        found.append(f"I4: the journal says that {live} is live, the platform says {platform.live}")
    if record.ending is Ending.UNTOUCHED and platform.had_users.get(record.release, 0):
        found.append(f"I4: {record.id} ended UNTOUCHED, and {record.release} had users")
    if live and not died:
        colour = platform.releases[live]
        assert isinstance(colour, Colour)
        if not colour.workers:
            found.append(f"I4: {live} is live and its workers do not run")
        up = sum(replica.state == "up" for replica in colour.replicas)
        if up != len(colour.replicas):
            found.append(f"I4: {live} is live on {up} of {len(colour.replicas)} replicas")
    return found


def orphans(platform: Platform, record: RolloutRecord, *, warm: str | None) -> list[str]:
    """I5: nothing runs that is neither live nor kept warm; remains are stopped, and of a failed release only."""
    live = record.release if record.ending is Ending.LIVE else record.blue
    found = []
    for name in platform.releases:
        colour = platform.releases[name]
        assert isinstance(colour, Colour)
        if name in (live, warm):
            continue
        if colour.up or any(replica.state == "stopping" for replica in colour.replicas):
            found.append(f"I5: {name} still runs")
        elif colour.workers:
            found.append(f"I5: the workers of {name} still run")
        elif colour.is_there and (name != record.release or record.ending is Ending.LIVE):
            found.append(f"I5: stopped replicas of {name} are left")
    return found


def unchanged(before: Sequence[object], after: Sequence[object]) -> list[str]:
    return [] if before == after else ["a recovery that had nothing to do changed something"]
