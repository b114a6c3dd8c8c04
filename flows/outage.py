"""What a steward remembers of a journal that does not answer: the one thing about alerts that cannot stand in the journal."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.settings import Settings
from delivery.ports import Places
from flows.heartbeat import heartbeat_file

# A database that is restarted is nobody's alert.
PATIENCE = timedelta(seconds=60)


class Outage:
    """A file in the work directory, one per journal, while the journal is away: since when, who was told, and where they see it."""

    def __init__(self, installation: Settings) -> None:
        beat = heartbeat_file(installation)
        self._file = beat.with_name(beat.name.replace("steward-", "journal-away-"))

    def begin(self, now: datetime) -> None:
        """Idempotent: the first time counts. A folder that cannot be written raises `OSError`."""
        if self.since is None:
            self._write({"since": now.isoformat(), "told": [], "places": {}})

    @property
    def since(self) -> datetime | None:
        """None: it is not away, as far as anybody here has noticed."""
        known = self._read()
        return datetime.fromisoformat(known["since"]) if known else None

    @property
    def told(self) -> frozenset[str]:
        """The environments whose people know."""
        return frozenset(self._read().get("told", ()))

    def note(self, environment: str) -> None:
        known = self._read()
        self._write({**known, "told": sorted({*known["told"], environment})})

    @property
    def places(self) -> Mapping[str, str]:
        return dict(self._read().get("places", {}))

    def place_of(self, key: str) -> str | None:
        return self.places.get(key)

    def keep_place(self, key: str, place: str) -> None:
        known = self._read()
        self._write({**known, "places": {**known["places"], key: place}})

    def forget(self) -> None:
        """Idempotent."""
        self._file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        """A file that cannot be read, or is no such file, is none: at worst people are told twice."""
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
            sound = datetime.fromisoformat(known["since"]).tzinfo is not None and isinstance(known["told"], list)
            return known if sound and isinstance(known["places"], dict) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write(self, known: Mapping[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(known), encoding="utf-8")
        fresh.replace(self._file)


_: type[Places] = Outage


def machine_clock() -> datetime:
    """The journal's own clock is what is away."""
    return datetime.now(UTC)
