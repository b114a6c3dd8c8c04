"""The journal in SQL: releases, leases with fencing tokens, rollouts with their hash-chained entries, requests, notices,
verifications and holds, incidents, calibrations, signed envelopes, restore tests.

Each of them has a room of its own (`journal_releases` and so on); here is the database they share, and how it gets its tables.
Every public method is one transaction, safe to call from several threads and processes at once.
"""

import threading
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Connection, func, inspect, select, text

from blocks.database import Database
from blocks.journal_backups import RestoreTests
from blocks.journal_calibrations import Calibrations
from blocks.journal_envelopes import Envelopes
from blocks.journal_incidents import Incidents
from blocks.journal_leases import Leases
from blocks.journal_notices import Notices
from blocks.journal_releases import Releases
from blocks.journal_requests import Requests
from blocks.journal_rollouts import Rollouts
from blocks.journal_stories import Stories
from blocks.journal_verifications import Verifications
from delivery.errors import DeliveryError, InvalidSettings
from delivery.ports import JournalStore

MIGRATIONS = Path(__file__).parent / "journal_migrations"
VERSION_TABLE = "greenroom_journal_version"
HEAD = "outboxes"
_LOCK_NUMBER = 0x6772_6F6F  # "groo": what PostgreSQL's advisory lock is known by while the tables are being made
_ALEMBIC = threading.Lock()  # Alembic keeps its context in a global


class SqlJournal(Releases, Leases, Rollouts, Requests, Notices, Verifications, Incidents, Stories, Calibrations, Envelopes, RestoreTests):
    """The journal database behind `url` (`sqlite:///…` or `postgresql://…`). Call `migrate` once before anything else."""

    def __init__(self, url: SecretStr | str) -> None:
        self._database = Database(url)

    def migrate(self) -> None:
        """Brings the tables to the present revision; quick when they are, and safe when several processes start at once."""
        database = self._database
        if database.is_sqlite and (file := database.engine.url.database):
            _make_folder(Path(file).parent)
        with _ALEMBIC:
            if database.read(_revision) == HEAD:
                return
            if database.is_sqlite:
                # Readers and one writer beside each other; kept in the file, and not changeable inside a transaction.
                database.outside_transactions("PRAGMA journal_mode=WAL")
            database.write(self._upgrade)

    def _upgrade(self, connection: Connection) -> None:
        if not self._database.is_sqlite:  # on SQLite the write lock is held already
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK_NUMBER)))
        found = _revision(connection)
        if found == HEAD:
            return
        from alembic import command  # noqa: PLC0415  a third of a second that a migrated database need not pay
        from alembic.config import Config  # noqa: PLC0415
        from alembic.util import CommandError  # noqa: PLC0415

        settings = Config()
        settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        settings.set_main_option("path_separator", "os")
        settings.attributes["connection"] = connection
        try:
            command.upgrade(settings, "head")
        except CommandError:
            raise DeliveryError(
                f"The journal's database is at revision {found!r}, which this Greenroom does not know.",
                next="use the newer version of Greenroom that migrated it.",
            ) from None

    def close(self) -> None:
        self._database.close()

    def now(self) -> datetime:
        return self._database.read(self._database.now)


_: type[JournalStore] = SqlJournal


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as broken:
        raise InvalidSettings(
            f"The journal's folder {folder} cannot be made ({type(broken).__name__}).", next="set GREENROOM_WORK_DIR to one that can."
        ) from None


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608  a constant
    return found
