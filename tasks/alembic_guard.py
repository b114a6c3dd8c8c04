"""Beside Alembic inside the application's image: short waits for locks, one migration at a time, nothing left half-built.

SQLAlchemy's events are the one place that every driver passes. PGOPTIONS reaches the drivers on libpq alone: asyncpg does not read it.
Sent as text (`tasks/image_alembic.py`); the application's own SQLAlchemy (1.4 or newer) and Python (3.9 or newer) run it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

# lock_not_available, deadlock_detected, serialization_failure: nothing was done, and a moment later it may work.
TRY_AGAIN = ("55P03", "40P01", "40001")
# Of all migrations on one server: the number tells ours from other users of advisory locks.
_LOCK_SPACE = int.from_bytes(hashlib.sha256(b"greenroom migrations").digest()[:4], "big", signed=True)
_ONLINE = re.compile(r"\bconcurrently\b|\bvalidate\s+constraint\b", re.IGNORECASE)
_SETS = re.compile(r"\b(?:lock_timeout|statement_timeout|idle_in_transaction_session_timeout)\b|\breset\s+all\b|\bdiscard\b", re.IGNORECASE)
_READS = re.compile(r"\s*(?:select|show|with|table|values)\b", re.IGNORECASE)
_NAME = r'(?:"[^"]+"|\w+)(?:\.(?:"[^"]+"|\w+))?'
_BUILD = re.compile(
    rf"\s*create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?(?P<name>{_NAME})\s+on\s+(?:only\s+)?(?P<table>{_NAME})"
    r"\s*(?:using\s+\w+\s*)?\((?P<columns>[^)]*)\)",
    re.IGNORECASE,
)
_BUILT = """
SELECT i.indisvalid AND i.indisready, string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indexrelid WHERE i.indexrelid = to_regclass('{name}') AND i.indrelid = to_regclass('{table}')
GROUP BY i.indisvalid, i.indisready
"""


class Late(Exception):  # noqa: N818  reads as the sentence it is
    """The deadline has passed."""


class HalfDone(Exception):  # noqa: N818
    """A revision was committed in part and does not do the same again, so that it cannot be taken up."""


def sqlstate_of(error: BaseException | None) -> str:
    """PostgreSQL's code of an error, whichever driver and however deep; empty for what has none."""
    while error is not None:
        for holder in (error, getattr(error, "orig", None)):
            code = getattr(holder, "sqlstate", None) or getattr(holder, "pgcode", None)
            if isinstance(code, str):
                return code
            told = (getattr(holder, "args", None) or [None])[0]
            if isinstance(told, dict) and isinstance(told.get("C"), str):  # pg8000
                return str(told["C"])
        error = error.__cause__ or error.__context__
    return ""


