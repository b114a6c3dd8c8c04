"""Before migrations: the database is kept as it is. And, long after: does what was kept bring everything back?

A backup is a file that has its final name and stands in the journal; one without the other is none. Files are their owner's alone.
"""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from delivery.backup import NOTHING_PENDING, Backup, Noted, RestoreTest, found_wrong
from delivery.errors import DeliveryError, StaleFence, TransientError
from delivery.journal import Evidence, Finished
from delivery.plan import Step
from delivery.ports import BackingUp, JournalStore
from delivery.release import Release
from tasks.image_alembic import MigrationLimits, answer_in, no_answer, pending_command
from tasks.scene import CANCELLED, Scene
from tasks.shell import run_tool, tool_environment, tools_stop_with

log = logging.getLogger("greenroom.backup")

PARTIAL = ".partial"
# How a dump in pg_dump's custom format begins.
_MAGIC = b"PGDMP"
_PIECE = 256 * 1024


class Cancelled(Exception):  # noqa: N818  reads as the sentence it is
    pass


def back_up(step: Step, scene: Scene) -> Evidence:
    """A backup of what the migrations would change, if any is pending. Without one the rollout does not go on."""
    try:
        return _backed_up(step, scene)
    except (StaleFence, TransientError):
        raise
    except DeliveryError as broken:
        return Evidence(well=False, summary=f"no backup, no migration: {broken.what}", facts={"next": broken.next})
    except Cancelled:
        return CANCELLED


def _backed_up(step: Step, scene: Scene) -> Evidence:
    release, until = scene.plan.release, time.monotonic() + step.deadline_seconds
    pending = _pending(release, scene, timedelta(seconds=step.deadline_seconds))
    if not pending:
        return Evidence(well=True, summary=NOTHING_PENDING)
    left = timedelta(seconds=max(1.0, until - time.monotonic()))
    if scene.plan.environment.backup.hook:
        return _by_hook(scene, left)
    target = scene.target
    if not isinstance(target, BackingUp) or scene.backups is None:
        raise DeliveryError(
            "the target cannot take one.", next="name the platform's snapshot as hook in [backup] of the environment's file."
        )
    name = f"{scene.plan.environment.name}/{scene.token.rollout}.dump"
    scene.tell("backing up the database")

    def dump(take: Callable[[bytes], object]) -> Noted:
        def take_while_wanted(piece: bytes) -> None:
            if scene.stop.is_set():
                raise Cancelled
            take(piece)

        variables = scene.plan.environment.variables
        return target.dump_database(release, take_while_wanted, variables=variables, timeout=left, token=scene.token)

    made = keep(scene.backups, name, dump, rollout=scene.token.rollout)
    scene.ensure()
    return Evidence(
        well=True,
        summary=f"the database is kept in {made.file}: {_size(made.bytes)}, {len(made.rows)} tables, in {made.seconds:.1f} s",
        facts=made.facts(),
    )


