"""Applies revisions to a database that serves users: waits for locks briefly and often, and believes only what it reads back."""

import contextlib
import hashlib
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from delivery.errors import DeliveryError, TransientError
from delivery.sql import Cursor, Statement, statements
from tasks.clone import as_address, first_line

log = logging.getLogger("greenroom.migrate")

# lock_not_available, deadlock_detected, serialization_failure: nothing was done, and a moment later it may work.
_TRY_AGAIN = ("55P03", "40P01", "40001")
# Of all revisions of all applications on one server: the number tells ours from other users of advisory locks.
_LOCK_SPACE = int.from_bytes(hashlib.sha256(b"greenroom migrations").digest()[:4], "big", signed=True)
_INVALID = """
SELECT i.indexrelid::regclass::text FROM pg_index i
WHERE i.indexrelid = to_regclass(%s) AND NOT (i.indisvalid AND i.indisready)
"""
_BUILT = """
SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indexrelid
WHERE i.indexrelid = to_regclass(%s) AND i.indrelid = to_regclass(%s) AND i.indisvalid GROUP BY i.indexrelid
"""
_HOLDERS = """
SELECT pid, extract(epoch FROM now() - xact_start)::int FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < now() - interval '1 second'
ORDER BY xact_start LIMIT 3
"""


@dataclass(frozen=True)
class Revision:
    """One revision as Alembic renders it offline, its note in `alembic_version` included."""

    identity: str
    sql: str


@dataclass(frozen=True)
class MigrationLimits:
    """`lock_timeout` is the longest that the application waits behind a migration that waits; it drains in the `pause` between tries."""

    lock_timeout: timedelta = timedelta(milliseconds=100)
    pause: timedelta = timedelta(milliseconds=400)
    statement_timeout: timedelta = timedelta(seconds=30)
    deadline: timedelta = timedelta(minutes=10)


@dataclass(frozen=True)
class Migrated:
    """`applied` are the revisions that this call applied: none when another had done so. `tries` counts transactions, failed ones too."""

    revision: str
    applied: tuple[str, ...]
    tries: int
    seconds: float


def migrate(
    url: SecretStr, revisions: Sequence[Revision], *, limits: MigrationLimits | None = None, pause: Callable[[float], None] = time.sleep
) -> Migrated:
    """Brings the database to the last of `revisions`, given in their order; those that it has already are left out.

    Any number of callers may try at once: one applies, the others wait and find it done. Raises `DeliveryError` at the deadline, naming
    who holds the lock, and for whatever PostgreSQL refuses; nothing of the transaction under way stays then. A connection that is lost
    is made again, and what was done is read from the database. Raises `TransientError` when that stays away until the deadline.
    """
    if not revisions:
        raise DeliveryError("There is no revision to apply.", next="pass the pending revisions in their order.")
    runner = _Runner(as_address(url), limits or MigrationLimits(), pause)
    began = time.monotonic()
    applied = runner.run(revisions)
    return Migrated(revisions[-1].identity, applied, runner.tries, time.monotonic() - began)


