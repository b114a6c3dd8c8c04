"""Backups that nobody needs any longer go, and copies of databases that a dead run left beside them."""

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from delivery.errors import DeliveryError
from delivery.ports import BackingUp, JournalStore
from delivery.release import Release
from delivery.retention import Verdict, judge_backups
from tasks.backup import backups_of

log = logging.getLogger("greenroom.housekeeping")


def sweep_backups(
    store: JournalStore, folder: Path, environment: str, *, keep: int, days: float, act: bool, now: float | None = None
) -> tuple[Verdict, ...]:
    """A verdict per file of the environment's backups; with `act`, what goes is gone afterwards. May be repeated."""
    files = _files(folder, environment)
    if not files:
        return ()
    # The files first: a backup that is written meanwhile is none of them.
    known = backups_of(store, environment)
    needed = {record.id: f"{record.id} is under way" for record in store.rollouts(environment=environment, open_only=True)}
    promoted = next((one.id for one in store.rollouts(environment=environment, limit=1000) if one.promoted_at), None)
    if promoted is not None:
        needed[promoted] = "taken before what is live"
    kept = {(backup.rollout, backup.sha256) for backup in known if backup.file in files}
    verified = next((one.rollout for one in store.restore_tests(environment) if one.well and (one.rollout, one.sha256) in kept), None)
    oldest = (time.time() if now is None else now) - timedelta(days=days).total_seconds()
    verdicts = judge_backups(files, known, needed=needed, verified=verified, keep=keep, oldest=oldest)
    for file, verdict in zip(sorted(files), verdicts, strict=True):
        if verdict.goes and act:
            try:
                (folder / file).unlink(missing_ok=True)
            except OSError as broken:
                raise DeliveryError(
                    f"The backup {file} could not be deleted ({broken.strerror}).", next="let the worker write to its folder."
                ) from None
            log.info("%s is gone, %s", verdict.thing, verdict.why)
    return verdicts


def sweep_copies(release: Release, target: BackingUp, *, variables: Mapping[str, str], act: bool) -> tuple[Verdict, ...]:
    """Copies of databases, beside the one that `release` uses, that are so old that nobody can still be using them."""
    names = target.copies_left(release, variables=variables)
    if act:
        for name in names:
            target.drop_left(release, name, variables=variables)
            log.info("the database %s is gone", name)
    return tuple(Verdict(f"database {name}", goes=True, why="a copy that a dead run left") for name in names)


def _files(folder: Path, environment: str) -> dict[str, float]:
    """By their names relative to `folder`, when each was written."""
    try:
        found = [file for file in (folder / environment).iterdir() if file.is_file() and not file.is_symlink()]
        return {f"{environment}/{file.name}": file.stat().st_mtime for file in found}
    except FileNotFoundError:
        return {}
