"""A migration's dress rehearsal on a clone: what it locks while it reads or writes many rows, rewrites, and breaks for the live version."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from plumbum import ProcessTimedOut, local
from psycopg import conninfo, sql

from delivery.migrations import Observation
from delivery.sql import Statement, statements
from tasks.clone import connect, first_line
from tasks.image_watch import STORED
from tasks.watcher import Watcher

LONGEST_STATEMENT = timedelta(minutes=5)
LONGEST_PYTHON = timedelta(minutes=10)
_LOCK_TIMEOUT = "2s"
# SQLSTATEs by which a statement says that it wants to be alone.
_NOT_IN_TRANSACTION = ("25001", "2D000")


@dataclass(frozen=True)
class _Answer:
    """What the live version got: rows, or PostgreSQL's sentence of refusal."""

    rows: int = 0
    refusal: str = ""


@dataclass(frozen=True)
class AlembicCode:
    """The Python of a revision's upgrade, for migrations that cannot be told as SQL beforehand."""

    text: str


def rehearse(address: str, migration: str | AlembicCode, *, old_statements: Sequence[str], role: str | None) -> Observation:
    """Runs a migration, SQL or Python, on the database at `address` and says what the live version would have noticed.

    The database is changed by it. What the live version sends (`old_statements`, as `role`) is tried before and after each commit
    (after the end, for Python); each try is taken back. Statements that failed before the migration prove nothing and are left out.
    Python runs in a process of its own with an empty environment, as this user.
    """
    watched = conninfo.make_conninfo(address, options=_options())
    with connect(watched) as session, connect(address) as live:
        baseline = _ask(live, old_statements, role)
        stored = {oid: (name, node) for oid, name, node in session.execute(STORED).fetchall()}
        watcher = Watcher(lambda: session, {oid: name for oid, (name, _) in stored.items()})
        steps = (
            _run_python(watcher, watched, migration)
            if isinstance(migration, AlembicCode)
            else _run(session, watcher, statements(migration))
        )
        for _ in steps:
            for rewritten in _rewritten(session, stored):
                watcher.object(f"writes {rewritten} anew")
            for sentence in _noticed(baseline, _ask(live, old_statements, role)):
                watcher.object(sentence)
    return Observation(finished=True, objections=tuple(watcher.objections.values()))


def _options() -> str:
    settings = {
        "lock_timeout": _LOCK_TIMEOUT,
        "statement_timeout": f"{LONGEST_STATEMENT.total_seconds():.0f}s",
        # Helpers would count what they read on their own accounts.
        "max_parallel_maintenance_workers": "0",
        "max_parallel_workers_per_gather": "0",
    }
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def _run_python(watcher: Watcher, address: str, code: AlembicCode) -> Iterator[None]:
    """Yields once, at its end."""
    asked = json.dumps({"address": address, "code": code.text, "names": watcher.names})
    process = local["env"]["-i", sys.executable, "-I", "-m", "tasks.alembic_case"] << asked
    try:
        exit_code, out, _ = process.run(retcode=None, timeout=LONGEST_PYTHON.total_seconds())
    except ProcessTimedOut:
        watcher.object(f"it was not done after {LONGEST_PYTHON.total_seconds():.0f} s")
        return
    if exit_code != 0:
        watcher.object(f"it ended its own process (exit code {exit_code})")
        return
    seen = json.loads(out.splitlines()[-1])
    for sentence in [*seen["objections"], *([f"it fails: {seen['failure']}"] if seen["failure"] else [])]:
        watcher.object(sentence)
    yield


def _run(session: psycopg.Connection, watcher: Watcher, migration: Sequence[Statement]) -> Iterator[None]:
    """Runs statement after statement and yields whenever other sessions can see what was done."""
    for number, statement in enumerate(migration, start=1):
        first = statement.words[0] if statement.words else ""
        try:
            if first in ("begin", "start"):
                session.execute(statement.sql.encode())
                watcher.begin()
            elif _is_idle(session):
                _run_alone(session, watcher, statement)
                yield
            else:
                session.execute(statement.sql.encode())
                if _is_idle(session):
                    yield
                else:
                    watcher.look()
        except psycopg.Error as error:
            watcher.object(f"statement {number} fails: {first_line(error)}")
            if not session.closed:
                session.execute("ROLLBACK")
            return


def _run_alone(session: psycopg.Connection, watcher: Watcher, statement: Statement) -> None:
    """In a transaction of its own, so that it can be looked at; without one when it refuses that."""
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


def _is_idle(session: psycopg.Connection) -> bool:
    """Is no transaction open?"""
    return session.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def _rewritten(session: psycopg.Connection, stored: Mapping[int, tuple[str, int]]) -> list[str]:
    now = {oid: node for oid, _, node in session.execute(STORED).fetchall()}
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
