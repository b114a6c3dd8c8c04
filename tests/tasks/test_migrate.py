import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Self

import psycopg
import pytest
from psycopg import conninfo
from pydantic import SecretStr

from delivery.errors import DeliveryError, TransientError
from tasks import migrate as migrate_module
from tasks.clone import open_clones
from tasks.migrate import Migrated, MigrationLimits, Revision, migrate

pytestmark = pytest.mark.postgresql

SETUP = """
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('r0');
CREATE TABLE rooms (id bigint PRIMARY KEY, name text, note text);
INSERT INTO rooms SELECT g, 'room ' || g FROM generate_series(1, 1000) g;
"""
QUICK = MigrationLimits(pause=timedelta(milliseconds=100), deadline=timedelta(seconds=30))


def revision(number: int, *acts: str, before: str = "") -> Revision:
    noted = f"UPDATE alembic_version SET version_num='r{number}' WHERE alembic_version.version_num = 'r{number - 1}'"  # noqa: S608
    return Revision(f"r{number}", f"{before} BEGIN; {'; '.join([*acts, noted])}; COMMIT;")


COLUMN = revision(1, "ALTER TABLE rooms ADD COLUMN floor int")


@pytest.fixture
def database(postgresql: str) -> Iterator[str]:
    with open_clones(SecretStr(postgresql), SETUP) as clones, clones.fresh() as address:
        yield address


def url(address: str) -> SecretStr:
    parts = conninfo.conninfo_to_dict(address)
    login = f"{parts['user']}:{parts['password']}" if parts.get("password") else parts["user"]
    return SecretStr(f"postgresql+asyncpg://{login}@{parts['host']}:{parts['port']}/{parts['dbname']}")


def asked(address: str, question: str) -> list[tuple[object, ...]]:
    with psycopg.connect(address) as connection:
        return connection.execute(question.encode()).fetchall()


@contextmanager
def let_go_after(holder: psycopg.Connection[tuple[object, ...]], *, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, holder.rollback)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def columns(address: str) -> set[object]:
    return {name for (name,) in asked(address, "SELECT attname FROM pg_attribute WHERE attrelid = 'rooms'::regclass AND attnum > 0")}


def test_pending_revisions_are_applied_in_their_order_and_read_back(database: str):
    second = revision(2, "ALTER TABLE rooms ADD COLUMN wing text", "UPDATE rooms SET wing = floor::text WHERE id = 1")
    outcome = migrate(url(database), [COLUMN, second])
    assert (outcome.revision, outcome.applied, outcome.tries) == ("r2", ("r1", "r2"), 2)
    assert {"floor", "wing"} <= columns(database)
    assert asked(database, "SELECT version_num FROM alembic_version") == [("r2",)]


def test_what_is_applied_already_is_left_out(database: str):
    migrate(url(database), [COLUMN])
    outcome = migrate(url(database), [COLUMN])
    assert (outcome.revision, outcome.applied, outcome.tries) == ("r1", (), 0)


def test_three_at_once_apply_once_and_all_succeed(database: str):
    slow = [revision(1, "ALTER TABLE rooms ADD COLUMN floor int", "SELECT pg_sleep(0.5)")]
    with ThreadPoolExecutor(3) as pool:
        outcomes: list[Migrated] = list(pool.map(lambda _: migrate(url(database), slow, limits=QUICK), range(3)))
    assert sorted(outcome.applied for outcome in outcomes) == [(), (), ("r1",)]
    assert {outcome.revision for outcome in outcomes} == {"r1"}


def test_a_lock_that_is_held_is_tried_for_until_it_is_free(database: str):
    with psycopg.connect(database) as reader:
        reader.execute("SELECT * FROM rooms LIMIT 1")
        with let_go_after(reader, seconds=1.0):
            outcome = migrate(url(database), [COLUMN], limits=QUICK)
    assert outcome.tries > 2
    assert outcome.seconds >= 1.0
    assert "floor" in columns(database)


def test_at_the_deadline_nothing_is_changed_and_the_holder_is_named(database: str):
    limits = MigrationLimits(pause=timedelta(milliseconds=50), deadline=timedelta(seconds=2))
    with psycopg.connect(database) as reader:
        reader.execute("SELECT * FROM rooms LIMIT 1")
        with pytest.raises(
            DeliveryError, match=rf"got no lock in 2 s and \d+ tries: process {reader.info.backend_pid} in a transaction for"
        ):
            migrate(url(database), [COLUMN], limits=limits)
    assert "floor" not in columns(database)
    assert asked(database, "SELECT version_num FROM alembic_version") == [("r0",)]


def test_what_postgresql_refuses_is_not_tried_again_and_taken_back(database: str):
    broken = revision(1, "ALTER TABLE rooms ADD COLUMN floor int", "ALTER TABLE halls ADD COLUMN floor int")
    with pytest.raises(DeliveryError, match=r'Revision r1 fails: relation "halls" does not exist \(SQLSTATE 42P01\)'):
        migrate(url(database), [broken])
    assert "floor" not in columns(database)


def test_a_statement_that_runs_too_long_is_ended(database: str):
    limits = MigrationLimits(statement_timeout=timedelta(milliseconds=200))
    with pytest.raises(DeliveryError, match="statement timeout"):
        migrate(url(database), [revision(1, "SELECT pg_sleep(20)")], limits=limits)


