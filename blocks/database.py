"""The journal's database connection: SQLite or PostgreSQL, one behaviour. Foreign errors become ours here, without URL or password."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from psycopg import OperationalError as ServerGone
from pydantic import SecretStr
from sqlalchemy import URL, Connection, DateTime, Dialect, Engine, create_engine, event, func, make_url, select
from sqlalchemy import exc as sql
from sqlalchemy.types import TypeDecorator
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from delivery.errors import DeliveryError, InvalidSettings, TransientError

log = logging.getLogger("greenroom.journal")

T = TypeVar("T")

# Longer than a PostgreSQL server needs to start anew, as long as a lease lives.
PATIENCE_SECONDS = 15.0
_LOCKED = frozenset({"55P03", "40P01", "40001"})  # lock timeout, deadlock, serialization failure
_EXPECTED_URL = "expected sqlite:///<path> or postgresql://user:password@host/database"


class UtcTime(TypeDecorator[datetime]):
    """Aware UTC both ways; SQLite keeps it as text without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise DeliveryError(f"A time without a zone reached the journal: {value}.", next="pass an aware time.")
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Database:
    """Transactions that are tried again while another writer holds a lock or a connection is lost, for a quarter of a minute.

    `write` runs its function anew for each try, so the function must be safe to repeat even when the commit before was lost on its way
    back: it looks first whether what it wants is already there. On SQLite a write takes the write lock at its beginning.
    """

    def __init__(self, url: SecretStr | str) -> None:
        self.engine = _engine(url)
        self._writing = self.engine.execution_options(greenroom_writes=True)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def read(self, act: Callable[[Connection], T]) -> T:
        return self._patiently(self.engine, act)

    def write(self, act: Callable[[Connection], T], *, patience_seconds: float | None = None) -> T:
        """With less patience than usual for what somebody waits to act upon."""
        return self._patiently(self._writing, act, patience_seconds)

    def now(self, connection: Connection) -> datetime:
        """The database's clock, the only one that counts; it moves on within a transaction."""
        if self.is_sqlite:
            text: str = connection.execute(select(func.strftime("%Y-%m-%d %H:%M:%f", "now"))).scalar_one()
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)

    def alone(self, connection: Connection, what: str) -> None:
        """Until the transaction ends nobody else gets past here for the same text. SQLite lets in one writer anyway."""
        if not self.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(what, 0))))

    def outside_transactions(self, statement: str) -> None:
        """For the few statements that a transaction cannot hold."""

        def run() -> None:
            with translated(), closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute(statement)

        _retrying()(run)

    def close(self) -> None:
        self.engine.dispose()

    def _patiently(self, engine: Engine, act: Callable[[Connection], T], seconds: float | None = None) -> T:
        def once() -> T:
            with translated(), engine.begin() as connection:
                return act(connection)

        return _retrying(seconds)(once)


def _retrying(seconds: float | None = None) -> Retrying:
    return Retrying(
        stop=stop_after_delay(PATIENCE_SECONDS if seconds is None else seconds),
        wait=wait_exponential_jitter(initial=0.02, max=1.0, jitter=0.05),
        retry=retry_if_exception_type(TransientError),
        before_sleep=_say_so,
        reraise=True,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Foreign errors as ours. Their own texts may hold a URL, a host or a statement with values; ours hold the kind of error only."""
    try:
        yield
    except sql.IntegrityError:
        raise TransientError("Two writers met in the journal.", next="try again.") from None
    except sql.TimeoutError:
        raise TransientError("All connections to the journal are in use.", next="try again.") from None
    except sql.DBAPIError as broken:
        raise _ours(broken.orig, lost=broken.connection_invalidated) from None
    except (sqlite3.Error, ServerGone) as broken:  # from a raw connection
        raise _ours(broken, lost=False) from None


def _ours(cause: BaseException | None, *, lost: bool) -> DeliveryError:
    if isinstance(cause, sqlite3.Error):
        kind = getattr(cause, "sqlite_errorname", type(cause).__name__)
        if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return TransientError(f"The journal's database is locked by another writer ({kind}).", next="try again.")
        is_unmigrated = "no such table" in str(cause)
        advice = "see that the file's folder exists, is writable and has room."
    else:
        kind = getattr(cause, "sqlstate", None) or type(cause).__name__
        is_unmigrated = kind == "42P01"
        if kind in _LOCKED:
            return TransientError(f"The journal's database is locked by another writer ({kind}).", next="try again.")
        refused = any(words in str(cause) for words in ("authentication failed", "does not exist", "no pg_hba.conf entry"))
        if not is_unmigrated and not refused and (isinstance(cause, ServerGone) or lost):
            return TransientError(f"The journal's database does not answer ({kind}).", next="see that PostgreSQL runs and is reachable.")
        advice = "see that GREENROOM_DATABASE_URL names a database, a user and a password that PostgreSQL accepts."
    if is_unmigrated:
        return DeliveryError("The journal's database has no tables yet.", next="call `migrate` first; every command of greenroom does.")
    return DeliveryError(f"The journal's database refuses ({kind}).", next=advice)


def _say_so(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if state.attempt_number > 1:  # the first wait is milliseconds and of no interest
        log.warning("%s Attempt %d follows.", error, state.attempt_number + 1)


def _engine(url: SecretStr | str) -> Engine:
    parsed = _parsed(url.get_secret_value() if isinstance(url, SecretStr) else url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, hide_parameters=True, connect_args={"timeout": 2.0})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # A process that freezes, or whose network is gone, inside a transaction holds a lock that the next holder of the lease waits for: the
    # server ends it well within our patience. Our transactions take milliseconds.
    limits = "-c lock_timeout=4000 -c statement_timeout=8000 -c idle_in_transaction_session_timeout=5000"
    given = parsed.query.get("options", "")
    options = {
        "connect_timeout": 3,
        "tcp_user_timeout": 5000,
        "application_name": "greenroom",
        "options": f"{limits} {given}".strip(),
    }
    return create_engine(parsed, hide_parameters=True, pool_pre_ping=True, connect_args=options)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (sql.ArgumentError, ValueError):
        raise InvalidSettings(f"The journal's database URL cannot be read; {_EXPECTED_URL}.", next="correct the URL.") from None
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed
    raise InvalidSettings(
        f"The journal cannot use this database: got {parsed.drivername!r}, {_EXPECTED_URL}.", next="correct GREENROOM_DATABASE_URL."
    )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver begins transactions late and behind one's back; `_begin_sqlite` does it in the open.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    # A journal that is written ahead must be on the disk before the act: no synchronous=NORMAL, which WAL would allow.
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("greenroom_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
