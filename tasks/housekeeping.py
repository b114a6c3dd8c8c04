"""What nobody needs any longer is taken away: images in the registry, files of this machine, remains of turned-back releases."""

import fcntl
import logging
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from delivery.environment import Environment
from delivery.errors import EnvironmentBusy
from delivery.ports import JournalStore, Registry, Target
from delivery.record import RolloutRecord
from delivery.release import Release
from delivery.retention import Verdict, judge_repository, why_releases_stay
from tasks.lease import LeaseKeeper
from tasks.rollout import TURNED_BACK

log = logging.getLogger("greenroom.housekeeping")

# Everything in them can be made again, or has been told: what they hold is named by commit, by release or by rollout.
SWEPT_FOLDERS = ("builds", "checkouts", "logs", "reports", "rollouts", "sboms", "cache/checks")
# So many releases back in each environment a way back by digest stays open.
WAYS_BACK = 3


def needed_releases(store: JournalStore, environments: Collection[str]) -> Mapping[str, str]:
    """Which releases an environment, a request or a rollout under way needs, by id, with the reason."""
    needed: dict[str, str] = {}
    for name in environments:
        lived = [record for record in store.rollouts(environment=name, limit=1000) if record.promoted_at is not None]
        builds = list(dict.fromkeys(record.build for record in lived))[:WAYS_BACK]
        for record in lived:
            if record.build in builds:
                needed.setdefault(record.release, f"a way back of {name}")
    for request in store.requests(open_only=True):
        needed[request.plan.release.id] = f"request {request.number} asks for it"
    for record in store.rollouts(open_only=True):
        needed.update({one: f"{record.id} is under way" for one in (record.release, record.blue) if one})
    for name in environments:
        if live := store.live(name):
            needed[live.id] = f"live in {name}"
    return needed


def sweep_registry(store: JournalStore, registry: Registry, environments: Collection[str], *, keep: int, act: bool) -> tuple[Verdict, ...]:
    """A verdict per image; with `act`, what goes is gone afterwards. May be repeated, and goes on where an interrupted one stopped."""
    told: dict[str, Verdict] = {}
    for application, service in _services(store.releases()):
        repository = f"{application}-{service}"
        # The registry first: a release that is published meanwhile shows by its names there, or in the journal.
        stored = registry.stored(repository)
        releases = [release for release in store.releases() if release.application == application]
        staying = why_releases_stay(releases, needed_releases(store, environments), keep=keep)
        for digest, verdict in judge_repository(stored, releases, staying, service=service).items():
            if verdict.goes and act:
                registry.remove(repository, digest)
                log.info("%s: %s is gone, %s", repository, verdict.thing, verdict.why)
            told[f"{repository}@{digest}"] = Verdict(f"image {repository} {verdict.thing}", verdict.goes, verdict.why)
    return tuple(told.values())


def sweep_folders(work_dir: Path, *, days: float, act: bool, now: float | None = None) -> tuple[Verdict, ...]:
    """A verdict per entry of the work directory that goes: nobody touched it for `days`. What somebody uses is left for the next time."""
    oldest = (time.time() if now is None else now) - timedelta(days=days).total_seconds()
    told = []
    for folder in SWEPT_FOLDERS:
        for entry in sorted(_entries(work_dir / folder)):
            try:
                if _touched(entry) >= oldest:
                    continue
                with _unused(entry) as is_free:
                    if not is_free:
                        continue
                    if act:
                        _remove(entry)
            except FileNotFoundError:
                continue  # somebody else was quicker
            told.append(Verdict(f"{folder}/{entry.name}", goes=True, why=f"not touched for {days:g} days"))
    return tuple(told)


def bury_remains(
    store: JournalStore, target: Target, environment: Environment, *, days: float, act: bool, holder: str, ttl: timedelta
) -> tuple[Verdict, ...]:
    """What turned-back releases left stopped for a post-mortem goes `days` after their last rollout. A busy environment is left for the
    next time.
    """
    remains = _old_remains(store, target, environment.name, days=days)
    if act and remains:
        try:
            with LeaseKeeper(store, environment.name, holder=holder, purpose="removing old remains", ttl=ttl) as keeper:
                for release in _old_remains(store, target, environment.name, days=days):  # again, now that nobody else can act
                    keeper.ensure()
                    target.retire(release, keep_remains=False, token=keeper.token("housekeeping"))
        except EnvironmentBusy:
            return ()
    return tuple(
        Verdict(f"remains of {one.id} in {environment.name}", goes=True, why=f"turned back {days:g} days ago or longer") for one in remains
    )


def _old_remains(store: JournalStore, target: Target, environment: str, *, days: float) -> tuple[Release, ...]:
    if store.rollouts(environment=environment, open_only=True):
        return ()
    standing, until = target.observe(), store.now() - timedelta(days=days)
    stopped = standing.present - standing.running - standing.weights.keys()
    last: dict[str, RolloutRecord] = {}
    for record in store.rollouts(environment=environment, limit=1000):
        last.setdefault(record.release, record)
    return tuple(
        store.release(release)
        for release, record in last.items()
        if release in stopped and record.ending in TURNED_BACK and record.ended_at is not None and record.ended_at < until
    )


def _services(releases: Sequence[Release]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({(release.application, service) for release in releases for service in release.images}))


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from (entry for entry in folder.iterdir() if entry.suffix != ".lock" and not entry.is_symlink())
    except FileNotFoundError:
        return


def _touched(entry: Path) -> float:
    """When it or something directly in it changed last."""
    inside = entry.iterdir() if entry.is_dir() else ()
    changed: list[float] = [one.lstat().st_mtime for one in (entry, *inside)]
    return max(changed)


@contextmanager
def _unused(entry: Path) -> Iterator[bool]:
    """Holds the lock that goes with it, when there is one; False when somebody else does."""
    lock = entry.with_suffix(".lock")
    if not lock.exists():
        yield True
        return
    with lock.open("rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _remove(entry: Path) -> None:
    """Links inside are removed, never followed."""
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink()
    log.info("%s is gone", entry)
