"""What a rollout's report says of the release itself: what it is, what proved it, and what having two versions up at once cost."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from delivery.journal import Closed, Ending, Entry, Finished, Progress, Promoted, Started
from delivery.plan import StepKind
from delivery.release import Release
from tasks.markdown import length, one_line, table

_SHOWN_HASH = 16


def released(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The chain from the commit to the journal: who wrote it, what its checks found, which images are its, where the journal ends."""
    release = Progress.of(entry.event for entry in entries).plan.release
    last = entries[-1]
    parts = [f"Commit `{release.sha}` by {one_line(release.author)}."]
    if release.evidence:
        parts.append(table(("stage", "evidence"), _cells(release.evidence)))
    parts.append(table(("service", "image"), [(name, f"`{image}`") for name, image in release.images.items()]))
    parts.append(f"The journal of this rollout has {last.sequence} entries, chained by SHA-256; the last is `{last.hash[:_SHOWN_HASH]}`.")
    parts.append(f"Who signed and approved what is shown and verified by `greenroom evidence {release.version.tag}`.")
    return tuple(parts)


def overlap(entries: Sequence[Entry]) -> str | None:
    """How long two versions were up, and the replica-minutes beyond one version's; None where there was nothing beside the release."""
    plan = Progress.of(entry.event for entry in entries).plan
    launched = _at(entries, StepKind.LAUNCH)
    if plan.blue is None or launched is None:
        return None
    promoted = next((entry.at for entry in entries if isinstance(entry.event, Promoted)), None)
    removed = next((entry.at for entry in reversed(entries) if _is_finished(entry, StepKind.REMOVE)), None)
    until = promoted or removed or entries[-1].at
    green, blue = plan.release, plan.blue
    seconds = (until - launched).total_seconds()
    told = f"{_replicas(green)} of {green.version.tag} were up beside {blue.version.tag} for {length(seconds)}: {_minutes(green, seconds)}."
    if any(isinstance(entry.event, Closed) and entry.event.ending is Ending.LIVE for entry in entries):
        hold = plan.environment.traffic.hold_seconds
        told += f" {_replicas(blue)} of {blue.version.tag} stay warm for {length(hold)} after that: {_minutes(blue, hold)}."
    return told


def _at(entries: Sequence[Entry], kind: StepKind) -> datetime | None:
    return next((entry.at for entry in entries if isinstance(entry.event, Started) and entry.event.step == kind.value), None)


def _is_finished(entry: Entry, kind: StepKind) -> bool:
    return isinstance(entry.event, Finished) and entry.event.step == kind.value


def _count(release: Release) -> int:
    return sum(service.replicas for service in release.services)


def _replicas(release: Release) -> str:
    count = _count(release)
    return f"{count} replica{'' if count == 1 else 's'}"


def _minutes(release: Release, seconds: float) -> str:
    minutes = _count(release) * seconds / 60
    return f"{minutes:,.{0 if minutes >= 10 else 1}f} replica-minutes"


def _cells(evidence: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(one_line(name), one_line(told)) for name, told in evidence.items()]