class _Runner:
    def __init__(self, address: str, limits: MigrationLimits, pause: Callable[[float], None]) -> None:
        self._address = address
        self._limits = limits
        self._pause = pause
        self._end = time.monotonic() + limits.deadline.total_seconds()
        self.tries = 0
        self._applied: list[str] = []
        # Of this call: a unit that is known to be committed is not done again after the connection was lost.
        self._done: set[tuple[str, int]] = set()

    def run(self, revisions: Sequence[Revision]) -> tuple[str, ...]:
        while True:
            try:
                self._run(revisions)
            except psycopg.OperationalError as error:
                # The connection broke, perhaps at a COMMIT: only the database knows what was done, and it is asked anew.
                if self._left() <= 0:
                    raise TransientError(
                        f"The application's database went away and did not come back in time ({type(error).__name__}).",
                        next="call again once it answers: what was done is noted in the database.",
                    ) from None
                log.warning("the connection was lost; what was done is read from the database")
                self._rest()
            else:
                break
        # A new connection: what was read in the old one may never have been committed.
        with _connected(self._address) as session:
            arrived = _read_revision(session)
        if arrived != revisions[-1].identity:
            raise DeliveryError(
                f"After the migration the database is at revision {arrived or 'none'}, expected {revisions[-1].identity}.",
                next="look who else migrates this database, and whether the revision notes itself in alembic_version.",
            )
        return tuple(self._applied)

    def _run(self, revisions: Sequence[Revision]) -> None:
        with _connected(self._address) as session, self._alone(session):
            for revision in _pending(_read_revision(session), revisions):
                log.info("revision %s begins", revision.identity)
                for number, unit in enumerate(_units(revision.sql)):
                    if (revision.identity, number) not in self._done:
                        self._apply(session, revision, unit)
                        self._done.add((revision.identity, number))
                self._applied.append(revision.identity)

    @contextlib.contextmanager
    def _alone(self, session: psycopg.Connection[Any]) -> Iterator[None]:
        """By an advisory lock of the database. Asked for again and again: who waits inside PostgreSQL holds up concurrent index builds."""
        while True:
            row = session.execute("SELECT pg_try_advisory_lock(%s, hashtext(current_database()))", [_LOCK_SPACE]).fetchone()
            if row and row[0]:
                break
            if self._left() <= 0:
                raise DeliveryError(
                    "Another process migrates this database and is not done.", next="wait for it, or look what holds it up."
                )
            self._rest()
        try:
            yield
        finally:
            with contextlib.suppress(psycopg.Error):
                session.execute("SELECT pg_advisory_unlock(%s, hashtext(current_database()))", [_LOCK_SPACE])

    def _apply(self, session: psycopg.Connection[Any], revision: Revision, unit: Sequence[Statement]) -> None:
        while True:
            self.tries += 1
            try:
                self._try(session, unit)
            except psycopg.Error as error:
                if session.closed:
                    raise
                session.execute("ROLLBACK")
                if index := _index_built_by(unit):
                    index.drop_if_invalid(session)
                self._go_on_or_raise(session, revision, error)
            else:
                return

    def _try(self, session: psycopg.Connection[Any], unit: Sequence[Statement]) -> None:
        online = any("concurrently" in statement.words or "validate" in statement.words for statement in unit)
        # Set anew for each try, since the migration may have changed them. What is online makes nobody wait and may take its time.
        left = max(0, round(1000 * self._left()))
        brief, longest = (round(1000 * limit.total_seconds()) for limit in (self._limits.lock_timeout, self._limits.statement_timeout))
        settings = {
            # The lock's limit comes first, so that the last try says what it waited for.
            "lock_timeout": max(brief, left) if online else brief,
            "statement_timeout": brief + max(brief, left) if online else max(2 * brief, min(left, longest)),
            "idle_in_transaction_session_timeout": longest,
        }
        for name, milliseconds in settings.items():
            session.execute("SELECT set_config(%s, %s, false)", [name, f"{milliseconds}ms"])
        if index := _index_built_by(unit):
            index.drop_if_invalid(session)
            if index.is_there(session):
                return  # the connection was lost after it had been built
        alone = len(unit) == 1
        if not alone:
            session.execute("BEGIN")
        for statement in unit:
            session.execute(statement.sql.encode())
        if not alone:
            session.execute("COMMIT")

    def _go_on_or_raise(self, session: psycopg.Connection[Any], revision: Revision, error: psycopg.Error) -> None:
        if error.sqlstate not in _TRY_AGAIN:
            raise DeliveryError(
                f"Revision {revision.identity} fails: {first_line(error)} (SQLSTATE {error.sqlstate}). Its transaction was taken back.",
                next="correct the revision; the live version is not affected.",
            ) from None
        if self._left() <= 0:
            held = session.execute(_HOLDERS).fetchall()
            who = ", ".join(f"process {pid} in a transaction for {age} s" for pid, age in held) or "sessions that come and go"
            raise DeliveryError(
                f"Revision {revision.identity} got no lock in {self._limits.deadline.total_seconds():.0f} s and {self.tries} tries: {who}.",
                next="end that transaction, or try in a quieter hour. Nothing was changed.",
            ) from None
        log.info("revision %s: %s; try %d, again in a moment", revision.identity, first_line(error), self.tries)
        self._rest()

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _rest(self) -> None:
        """By chance between half and one and a half times the pause, so that many who wait do not come back together."""
        self._pause(min(self._limits.pause.total_seconds() * random.uniform(0.5, 1.5), max(0.0, self._left())))  # noqa: S311  no secret


