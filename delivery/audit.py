"""What a journal's chains come to: the acts they prove, and one short word over all of them that can be kept elsewhere."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from delivery.errors import InvalidSettings
from delivery.journal import Closed, Entry, Finished, Opened, Promoted, Started, TurnedBack


@dataclass(frozen=True)
class Act:
    """One thing that was done in an environment, or said by a person about it."""

    at: datetime
    rollout: str
    what: str


def acts_of(rollout: str, entries: Iterable[Entry]) -> Sequence[Act]:
    """Each entry as a sentence: a step that was begun appears even if nobody knows how it ended."""
    return [Act(entry.at, rollout, _told(entry)) for entry in entries]


def _told(entry: Entry) -> str:
    match entry.event:
        case Opened(plan=plan, by=by):
            return f"opened by {by}: {plan.sentence()}"
        case Started(step=step, attempt=attempt):
            return f"{step} begun (try {attempt}, fence {entry.fence})"
        case Finished(step=step, evidence=evidence):
            return f"{step} {'well' if evidence.well else 'SICK'}: {evidence.summary}"
        case TurnedBack(reason=reason):
            return f"turned back: {reason}"
        case Promoted(release=release):
            return f"promoted {release}"
        case Closed(ending=ending, message=message):
            return f"ended {ending.value}: {message}"


def missing_among(environment: str, numbers: Iterable[int]) -> Sequence[str]:
    """Rollouts count from 1 without a gap; these are not there. A newest one that was taken away is only missed by a noted head."""
    there = set(numbers)
    return [f"{environment}-{number}" for number in range(1, max(there, default=0) + 1) if number not in there]


def heads(environment: str, last_hashes: Iterable[str]) -> Sequence[str]:
    """`production-7:` and 64 hex digits for each rollout in order: the hash of all chains up to its own."""
    found, head = [], ""
    for number, last in enumerate(last_hashes, start=1):
        head = hashlib.sha256(f"{head}\n{environment}-{number}\n{last}".encode()).hexdigest()
        found.append(f"{environment}-{number}:{head}")
    return found


def require_head(noted: str, known: Iterable[str]) -> None:
    """Raises `InvalidSettings` when the journal does not have what somebody noted of it earlier."""
    if noted not in known:
        raise InvalidSettings(
            f"The journal's head {noted[:160]!r} was noted, and the journal does not have it: entries up to there were changed or removed.",
            next="check what was noted; if it is right, keep the database as it is and find out who changed it.",
        )
