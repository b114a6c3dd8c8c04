"""A sign of life in the work directory, so that `greenroom doctor` and whoever starts a steward can tell whether one looks."""

import hashlib
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from blocks.settings import Settings

# After this silence nobody should count on it: a look waits for a lost database for as long as ten seconds.
SILENT_SECONDS = 30.0


@dataclass(frozen=True)
class Heartbeat:
    """Who looked last, and how many seconds ago by this machine's clock."""

    who: str
    seconds_ago: float

    @property
    def is_fresh(self) -> bool:
        return self.seconds_ago < SILENT_SECONDS


def beat(installation: Settings) -> None:
    """A steward has just looked into the journal. A folder that cannot be written costs the sign, not the steward: raises `OSError`."""
    file = heartbeat_file(installation)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}.new")
    fresh.write_text(json.dumps({"who": f"{socket.gethostname()}:{os.getpid()}"}), encoding="utf-8")
    fresh.replace(file)


def last_beat(installation: Settings) -> Heartbeat | None:
    """The newest sign of life on this machine; None when there has never been one."""
    file = heartbeat_file(installation)
    try:
        who, at = str(json.loads(file.read_text(encoding="utf-8"))["who"]), file.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Heartbeat(who, max(0.0, time.time() - at))


def heartbeat_file(installation: Settings) -> Path:
    """One per journal, since installations may share a work directory. Its name holds nothing of the database's user and password."""
    address = urlsplit(installation.database_url.get_secret_value())
    journal = f"{address.hostname or ''}:{address.port or ''}{address.path}"
    return installation.work_dir / f"steward-{hashlib.sha256(journal.encode()).hexdigest()[:12]}.json"
