"""A copy of a database as it was before a release changed it, and whether it was shown that it brings everything back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime

from delivery.application import STRICT

NOTHING_PENDING = "no revision is pending: nothing needs a backup"
_NAMED = 3


@dataclass(frozen=True)
class BackupSettings:
    """Before migrations touch the database a backup is taken, if `before_migrations` says so; where the file is silent, in an environment
    that comes after another, and whose target can. A `hook` (a program and its arguments, never a shell) takes it instead: a snapshot by
    the platform; `{environment}`, `{release}` and `{rollout}` are filled in, and its last line is kept as the snapshot's name.
    """

    __pydantic_config__ = STRICT

    before_migrations: bool | None = None
    hook: tuple[str, ...] = ()

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        if self.hook and not self.hook[0].strip():
            return ("backup.hook: got no program, expected one and its arguments",)
        if self.hook and self.before_migrations is False:
            return ("backup.before_migrations: got false beside backup.hook, expected one of the two",)
        return ()


@dataclass(frozen=True)
class Noted:
    """What a database held at the very moment that its dump shows: the revisions it was at, and how many rows each table had."""

    revisions: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Backup:
    """One finished dump. `file` is relative to the folder of backups; `seconds` is how long it took."""

    rollout: str
    file: str
    bytes: int
    sha256: str
    seconds: float
    revisions: tuple[str, ...]
    rows: Mapping[str, int]

    @classmethod
    def of(cls, rollout: str, facts: Mapping[str, object]) -> "Backup | None":
        """The backup that a step's facts tell of; None where the step made no file."""
        told = facts.get("backup")
        if not isinstance(told, Mapping) or "file" not in told:
            return None
        return cls(
            rollout=rollout,
            file=str(told["file"]),
            bytes=int(told["bytes"]),
            sha256=str(told["sha256"]),
            seconds=float(told["seconds"]),
            revisions=tuple(map(str, told["revisions"])),
            rows={str(table): int(count) for table, count in told["rows"].items()},
        )

    def facts(self) -> dict[str, object]:
        """For the step's evidence."""
        told = asdict(self)
        del told["rollout"]
        return {"backup": {**told, "revisions": list(self.revisions)}}

    def differences(self, found: Noted) -> tuple[str, ...]:
        """What a database that was restored from it lacks or has too much, as sentences; empty when it is the same."""
        told = []
        if sorted(self.revisions) != sorted(found.revisions):
            was, now = (", ".join(sorted(each)) or "none" for each in (self.revisions, found.revisions))
            told.append(f"it is at revision {now} and was at {was}")
        for table in sorted(self.rows.keys() | found.rows.keys()):
            before, after = self.rows.get(table), found.rows.get(table)
            if before != after:
                was, now = ("no table" if count is None else f"{count:,} rows" for count in (before, after))
                told.append(f"{table} has {now} and had {was}")
        return tuple(told)


@dataclass(frozen=True)
class RestoreTest:
    """One attempt at bringing a rollout's backup back, beside the database it was taken from."""

    environment: str
    rollout: str
    sha256: str
    at: datetime
    well: bool
    seconds: float
    what: str


def found_wrong(differences: tuple[str, ...]) -> str:
    """The first few, for people."""
    more = len(differences) - _NAMED
    return "; ".join(differences[:_NAMED]) + (f" (and {more} more)" if more > 0 else "")
