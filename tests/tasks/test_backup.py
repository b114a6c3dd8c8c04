# ruff: noqa: ARG002  a double takes what the protocol gives it
"""A backup before migrations: whole, its owner's alone, and known to the journal; or nothing changes at all."""

import hashlib
import json
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from delivery.backup import NOTHING_PENDING, Backup, BackupSettings, Noted
from delivery.environment import Capability, Identity
from delivery.errors import DeliveryError, InvalidSettings
from delivery.journal import Ending
from delivery.plan import StepKind
from delivery.ports import BackingUp, RunResult, Token
from delivery.release import Release
from tasks.backup import keep, try_restoring
from tasks.image_alembic import MARK
from tasks.report import rollout_markdown
from tests.samples import an_environment
from tests.simulated_target import Killed, SimulatedTarget
from tests.tasks.test_rollout import BLUE, GREEN, World

NOTED = Noted(("0001",), {"public.listings": 3})
DUMP = (b"PGDMP and ", b"what follows")


@dataclass
class KeptTarget(SimulatedTarget):
    """Gives `pieces` for a dump, and brings back what `restored` says."""

    capabilities: frozenset[Capability] = frozenset(Capability)
    pieces: Sequence[bytes] = DUMP
    restored: Noted = NOTED
    given: list[bytes] = field(default_factory=list)

    def dump_database(
        self, release: Release, take: Callable[[bytes], object], *, variables: Mapping[str, str], timeout: timedelta, token: Token
    ) -> Noted:
        def pour() -> None:
            for piece in self.pieces:
                take(piece)
                self.spoil("dump", "amid")

        self._do("dump", release, token, pour)
        return NOTED

    def try_dump(self, release: Release, pieces: Iterable[bytes], size: int, *, variables: Mapping[str, str], timeout: timedelta) -> Noted:
        self.given = list(pieces)
        assert size == sum(map(len, self.given))
        self._may_fail("try_dump")
        return self.restored

    def copies_left(self, release: Release, *, variables: Mapping[str, str]) -> Sequence[str]:
        return ()

    def drop_left(self, release: Release, copy: str, *, variables: Mapping[str, str]) -> None:
        raise AssertionError(copy)


_: type[BackingUp] = KeptTarget


class KeptWorld(World):
    @property
    def means(self):  # type: ignore[no-untyped-def]
        return replace(super().means, backups=self.folder / "backups")

    @property
    def backups(self) -> dict[str, bytes]:
        folder = self.folder / "backups"
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def pending(*revisions: str) -> Callable[[Sequence[str]], RunResult | None]:
    told = f"{MARK}{json.dumps({'pending': list(revisions)})}"
    return lambda command: RunResult(0, (told,)) if '"act": "pending"' in command[-1] else None


@pytest.fixture
def world(tmp_path: Path) -> KeptWorld:
    environment = an_environment(environment=Identity("production", target="production", after="staging"))
    return KeptWorld(tmp_path, environment, target=KeptTarget(command=pending("0002")))


def told(world: World) -> str:
    return rollout_markdown(world.store.entries(world.rollouts[-1]), world.store.rollout(world.rollouts[-1]))


def hooked(world: KeptWorld, *hook: str) -> None:
    world.environment = replace(world.environment, backup=BackupSettings(hook=hook))


def test_the_database_is_kept_before_the_migration_begins_and_the_journal_says_what_and_where(world: KeptWorld) -> None:
    assert world.roll_out().ending is Ending.LIVE
    assert world.backups == {"production/production-1.dump": b"".join(DUMP)}
    assert [act.split()[0] for act in world.target.acts][:4] == ["prepare", "run", "dump", "run"]
    found = Backup.of("production-1", world.evidence("backup").evidence.facts)
    assert found is not None
    assert (found.file, found.bytes, found.sha256) == (
        "production/production-1.dump",
        22,
        hashlib.sha256(b"".join(DUMP)).hexdigest(),
    )
    assert (found.revisions, found.rows) == (NOTED.revisions, NOTED.rows)


