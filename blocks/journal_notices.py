"""The journal's notices: messages that wait to be sent, who sends them, and where people see them."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select, update

from blocks.database import Database
from blocks.journal_rows import all_rows, one, told
from blocks.journal_tables import notice_places, notices, outboxes
from delivery.notices import PASSING, environment_of, message_of, pause_after


class Notices:
    """The part of `SqlJournal` that keeps notices until somebody has sent them."""

    _database: Database

    def put_notice(self, key: str, text: str, link: str | None, *, once: bool = False) -> None:
        """The same key again replaces the text and marks it unsent again, under a new number: a sender under way marks only the old.
        With `once` the same key again changes nothing.
        """

        def write(connection: Connection) -> None:
            self._database.alone(connection, key)  # whoever comes at the same moment would find none either
            if once and one(connection, select(notices.c.number).where(notices.c.key == key)):
                return
            put(self._database, connection, key, text, link)

        self._database.write(write)

    def put_together(self, *put_now: tuple[str, str, str | None]) -> bool:
        """Puts all of these notices (key, text, link), all or nothing; False, and nothing is written, when the first one's key is known."""

        def write(connection: Connection) -> bool:
            self._database.alone(connection, put_now[0][0])
            if one(connection, select(notices.c.number).where(notices.c.key == put_now[0][0])):
                return False
            for key, text, link in put_now:
                put(self._database, connection, key, text, link)
            return True

        return self._database.write(write)

    def known_notices(self, keys: Sequence[str]) -> frozenset[str]:
        """Which of these keys have a notice, sent or not."""
        query = select(notices.c.key).where(notices.c.key.in_(keys))
        return frozenset(row["key"] for row in self._database.read(lambda connection: all_rows(connection, query)))

    def unsent_notices(self, limit: int = 50, *, environment: str | None = None) -> Sequence[tuple[int, str, str, str | None]]:
        """Number, key, text, link; messages before the details in their threads, else the oldest first."""
        query = select(notices).where(notices.c.sent_at.is_(None))
        if environment is not None:
            query = query.where(notices.c.key.startswith(f"{environment}/", autoescape=True))
        query = query.order_by(notices.c.key.contains("#"), notices.c.number).limit(limit)
        rows = self._database.read(lambda connection: all_rows(connection, query))
        return [(row["number"], row["key"], row["text"], row["link"]) for row in rows]

    def mark_sent(self, notice: int) -> None:
        """Idempotent; a notice whose text changed since it was read is not touched."""

        def write(connection: Connection) -> None:
            connection.execute(update(notices).where(notices.c.number == notice).values(sent_at=self._database.now(connection)))

        self._database.write(write)

    def outboxes(self) -> Sequence[str]:
        """The environments that have unsent notices."""
        query = select(notices.c.key).where(notices.c.sent_at.is_(None))
        rows = self._database.read(lambda connection: all_rows(connection, query))
        return sorted({environment_of(row["key"]) for row in rows})

    def take_outbox(self, environment: str, *, holder: str, ttl: timedelta) -> bool:
        """The right to send an environment's notices, also renewed so. False: somebody else sends, or it is too early to try again."""

        def write(connection: Connection) -> bool:
            now = self._database.now(connection)
            mine = outboxes.c.environment == environment
            found = one(connection, select(outboxes).where(mine).with_for_update())
            if found is None:
                row = {"environment": environment, "holder": holder, "until": now + ttl, "failures": 0}
                connection.execute(insert(outboxes).values(row))
                return True
            if found["until"] > now and found["holder"] != holder:
                return False
            connection.execute(update(outboxes).where(mine).values(holder=holder, until=now + ttl))
            return True

        return self._database.write(write)

    def leave_outbox(self, environment: str, *, holder: str, failed: bool = False, pause: timedelta = timedelta()) -> None:
        """Idempotent. After a failure nobody may take it for `pause`, nor for a time that grows with failures in a row."""

        def write(connection: Connection) -> None:
            mine = (outboxes.c.environment == environment) & (outboxes.c.holder == holder)
            if (found := one(connection, select(outboxes).where(mine).with_for_update())) is None:
                return
            failures = found["failures"] + 1 if failed else 0
            wait = max(pause, pause_after(failures)) if failed else timedelta()
            values = {"holder": "", "until": self._database.now(connection) + wait, "failures": failures}
            connection.execute(update(outboxes).where(mine).values(values))

        self._database.write(write)

    def place_of(self, key: str) -> str | None:
        query = select(notice_places.c.place).where(notice_places.c.key == key)
        found = self._database.read(lambda connection: one(connection, query))
        return found["place"] if found else None

    def keep_place(self, key: str, place: str) -> None:
        def write(connection: Connection) -> None:
            connection.execute(delete(notice_places).where(notice_places.c.key == key))
            row = {"key": key, "place": place, "at": self._database.now(connection)}
            connection.execute(insert(notice_places).values(row))

        self._database.write(write)


def put(database: Database, connection: Connection, key: str, text: str, link: str | None) -> None:
    now = database.now(connection)
    # What passes is overtaken by what stays: an end is never followed by a step.
    overtaken = [key] if "#" in key else [key, f"{message_of(key)}{PASSING}"]
    connection.execute(delete(notices).where(notices.c.key.in_(overtaken)))
    connection.execute(insert(notices).values(key=key, text=told(text), link=link, put_at=now))
