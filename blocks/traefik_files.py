"""The files of one environment in the directory that Traefik's file provider watches: whole or not at all, and twice.

Facts that this rests on (Traefik 3.7, measured): garbage in any file keeps the whole directory from being read, and the last good routing
serves; an *empty* or missing file is no garbage but an environment without routes, and its users get 404 at once. Of two files that say
the same the first one counts, by name, and the second one is passed over. Hence each environment's file has a twin behind it: emptying,
tearing or removing either leaves users where they are, and the one mends the other. Standard library only: a small supervisor uses it.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DynamicFiles:
    """One environment's file and its twin in `watched`; `folder`, on the same file system, holds its lock and what is being written."""

    environment: str
    watched: Path
    folder: Path

    @property
    def first(self) -> Path:
        return self.watched / f"{self.environment}.yml"

    @property
    def twin(self) -> Path:
        """Its name sorts right behind the first one's: a dot comes before a tilde, and no environment's name has one."""
        return self.watched / f"{self.environment}~.yml"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The environment's own lock on this machine; a process that dies lets go of it. Raises `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.environment}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def publish(self, content: bytes) -> bool:
        """Brings both to this content and tells whether one differed. To be called under the lock; raises `OSError`.

        Traefik reads again at every rename, and forgets what it knows about health: nothing is renamed that says the same, and the two
        renames come right after one another, so that they are read as one.
        """
        stale = [file for file in (self.first, self.twin) if _read(file) != content]
        new = [write_beside(self.folder / f"{file.name}.new", content) for file in stale]
        for written, file in zip(new, stale, strict=True):
            written.rename(file)
        if stale:
            sync_folder(self.watched)
        return bool(stale)

    def mend(self) -> bool:
        """Puts back whichever of the two is missing or broken from the other one, and has the twin follow the first one where a process
        died between the two renames; tells whether it did. Takes the lock when it has to; raises `OSError`.

        With both broken nothing is done: what to say then is in the routing state only.
        """
        if self._needed() is None:
            return False
        with self.locked():
            # Looked at again under the lock: a change that was being made is none that needs mending.
            content = self._needed()
            return content is not None and self.publish(content)

    def _needed(self) -> bytes | None:
        """The content that both should have and do not; None when they do, or nobody can tell."""
        first, twin = _read(self.first), _read(self.twin)
        if is_routing(first):
            return first if twin != first else None
        return twin if is_routing(twin) else None


def mend_all(watched: Path, folder: Path) -> list[str]:
    """Mends every environment's files that have a twin (what somebody else put into the directory is left alone); returns the names of
    those that needed it. Raises `OSError`.
    """
    known = {lock.stem for lock in folder.glob("*.lock")}
    return [name for name in sorted(known) if DynamicFiles(name, watched, folder).mend()]


def write_beside(new: Path, content: bytes) -> Path:
    """Writes a file that is to be renamed, and has it on the disk before it returns. Raises `OSError`."""
    with new.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return new


def sync_folder(folder: Path) -> None:
    """A rename is on the disk once its folder is. Raises `OSError`."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def is_routing(content: bytes | None) -> bool:
    """Is it a whole file of Greenroom's? Emptied, torn and foreign ones are not."""
    try:
        return content is not None and isinstance(json.loads(content)["http"], dict)
    except (ValueError, KeyError, TypeError):
        return False


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
