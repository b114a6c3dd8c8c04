"""A migration's dress rehearsal on a clone: what it locks while it reads or writes many rows, rewrites, and breaks for the live version."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
from psycopg import sql

from delivery.migrations import Observation
from delivery.sql import Statement, statements
from tasks.clone import connect, first_line

log = logging.getLogger("greenroom.rehearsal")

# More rows than a small machine reads or writes in the time that users do not notice.
MOST_ROWS_UNDER_LOCK = 10_000
MOST_ROWS_IN_TRANSACTION = 10_000
LONGEST_STATEMENT = timedelta(minutes=5)
_LOCK_TIMEOUT = "2s"
# SQLSTATEs by which a statement says that it wants to be alone.
_NOT_IN_TRANSACTION = ("25001", "2D000")

# Modes that keep writers out.
_STRONG = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
# Object ids below 16384 are PostgreSQL's own.
_STORED = """
SELECT oid, oid::regclass::text, relfilenode FROM pg_class
WHERE relkind IN ('r', 'm', 'i') AND oid >= 16384 AND relnamespace::regnamespace::text !~ '^pg_'
"""
_WORK = "SELECT relid, coalesce(seq_tup_read, 0), n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables"
_LOCKS = "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted"


@dataclass
class _Work:
    read: int = 0
    written: int = 0


@dataclass
class _Watcher:
    """Looks at one session from inside its transactions: what it holds, and how many rows it read and wrote meanwhile."""

    session: psycopg.Connection
    names: Mapping[int, str]
    # By what they are about, since the numbers of one transaction only grow.
    objections: dict[str, str] = field(default_factory=dict)
    before: dict[int, _Work] = field(default_factory=dict)
    locked: dict[int, str] = field(default_factory=dict)

    def begin(self) -> None:
        self.before, self.locked = self._work(), {}

    def look(self) -> None:
        """After a statement, inside its transaction."""
        for relation, mode in self.session.execute(_LOCKS).fetchall():
            if relation in self.names and mode in _STRONG and _STRONG.index(mode) >= _rank(self.locked.get(relation)):
                self.locked[relation] = mode
        for relation, work in self._work().items():
            if relation not in self.names:
                continue
            start = self.before.get(relation, _Work())
            read, written = work.read - start.read, work.written - start.written
            if relation in self.locked and read > MOST_ROWS_UNDER_LOCK:
                held = _spelled(self.locked[relation])
                self.object(f"reads {read:,} rows of {self.names[relation]} while it holds {held}", about=f"read {relation}")
            if written > MOST_ROWS_IN_TRANSACTION:
                sentence = f"writes {written:,} rows of {self.names[relation]} in one transaction and holds each until its end"
                self.object(sentence, about=f"written {relation}")

    def object(self, sentence: str, *, about: str = "") -> None:
        self.objections[about or sentence] = sentence

    def _work(self) -> dict[int, _Work]:
        return {oid: _Work(read, written) for oid, read, written in self.session.execute(_WORK).fetchall()}


@dataclass(frozen=True)
class _Answer:
    """What the live version got: rows, or PostgreSQL's sentence of refusal."""

    rows: int = 0
    refusal: str = ""


def rehearse(address: str, migration: str, *, old_statements: Sequence[str], role: str | None) -> Observation:
    """Runs `migration` on the database at `address`, which is changed by it, and says what the live version would have noticed.

    What the live version sends (`old_statements`, as `role`) is tried before, and after each commit; each try is taken back.
    Statements that failed before the migration prove nothing and are left out. Rows are counted, not time measured, so that a
    busy machine gives the same answer.
    """
    with connect(address) as session, connect(address) as live:
        for name, value in (
            ("lock_timeout", _LOCK_TIMEOUT),
            ("statement_timeout", f"{LONGEST_STATEMENT.total_seconds():.0f}s"),
            # Helpers would count what they read on their own accounts.
            ("max_parallel_maintenance_workers", "0"),
            ("max_parallel_workers_per_gather", "0"),
        ):
            session.execute("SELECT set_config(%s, %s, false)", [name, value])
        baseline = _ask(live, old_statements, role)
        stored = {oid: (name, node) for oid, name, node in session.execute(_STORED).fetchall()}
        watcher = _Watcher(session, {oid: name for oid, (name, _) in stored.items()})
        for _ in _run(watcher, statements(migration)):
            for rewritten in _rewritten(session, stored):
                watcher.object(f"writes {rewritten} anew")
            for sentence in _noticed(baseline, _ask(live, old_statements, role)):
                watcher.object(sentence)
    return Observation(finished=True, objections=tuple(watcher.objections.values()))