def test_only_its_owner_may_read_a_backup(world: KeptWorld) -> None:
    world.roll_out()
    file = world.folder / "backups/production/production-1.dump"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (file, file.parent, file.parent.parent)] == [0o600, 0o700, 0o700]


def test_the_report_says_which_backup_belongs_to_the_rollout_and_how_it_comes_back(world: KeptWorld) -> None:
    world.roll_out()
    assert "`backups/production/production-1.dump` in the work directory holds the database" in told(world)
    assert "`createdb restored && pg_restore --dbname=restored --exit-on-error backups/production/production-1.dump`" in told(world)


def test_without_a_pending_revision_nothing_is_kept(world: KeptWorld) -> None:
    world.target.command = pending()
    assert world.roll_out().ending is Ending.LIVE
    assert world.evidence("backup").evidence.summary == NOTHING_PENDING
    assert world.backups == {}


def test_a_backup_that_fails_stops_the_rollout_before_anything_changes(world: KeptWorld) -> None:
    world.target.fail("dump", error=DeliveryError("The disk is full.", next="make room."))
    closed = world.roll_out()
    assert (closed.ending, closed.message) == (
        Ending.UNTOUCHED,
        "Production is unchanged. v1.2.0 was turned back: no backup, no migration: The disk is full.",
    )
    assert world.evidence("backup").evidence.facts == {"next": "make room."}
    assert (world.target.revision, world.backups) == ("0001", {})


def test_what_is_no_dump_is_no_backup(world: KeptWorld) -> None:
    world.target.pieces = (b"pg_dump: error",)
    assert world.roll_out().ending is Ending.UNTOUCHED
    assert world.backups == {}


def test_a_folder_that_cannot_be_written_to_is_told_by_name(world: KeptWorld) -> None:
    (world.folder / "backups").write_text("a file")
    assert "the backup could not be written to" in world.roll_out().message
    assert world.target.revision == "0001"


def test_a_backup_that_was_killed_amid_is_none_and_the_next_rollout_takes_its_own(world: KeptWorld) -> None:
    def die(verb: str, when: str) -> None:
        if (verb, when) == ("dump", "amid"):
            raise Killed

    world.target.spoil = die
    assert world.roll_out_until_killed()
    assert "backup" not in [getattr(entry.event, "evidence", None) and entry.event.step for entry in world.store.entries("production-1")]  # type: ignore[union-attr]
    world.target.spoil = lambda _verb, _when: None
    (closed,) = world.recover()
    assert (closed.ending, world.target.revision) == (Ending.UNTOUCHED, "0001")
    assert world.roll_out().ending is Ending.LIVE
    assert world.backups == {"production/production-2.dump": b"".join(DUMP)}


def test_what_a_power_cut_left_half_written_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "production"
    folder.mkdir()
    (folder / ".production-1.dump.partial").write_bytes(b"PGDMP half")
    (folder / "production-1.dump").write_bytes(b"PGDMP of the attempt before")

    def dump(take: Callable[[bytes], object]) -> Noted:
        for piece in DUMP:
            take(piece)
        return NOTED

    made = keep(tmp_path, "production/production-1.dump", dump, rollout="production-1")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"production-1.dump": b"".join(DUMP)}
    assert made.sha256 == hashlib.sha256(b"".join(DUMP)).hexdigest()


def test_a_cancelled_rollout_ends_its_backup_amid(world: KeptWorld) -> None:
    world.target.spoil = lambda verb, when: world.stop.set() if (verb, when) == ("dump", "amid") else None
    assert world.roll_out().ending is Ending.UNTOUCHED
    assert world.backups == {}


def test_a_hook_takes_the_snapshot_instead_and_its_last_line_names_it(world: KeptWorld) -> None:
    hooked(world, sys.executable, "-c", "import sys; print('made'); print('snap', *sys.argv[1:])", "{environment}; true", "{rollout}")
    assert world.roll_out().ending is Ending.LIVE
    assert world.evidence("backup").evidence.facts["snapshot"] == "snap production; true production-1"
    assert world.backups == {}