def test_a_revision_cannot_leave_the_guard_switched_off_for_the_next(database: str):
    disarming = revision(1, "SET lock_timeout = 0", "SET statement_timeout = 0")
    measured = revision(
        2, "CREATE TABLE limits AS SELECT current_setting('lock_timeout') AS wait, current_setting('statement_timeout') AS run"
    )
    migrate(url(database), [disarming, measured])
    assert asked(database, "SELECT * FROM limits") == [("100ms", "30s")]


def test_a_revision_that_does_not_note_itself_is_no_success(database: str):
    with pytest.raises(DeliveryError, match="is at revision r0, expected r1"):
        migrate(url(database), [Revision("r1", "ALTER TABLE rooms ADD COLUMN floor int")])


INDEX = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS rooms_name ON rooms (name);"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('rooms_name')"


def leave_an_invalid_index(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("INSERT INTO rooms (id, name) VALUES (5000, 'room 1')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(INDEX.encode())
        connection.execute("DELETE FROM rooms WHERE id = 5000")
    assert asked(address, VALID) == [(False,)]


def test_a_half_built_index_of_a_process_that_died_is_dropped_and_built_again(database: str):
    leave_an_invalid_index(database)
    migrate(url(database), [revision(1, before=INDEX)])
    assert asked(database, VALID) == [(True,)]


def test_a_build_that_fails_leaves_no_half_built_index(database: str):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO rooms (id, name) VALUES (5000, 'room 1')")
    with pytest.raises(DeliveryError, match="could not create unique index"):
        migrate(url(database), [revision(1, before=INDEX)])
    assert asked(database, VALID) == []


def test_an_online_build_waits_for_older_transactions_without_a_short_limit(database: str):
    with psycopg.connect(database) as reader:
        reader.execute("UPDATE rooms SET note = 'x' WHERE id = 1")
        with let_go_after(reader, seconds=1.0):
            outcome = migrate(url(database), [revision(1, before=INDEX)], limits=QUICK)
    assert outcome.tries == 2
    assert outcome.seconds >= 1.0
    assert asked(database, VALID) == [(True,)]


class _Cutting:
    """Ends the runner's connection from outside, right before or right after its COMMIT, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, address: str, *, after_commit: bool) -> None:
        self.cut = False
        execute: Callable[..., psycopg.Cursor[tuple[object, ...]]] = psycopg.Connection.execute

        def watched(session: psycopg.Connection[tuple[object, ...]], query: object, *more: object) -> object:
            if query != "COMMIT" or self.cut:
                return execute(session, query, *more)
            self.cut = True
            if after_commit:
                execute(session, query, *more)
            asked(address, f"SELECT pg_terminate_backend({session.info.backend_pid})")
            return execute(session, "SELECT 1")

        monkeypatch.setattr(migrate_module.psycopg.Connection, "execute", watched)


@pytest.mark.parametrize("after_commit", [False, True], ids=["before the commit", "after the commit"])
def test_a_connection_lost_at_the_commit_is_resolved_by_reading(database: str, after_commit: bool, monkeypatch: pytest.MonkeyPatch):  # noqa: FBT001
    cutting = _Cutting(monkeypatch, database, after_commit=after_commit)
    outcome = migrate(url(database), [COLUMN], limits=QUICK)
    assert cutting.cut
    assert outcome.tries == (1 if after_commit else 2)
    assert "floor" in columns(database)


def test_a_database_that_stays_away_is_worth_another_call():
    limits = MigrationLimits(pause=timedelta(milliseconds=50), deadline=timedelta(milliseconds=300))
    with pytest.raises(TransientError) as raised:
        migrate(SecretStr("postgresql://stage:sekret@127.0.0.1:1/none"), [COLUMN], limits=limits)
    assert "sekret" not in str(raised.value)


# -- what the application feels


@pytest.fixture
def large(postgresql: str) -> Iterator[str]:
    with (
        open_clones(SecretStr(postgresql), SETUP.replace("1, 1000)", "1, 1000000)") + "VACUUM ANALYZE rooms") as clones,
        clones.fresh() as address,
    ):
        yield address


class Application:
    """Reads and writes every few milliseconds, and remembers how long it had to wait at most."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=[number]) for number in range(2)]
        self.worst = 0.0
        self.requests = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.5)
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        with psycopg.connect(self._address, autocommit=True) as connection:
            while not self._stop.is_set():
                began = time.monotonic()
                connection.execute("SELECT name FROM rooms WHERE id = %s", [number + 1])
                connection.execute("UPDATE rooms SET note = 'x' WHERE id = %s", [number + 1])
                self.worst = max(self.worst, time.monotonic() - began)
                self.requests += 1
                self._stop.wait(0.005)


def test_with_an_idle_reader_on_a_million_rows_the_application_waits_300_ms_at_most(large: str):
    with psycopg.connect(large) as reader, Application(large) as application:
        reader.execute("SELECT * FROM rooms LIMIT 1")
        with let_go_after(reader, seconds=3.0):
            outcome = migrate(url(large), [COLUMN])
    assert outcome.applied == ("r1",)
    assert outcome.tries > 2
    assert application.worst <= 0.3, f"it waited {application.worst:.3f} s at most in {application.requests} requests"