def _run(watcher: _Watcher, migration: Sequence[Statement]) -> Iterator[None]:
    """Runs statement after statement and yields whenever other sessions can see what was done."""
    session = watcher.session
    for number, statement in enumerate(migration, start=1):
        first = statement.words[0] if statement.words else ""
        try:
            if first in ("begin", "start"):
                session.execute(statement.sql.encode())
                watcher.begin()
            elif _idle(session):
                _run_alone(watcher, statement)
                yield
            else:
                session.execute(statement.sql.encode())
                if _idle(session):
                    yield
                else:
                    watcher.look()
        except psycopg.Error as error:
            watcher.object(f"statement {number} fails: {first_line(error)}")
            if not session.closed:
                session.execute("ROLLBACK")
            return


def _run_alone(watcher: _Watcher, statement: Statement) -> None:
    """In a transaction of its own, so that it can be looked at; without one when it refuses that."""
    session = watcher.session
    text = statement.sql.encode()
    try:
        session.execute("BEGIN")
        watcher.begin()
        session.execute(text)
        watcher.look()
        session.execute("COMMIT")
    except psycopg.Error as error:
        session.execute("ROLLBACK")
        if error.sqlstate not in _NOT_IN_TRANSACTION:
            raise
        session.execute(text)


def _idle(session: psycopg.Connection) -> bool:
    return session.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def _rewritten(session: psycopg.Connection, stored: Mapping[int, tuple[str, int]]) -> list[str]:
    now = {oid: node for oid, _, node in session.execute(_STORED).fetchall()}
    return sorted(name for oid, (name, node) in stored.items() if now.get(oid, node) != node)


def _ask(live: psycopg.Connection, texts: Sequence[str], role: str | None) -> list[_Answer]:
    """Each statement in a transaction that is taken back, with its constraints checked as a commit would."""
    return [_answer(live, text, role) for text in texts]


def _answer(live: psycopg.Connection, text: str, role: str | None) -> _Answer:
    live.execute("BEGIN")
    try:
        live.execute(f"SET LOCAL statement_timeout = {LONGEST_STATEMENT.total_seconds() * 1000:.0f}".encode())
        if role is not None:
            live.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        got = live.execute(text.encode())
        rows = got.rowcount
        live.execute("SET CONSTRAINTS ALL IMMEDIATE")
        return _Answer(rows=rows)
    except psycopg.Error as error:
        return _Answer(refusal=first_line(error))
    finally:
        live.execute("ROLLBACK")


def _noticed(before: Sequence[_Answer], after: Sequence[_Answer]) -> Iterator[str]:
    for number, (old, new) in enumerate(zip(before, after, strict=True), start=1):
        if old.refusal:
            continue
        if new.refusal:
            yield f"the live version's statement {number} fails: {new.refusal}"
        elif old.rows > 0 and new.rows == 0:
            yield f"the live version's statement {number} finds no row any more"


def _rank(mode: str | None) -> int:
    return _STRONG.index(mode) if mode in _STRONG else 0


def _spelled(mode: str) -> str:
    return {"ShareLock": "SHARE", "ShareRowExclusiveLock": "SHARE ROW EXCLUSIVE", "ExclusiveLock": "EXCLUSIVE"}.get(
        mode, "ACCESS EXCLUSIVE"
    )
