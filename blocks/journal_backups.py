"""The journal's restore tests: whether backups bring everything back. Rows are only ever added."""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from blocks.database import Database
from blocks.journal_rows import all_rows, one
from blocks.journal_tables import restore_tests as table
from delivery.backup import RestoreTest


class RestoreTests:
    """The part of `SqlJournal` that keeps them."""

    _database: Database

    def add_restore_test(self, test: RestoreTest, *, key: str) -> None:
        """Writes it, at the database's time. Idempotent per key."""

        def write(connection: Connection) -> None:
            if one(connection, select(table.c.number).where(table.c.key == key)):
                return
            row = {
                "key": key,
                "environment": test.environment,
                "rollout_id": test.rollout,
                "sha256": test.sha256,
                "at": self._database.now(connection),
                "well": test.well,
                "seconds": test.seconds,
                "what": test.what,
            }
            connection.execute(insert(table).values(row))

        self._database.write(write)

    def restore_tests(self, environment: str) -> Sequence[RestoreTest]:
        """The newest first."""

        def read(connection: Connection) -> Sequence[RestoreTest]:
            query = select(table).where(table.c.environment == environment).order_by(table.c.number.desc()).limit(1000)
            return [
                RestoreTest(
                    environment=row["environment"],
                    rollout=row["rollout_id"],
                    sha256=row["sha256"],
                    at=row["at"],
                    well=row["well"],
                    seconds=row["seconds"],
                    what=row["what"],
                )
                for row in all_rows(connection, query)
            ]

        return self._database.read(read)
