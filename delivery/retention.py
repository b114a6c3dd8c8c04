"""What may be deleted, and why the rest stays. Decided from what the journal and the registry say; deleted elsewhere.

Unknown is never deleted: an image that nobody here published, one that has a further name, one that describes something unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delivery.backup import Backup
from delivery.image import tags_at_publish, tags_on_staging
from delivery.release import Release

# These move from release to release; having one says nothing about being needed.
MOVING = frozenset(("latest", "staging-latest"))


@dataclass(frozen=True)
class Manifest:
    """One entry of a repository: digest, names, the digests that an index lists, and the one that a signature or an SBOM describes."""

    digest: str
    tags: frozenset[str] = frozenset()
    lists: tuple[str, ...] = ()
    subject: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether `thing` goes, and why, in words that continue "it stays: …" or "it goes: …"."""

    thing: str
    goes: bool
    why: str


def why_releases_stay(releases: Sequence[Release], needed: Mapping[str, str], *, keep: int) -> Mapping[str, str]:
    """The releases that stay, by id, with the reason: those `needed` (id -> why), and the first `keep` of `releases` (newest first)."""
    builds = list(dict.fromkeys(release.build for release in releases))[:keep]  # other settings make no other images
    newest = {release.id: f"among the newest {keep}" for release in releases if release.build in builds}
    return {**newest, **needed}


def judge_repository(
    stored: Sequence[Manifest], releases: Sequence[Release], staying: Mapping[str, str], *, service: str
) -> Mapping[str, Verdict]:
    """A verdict per digest of the repository that holds the images of `service`, in the order in which they may be deleted.

    What an image lists and what describes it shares its fate, and goes before it, so that a deletion that was interrupted is found again.
    A digest that several releases share stays as long as one of them does.
    """
    users: dict[str, list[Release]] = {}
    for release in releases:
        if service in release.images:
            users.setdefault(release.images[service].digest, []).append(release)
    images = {one.digest: one for one in stored if one.subject is None}
    fates = {digest: _judge_image(image, users.get(digest, []), staying) for digest, image in images.items()}
    parts: dict[str, Verdict] = {}
    for goes in (True, False):  # what stays has the last word on what both list
        for digest, fate in fates.items():
            if fate.goes is goes:
                kind = f"part of {fate.thing}"
                parts.update({part: Verdict(kind, goes, f"{kind}: {fate.why}") for part in images[digest].lists if part not in fates})
    described = _judge_descriptions([one for one in stored if one.subject is not None], {**parts, **fates})
    return {**described, **{digest: fate for digest, fate in parts.items() if digest not in described}, **fates}


def judge_backups(
    files: Mapping[str, float], known: Sequence[Backup], *, needed: Mapping[str, str], verified: str | None, keep: int, oldest: float
) -> tuple[Verdict, ...]:
    """A verdict per file of one environment, each with when it was written (seconds since 1970). `known` are the journal's, the newest
    first; `needed` maps rollouts whose backup stays to the reason; `verified` is the rollout whose backup was the last that came back.

    A backup goes when it is neither among the newest `keep` nor written after `oldest`. What the journal does not know is none, and goes
    by age alone.
    """
    here = [backup for backup in known if backup.file in files]
    newest = {backup.file for backup in here[:keep]}
    of = {backup.file: backup for backup in here}

    def judged(file: str, written: float) -> Verdict:
        thing, backup = f"backup {file}", of.get(file)
        if backup is not None and backup.rollout == verified:
            return Verdict(thing, goes=False, why="the last that was shown to come back")
        if backup is not None and backup.rollout in needed:
            return Verdict(thing, goes=False, why=needed[backup.rollout])
        if file in newest:
            return Verdict(thing, goes=False, why=f"among the newest {keep}")
        if written >= oldest:
            return Verdict(thing, goes=False, why="not old enough")
        return Verdict(thing, goes=True, why="old, and newer ones are kept" if backup else "old, and the journal knows no such backup")

    return tuple(judged(file, written) for file, written in sorted(files.items()))


def _judge_descriptions(descriptions: Sequence[Manifest], known: Mapping[str, Verdict]) -> Mapping[str, Verdict]:
    """What describes a description goes before it."""
    found: dict[str, Verdict] = {}
    waiting = list(descriptions)
    while judged := [one for one in waiting if one.subject in known or one.subject in found]:
        waiting = [one for one in waiting if one not in judged]
        about = {**known, **found}
        found = {**{digest: _fate_of(about[one.subject or ""]) for one in judged for digest in (*one.lists, one.digest)}, **found}
    lost = {
        digest: Verdict("a description", goes=False, why="nobody knows what it describes")
        for one in waiting
        for digest in (one.digest, *one.lists)
    }
    return {**found, **lost}


def _fate_of(described: Verdict) -> Verdict:
    return Verdict(f"about {described.thing}", described.goes, f"it describes {described.thing}: {described.why}")


def _judge_image(image: Manifest, users: Sequence[Release], staying: Mapping[str, str]) -> Verdict:
    thing = ", ".join(release.id for release in users) or ", ".join(sorted(image.tags)) or image.digest[:19]
    if not users:
        return Verdict(thing, goes=False, why="nobody here published it")
    for release in users:
        if release.id in staying:
            return Verdict(thing, goes=False, why=staying[release.id])
    own = {name for one in users for name in (*tags_at_publish(one.version, one.sha, on_main=True), *tags_on_staging(one.version))}
    if further := sorted(image.tags - own):
        return Verdict(thing, goes=False, why=f"it is also named {', '.join(further)}")
    if moving := sorted(image.tags & MOVING):
        return Verdict(thing, goes=False, why=f"it is named {', '.join(moving)}")
    return Verdict(thing, goes=True, why="neither new nor needed by any environment")
