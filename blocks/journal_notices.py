"""The journal's notices: messages that wait to be sent."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from blocks.database import Database
from blocks.journal_rows import all_rows, told
from blocks.journal_tables import notices


class Notices:
    """The part of `SqlJournal` that keeps notices until somebody has sent them."""

    _database: Database

    def put_notice(self, key: str, text: str, link: str | None) -> None:
        """The same key again replaces the text and marks it unsent again, under a new number: a sender under way marks only the old."""
        self._database.write(lambda connection: put(self._database, connection, key, text, link))

    def unsent_notices(self, limit: int = 50) -> Sequence[tuple[int, str, str, str | None]]:
        """Oldest first: number, key, text, link."""
        query = select(notices).where(notices.c.sent_at.is_(None)).order_by(notices.c.number).limit(limit)
        rows = self._database.read(lambda connection: all_rows(connection, query))
        return [(row["number"], row["key"], row["text"], row["link"]) for row in rows]

    def mark_sent(self, notice: int) -> None:
        """Idempotent; a notice whose text changed since it was read is not touched."""

        def write(connection: Connection) -> None:
            connection.execute(update(notices).where(notices.c.number == notice).values(sent_at=self._database.now(connection)))

        self._database.write(write)


def put(database: Database, connection: Connection, key: str, text: str, link: str | None) -> None:
    now = database.now(connection)
    connection.execute(delete(notices).where(notices.c.key == key))
    connection.execute(insert(notices).values(key=key, text=told(text), link=link, put_at=now))