class Guard:
    """Durations in seconds. `lock_timeout` is the longest that the application waits behind a migration that waits; it drains in the
    `pause` between tries.
    """

    def __init__(self, *, lock_timeout: float, statement_timeout: float, pause: float, deadline: float) -> None:
        self._brief, self._longest, self._pause = lock_timeout, statement_timeout, pause
        self._end = time.monotonic() + deadline
        self.watcher: Any = None
        self._only: Any = None
        self._settled: dict[int, bool] = {}
        # Of the present revision, in their order: what is committed, and what the open transaction did.
        self._committed: list[str] = []
        self._open: list[str] = []
        self._replay: list[str] = []

    def install(self) -> None:
        event.listen(Pool, "connect", self._connected)
        event.listen(Pool, "close", self._closed)
        event.listen(Engine, "begin", self._begun)
        event.listen(Engine, "commit", self._commits)
        event.listen(Engine, "rollback", self._rolled_back)
        event.listen(Engine, "do_execute", self._executes)
        event.listen(Engine, "do_execute_no_params", lambda cursor, statement, context: self._executes(cursor, statement, None, context))
        event.listen(Engine, "after_cursor_execute", self._executed)

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def rest(self) -> None:
        """By chance between half and one and a half times the pause, so that many who wait do not come back together."""
        time.sleep(min(self._pause * random.uniform(0.5, 1.5), max(0.0, self.left)))  # noqa: S311  no secret

    @property
    def has_acted(self) -> bool:
        """Did the present revision do anything here, or was it found done?"""
        return bool(self._committed or self._open)

    def begin_revision(self) -> None:
        self._committed, self._open, self._replay = [], [], []

    def failed(self) -> bool:
        """The open transaction is gone, or nobody knows; had the revision done anything here?"""
        acted, self._open = self.has_acted, []
        return acted

    def try_again(self) -> None:
        """The present revision once more; what it has committed already is passed over."""
        self._replay = list(self._committed)

    # ---- what SQLAlchemy tells

    def _connected(self, dbapi: Any, record: Any) -> None:
        with _cursor(dbapi) as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = {_milliseconds(self._longest)}")
            cursor.execute(f"SET lock_timeout = {_milliseconds(self._brief)}")
            cursor.execute("SET application_name = 'greenroom-migrate'")
            if self._only is None:
                # Asked for again and again: who waits inside PostgreSQL holds up concurrent index builds.
                while not _row(cursor, f"SELECT pg_try_advisory_lock({_LOCK_SPACE}, hashtext(current_database()))")[0]:
                    if self.left <= 0:
                        raise Late("another process migrates this database and is not done")
                    self.rest()
                self._only = record
        dbapi.commit()

    def _closed(self, dbapi: Any, record: Any) -> None:
        self._settled.pop(id(dbapi), None)
        if self._only is record:
            self._only = None

    def _begun(self, connection: Any) -> None:
        self._keep()
        if self.watcher is not None:
            self.watcher.begin(_raw(connection))

    def _commits(self, connection: Any) -> None:
        if self.watcher is not None and not _is_autocommit(connection):
            self.watcher.commits(_raw(connection))

    def _rolled_back(self, connection: Any) -> None:
        self._settled.pop(id(_raw(connection)), None)
        self._open = []

    def _executes(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
        connection = context.root_connection
        said = statement if parameters is None else f"{statement} {parameters!r}"
        if self._replay and not _READS.match(statement) and not _SETS.search(statement):
            if self._replay[0] != said:
                raise HalfDone(f"it does something else when it is tried again: {statement[:120]}")
            self._replay.pop(0)
            return True
        raw = _raw(connection)
        self._settle(raw, online=bool(_ONLINE.search(statement)))
        if _SETS.search(statement):
            self._settled.pop(id(raw), None)
            return None
        if not _is_autocommit(connection):
            if not _READS.match(statement):
                self._open.append(said)
            self._starts()
            return None

        def act() -> None:
            self._starts()
            _execute(cursor, statement, parameters)

        self._alone(raw, act, statement)
        if not _READS.match(statement):
            self._committed.append(said)
        return True

    def _executed(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if self.watcher is not None:
            self.watcher.executed(_raw(connection), statement, _cursor.rowcount, alone=_is_autocommit(connection))

    def _starts(self) -> None:
        if self.watcher is not None:
            self.watcher.starts()

    # ---- acts

    def _keep(self) -> None:
        """Whoever begins a transaction has seen the one before committed: a connection lost at a COMMIT never comes here."""
        self._committed += self._open
        self._open = []

    def _settle(self, raw: Any, *, online: bool) -> None:
        """Set anew whenever it may have been changed. What is online makes nobody wait and may take its time."""
        if self._settled.get(id(raw)) is online:
            return
        left = max(self._brief, self.left)
        wait = left if online else self._brief
        # The lock's limit comes first, so that the last try says what it waited for.
        longest = self._brief + left if online else max(2 * self._brief, min(left, self._longest))
        with _cursor(raw) as cursor:
            cursor.execute(f"SET lock_timeout = {_milliseconds(wait)}")
            cursor.execute(f"SET statement_timeout = {_milliseconds(longest)}")
        self._settled[id(raw)] = online

    def _alone(self, raw: Any, act: Any, statement: str) -> None:
        """Outside a transaction a failure can leave something, and each statement may be tried again by itself."""
        index = _BUILD.match(statement)
        if index and self._is_built(raw, index):
            return
        while True:
            try:
                act()
            except Exception as error:
                with contextlib.suppress(Exception):  # the connection may be gone; whoever comes next drops it
                    if index:
                        self._is_built(raw, index)
                if sqlstate_of(error) not in TRY_AGAIN or self.left <= 0:
                    raise
                self.rest()
            else:
                return

    @staticmethod
    def _is_built(raw: Any, index: re.Match[str]) -> bool:
        """Whole, and of the same columns: a connection was lost after it had been built. What a failed build left costs every write,
        serves no read, and IF NOT EXISTS would take it for the real one: it is dropped.
        """
        name, table = index["name"], index["table"]
        schema = table.rpartition(".")[0]
        full = f"{schema}.{name}" if schema and "." not in name else name
        with _cursor(raw) as cursor:
            found = _row(cursor, _BUILT.format(name=full, table=table))
            if not found:
                return False
            if not found[0]:
                cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {full}")
                return False
        return bool(found[1] == ",".join(part.strip().strip('"') for part in index["columns"].split(",")))


def _execute(cursor: Any, statement: str, parameters: Any) -> None:
    if parameters:
        cursor.execute(statement, parameters)
    else:
        cursor.execute(statement)


def _raw(connection: Any) -> Any:
    """The driver's own connection."""
    held = connection.connection
    return getattr(held, "dbapi_connection", None) or held.connection


def _is_autocommit(connection: Any) -> bool:
    return bool(_raw(connection).autocommit)


@contextlib.contextmanager
def _cursor(raw: Any) -> Iterator[Any]:
    cursor = raw.cursor()
    try:
        yield cursor
    finally:
        cursor.close()


def _row(cursor: Any, question: str) -> Any:
    cursor.execute(question)
    return cursor.fetchone()


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * seconds))
