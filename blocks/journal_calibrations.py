"""The journal's calibrations: how alike two halves of the live release were. Rows are only ever added, and leave when they say no more."""

import json
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select

from blocks.database import Database
from blocks.documents import from_document, to_document
from blocks.journal_rows import all_rows, one
from blocks.journal_tables import calibrations as table
from delivery.calibration import NEWEST, Calibration
from delivery.noise import Halves


class Calibrations:
    """The part of `SqlJournal` that keeps them."""

    _database: Database

    def add_calibrations(self, calibrations: Sequence[Calibration], *, key: str) -> None:
        """Writes them all or none, at the database's time. Idempotent per key, which is the measurement's own."""

        def write(connection: Connection) -> None:
            if one(connection, select(table.c.number).where(table.c.key == key)):
                return
            now = self._database.now(connection)
            connection.execute(delete(table).where(table.c.at < now - NEWEST))
            for each in calibrations:
                row = {
                    "key": key,
                    "environment": each.environment,
                    "service": each.service,
                    "release_id": each.release,
                    "at": now,
                    "look_seconds": each.look_seconds,
                    "document": json.dumps([to_document(look) for look in each.halves], sort_keys=True),
                }
                connection.execute(insert(table).values(row))

        self._database.write(write)

    def calibrations(self, environment: str, *, newest: timedelta) -> Sequence[Calibration]:
        """Those that are no older than `newest`, the newest first."""

        def read(connection: Connection) -> Sequence[Calibration]:
            since = self._database.now(connection) - newest
            query = select(table).where(table.c.environment == environment, table.c.at >= since).order_by(table.c.number.desc())
            return [
                Calibration(
                    environment=row["environment"],
                    service=row["service"],
                    release=row["release_id"],
                    at=row["at"],
                    look_seconds=row["look_seconds"],
                    halves=tuple(from_document(Halves, each) for each in json.loads(row["document"])),
                )
                for row in all_rows(connection, query)
            ]

        return self._database.read(read)