def test_a_hook_that_fails_stops_the_rollout(world: KeptWorld) -> None:
    hooked(world, sys.executable, "-c", "import sys; sys.exit('quota exceeded')")
    assert f"no backup, no migration: the hook {sys.executable} ended with 1: quota exceeded" in world.roll_out().message
    assert world.target.revision == "0001"


@pytest.mark.parametrize(
    ("wanted", "after", "able", "planned"),
    [
        (None, "staging", True, True),
        (None, "staging", False, False),
        (None, None, True, False),
        (True, None, True, True),
        (False, "staging", True, False),
    ],
)
def test_where_the_file_is_silent_an_environment_after_another_is_backed_up_if_its_target_can(
    world: KeptWorld, *, wanted: bool | None, after: str | None, able: bool, planned: bool
) -> None:
    identity = Identity("production", target="production", after=after)
    world.environment = replace(world.environment, environment=identity, backup=BackupSettings(before_migrations=wanted))
    world.target.capabilities = frozenset(Capability) - (frozenset() if able else {Capability.BACK_UP})
    assert (StepKind.BACKUP in [step.kind for step in world.plan().forward]) is planned


def test_a_target_that_cannot_is_refused_when_the_rollout_is_planned(world: KeptWorld) -> None:
    world.environment = replace(world.environment, backup=BackupSettings(before_migrations=True))
    world.target.capabilities -= {Capability.BACK_UP}
    with pytest.raises(InvalidSettings, match="its target cannot take one"):
        world.plan()


def test_going_back_takes_no_backup(world: KeptWorld) -> None:
    assert StepKind.BACKUP not in [step.kind for step in world.plan(BLUE if world.blue is GREEN else GREEN, kind="rollback").forward]


# ---- bringing it back


@pytest.fixture
def made(world: KeptWorld) -> Backup:
    world.roll_out()
    found = Backup.of("production-1", world.evidence("backup").evidence.facts)
    assert found is not None
    return found


def test_a_backup_that_brings_everything_back_is_well(world: KeptWorld, made: Backup) -> None:
    tested = tried(world, made)
    assert (tested.well, tested.what) == (True, "production/production-1.dump brings back 1 tables with 3 rows at 0001")
    assert b"".join(world.target.given) == b"".join(DUMP)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("restored", "what"),
    [
        (Noted(("0001",), {"public.listings": 2}), "public.listings has 2 rows and had 3 rows"),
        (Noted(("0001",), {}), "public.listings has no table and had 3 rows"),
        (Noted((), NOTED.rows), "it is at revision none and was at 0001"),
    ],
)
def test_what_comes_back_otherwise_is_named(world: KeptWorld, made: Backup, restored: Noted, what: str) -> None:
    world.target.restored = restored  # type: ignore[attr-defined]
    tested = tried(world, made)
    assert (tested.well, what in tested.what) == (False, True), tested.what


def test_a_backup_that_changed_on_the_disk_is_not_even_restored(world: KeptWorld, made: Backup) -> None:
    file = world.folder / "backups" / made.file
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert "is not what was written" in tried(world, made).what
    assert world.target.given == []  # type: ignore[attr-defined]


def test_a_backup_that_is_gone_or_refused_is_unwell(world: KeptWorld, made: Backup) -> None:
    world.target.fail("try_dump", error=DeliveryError("The dump is broken.", next="take another."))
    assert (tried(world, made).well, tried(world, made).well) == (False, True)
    (world.folder / "backups" / made.file).unlink()
    assert "cannot be read" in tried(world, made).what


def tried(world: KeptWorld, made: Backup):  # type: ignore[no-untyped-def]
    assert isinstance(world.target, KeptTarget)
    return try_restoring(
        made, world.folder / "backups", GREEN, world.target, environment="production", variables={}, timeout=timedelta(seconds=9)
    )