def keep(folder: Path, name: str, dump: Callable[[Callable[[bytes], object]], Noted], *, rollout: str) -> Backup:
    """What `dump` gives, as `folder/name`: there as a whole and on the disk, or not at all. One that is there already is replaced."""
    file, began, digest, size = folder / name, time.monotonic(), hashlib.sha256(), 0
    partial = file.with_name(f".{file.name}{PARTIAL}")
    try:
        for each in (folder, file.parent):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            each.chmod(0o700)
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:

            def take(piece: bytes) -> None:
                nonlocal size
                out.write(piece)
                digest.update(piece)
                size += len(piece)

            noted = dump(take)
            out.flush()
            os.fsync(out.fileno())
        if not _begins_as_a_dump(partial):
            raise DeliveryError("what pg_dump gave is no dump.", next="look at the docker-target block's postgresql_image.")
        partial.replace(file)
        _settle(file.parent)
    except OSError as broken:
        raise DeliveryError(
            f"the backup could not be written to {file.parent} ({broken.strerror or type(broken).__name__}).",
            next="make room there, or let the worker write to it.",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return Backup(
        rollout=rollout,
        file=name,
        bytes=size,
        sha256=digest.hexdigest(),
        seconds=round(time.monotonic() - began, 2),
        revisions=noted.revisions,
        rows=noted.rows,
    )


def try_restoring(
    backup: Backup, folder: Path, release: Release, target: BackingUp, *, environment: str, variables: Mapping[str, str], timeout: timedelta
) -> RestoreTest:
    """Restores a backup beside its database and compares what it brings back with what was noted. What is wrong with the backup is a
    value; `TransientError` when it could not be tried.
    """
    began = time.monotonic()

    def told(what: str, *, well: bool = False) -> RestoreTest:
        seconds = round(time.monotonic() - began, 2)
        return RestoreTest(environment, backup.rollout, backup.sha256, datetime.now(UTC), well, seconds, what)

    file = folder / backup.file
    try:
        if (found := _digest(file)) != backup.sha256:
            return told(f"{backup.file} is not what was written: its SHA-256 is {found[:12]}…, noted was {backup.sha256[:12]}…")
        with file.open("rb") as stream:
            noted = target.try_dump(release, _pieces(stream), backup.bytes, variables=variables, timeout=timeout)
    except OSError as broken:
        return told(f"{backup.file} cannot be read ({broken.strerror or type(broken).__name__})")
    except TransientError:
        raise
    except DeliveryError as broken:
        return told(broken.what)
    if differences := backup.differences(noted):
        return told(f"what {backup.file} brings back is not what was there: {found_wrong(differences)}")
    rows = sum(backup.rows.values())
    return told(
        f"{backup.file} brings back {len(backup.rows)} tables with {rows:,} rows at {', '.join(backup.revisions) or 'no revision'}",
        well=True,
    )


def backups_of(store: JournalStore, environment: str) -> tuple[Backup, ...]:
    """Those that the journal knows, the newest first, be their files still there or not."""
    found: list[Backup] = []
    for record in store.rollouts(environment=environment, limit=1000):
        if record.kind == "rollback":
            continue
        events = (entry.event for entry in store.entries(record.id))
        made = [Backup.of(record.id, event.evidence.facts) for event in events if isinstance(event, Finished) and event.evidence.well]
        found += [backup for backup in made if backup is not None]
    return tuple(found)


def _pending(release: Release, scene: Scene, timeout: timedelta) -> tuple[str, ...]:
    settings = release.migrations
    if settings is None:
        return ()
    timeout = min(timeout, timedelta(seconds=settings.timeout_seconds))
    command = pending_command(settings, reviewed=scene.plan.reviewed, limits=MigrationLimits().within(timeout))
    variables = scene.plan.environment.variables
    ran = scene.target.run_once(release, settings.service, command, variables=variables, timeout=timeout, token=scene.token)
    answer = answer_in(ran.tail)
    if answer is None:
        raise no_answer(ran.tail, doing="Asking where the database stands")
    if answer.refusal:
        raise DeliveryError(answer.refusal, next=f"{answer.way_out}.")
    return answer.names("pending")


def _by_hook(scene: Scene, timeout: timedelta) -> Evidence:
    """The platform's own snapshot. What it is called is its last line."""
    names = {"environment": scene.plan.environment.name, "release": scene.plan.release.id, "rollout": scene.token.rollout}
    command = [_filled(part, names) for part in scene.plan.environment.backup.hook]
    scene.folder.mkdir(parents=True, exist_ok=True)
    scene.tell("taking a snapshot of the database")
    with tools_stop_with(scene.stop):
        ran = run_tool(
            command,
            directory=scene.folder,
            environment=tool_environment(),
            timeout=timeout,
            log_file=scene.folder / "backup-hook.log",
            label="backup hook",
        )
    if scene.stop.is_set():
        raise Cancelled
    last = next((line.strip() for line in reversed(ran.tail) if line.strip()), "it said nothing")[:300]
    if not ran.succeeded:
        ended = f"was ended after {timeout.total_seconds():g} s" if ran.timed_out else f"ended with {ran.exit_code}"
        raise DeliveryError(
            f"the hook {command[0]} {ended}: {last}", next="make it succeed by hand, then ask for the rollout again; hook is in [backup]."
        )
    return Evidence(
        well=True, summary=f"the platform's snapshot is taken: {last}", facts={"snapshot": last, "seconds": round(ran.seconds, 2)}
    )


def _filled(part: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        part = part.replace(f"{{{name}}}", value)
    return part


def _begins_as_a_dump(file: Path) -> bool:
    with file.open("rb") as written:
        return written.read(len(_MAGIC)) == _MAGIC


def _settle(folder: Path) -> None:
    """A rename is on the disk once its folder is."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(_PIECE):
        yield piece


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 100_000 else f"{count:,} bytes"
