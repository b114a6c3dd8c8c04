"""The journal's signed envelopes: kept as they were written, verified by whoever reads them."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from blocks.database import Database
from blocks.journal_rows import one
from blocks.journal_tables import envelopes


class Envelopes:
    """The part of `SqlJournal` that keeps what was signed about releases."""

    _database: Database

    def keep_envelope(self, release_id: str, envelope: bytes) -> None:
        """Idempotent per release and envelope."""
        fingerprint = hashlib.sha256(envelope).hexdigest()

        def write(connection: Connection) -> None:
            same = (envelopes.c.release_id == release_id) & (envelopes.c.fingerprint == fingerprint)
            if one(connection, select(envelopes.c.number).where(same)):
                return
            row = {
                "release_id": release_id,
                "fingerprint": fingerprint,
                "at": self._database.now(connection),
                "document": envelope.decode(),
            }
            connection.execute(insert(envelopes).values(row))

        self._database.write(write)

    def envelopes(self, release_id: str) -> Sequence[bytes]:
        query = select(envelopes.c.document).where(envelopes.c.release_id == release_id).order_by(envelopes.c.number)
        return self._database.read(lambda connection: [text.encode() for text in connection.execute(query).scalars()])