@contextlib.contextmanager
def _connected(address: str) -> Iterator[psycopg.Connection[Any]]:
    session: psycopg.Connection[Any] = psycopg.connect(address, autocommit=True, application_name="greenroom-migrate")
    try:
        yield session
    finally:
        session.close()


def _read_revision(session: psycopg.Connection[Any]) -> str | None:
    """None for a database that no revision was applied to."""
    there = session.execute("SELECT to_regclass('alembic_version')").fetchone()
    if not there or there[0] is None:
        return None
    noted = [str(name) for (name,) in session.execute("SELECT version_num FROM alembic_version").fetchall()]
    if len(noted) > 1:
        raise DeliveryError(
            f"The database notes several revisions at once: {', '.join(sorted(noted))}.", next="merge the heads (alembic merge)."
        )
    return noted[0] if noted else None


def _pending(present: str | None, revisions: Sequence[Revision]) -> Sequence[Revision]:
    names = [revision.identity for revision in revisions]
    return revisions[names.index(present) + 1 :] if present in names else revisions


def _units(text: str) -> Iterator[tuple[Statement, ...]]:
    """The transactions of a revision, without their BEGIN and COMMIT; a statement outside one is a unit of its own."""
    inside: list[Statement] | None = None
    for statement in statements(text):
        first = statement.words[0] if statement.words else ""
        if first in ("begin", "start"):
            inside = []
        elif first in ("commit", "end"):
            if inside:
                yield tuple(inside)
            inside = None
        elif inside is not None:
            inside.append(statement)
        else:
            yield (statement,)
    if inside:
        yield tuple(inside)


@dataclass(frozen=True)
class _Index:
    """One that is built online: outside a transaction, so that a failure leaves half of it."""

    name: str
    table: str
    columns: tuple[str, ...]

    def is_there(self, session: psycopg.Connection[Any]) -> bool:
        """Whole, and of the same columns of the same table."""
        row = session.execute(_BUILT, [self.name, self.table]).fetchone()
        return row is not None and tuple(row[0]) == self.columns

    def drop_if_invalid(self, session: psycopg.Connection[Any]) -> None:
        """What a failed build leaves costs every write and serves no read, and IF NOT EXISTS would take it for the real one."""
        for (invalid,) in session.execute(_INVALID, [self.name]).fetchall():
            log.info("the index %s was not finished and is dropped", invalid)
            session.execute(b"DROP INDEX CONCURRENTLY IF EXISTS " + str(invalid).encode())


def _index_built_by(unit: Sequence[Statement]) -> _Index | None:
    cursor = Cursor(unit[0].tokens)
    cursor.take("create")
    cursor.take("unique")
    if not cursor.take("index", "concurrently"):
        return None
    cursor.take("if", "not", "exists")
    name = cursor.name() if cursor.peek() != "on" else ""
    cursor.take("on")
    cursor.take("only")
    table = cursor.name()
    if cursor.take("using"):
        cursor.skip()
    columns = tuple(part.name() for part in Cursor(cursor.parentheses()).parts())
    # An index lies in its table's schema, whatever the search path.
    schema = table.rpartition(".")[0]
    return _Index(_quoted(f"{schema}.{name}" if schema else name), _quoted(table), columns) if name else None


def _quoted(name: str) -> str:
    return sql.Identifier(*name.split(".")).as_string()
