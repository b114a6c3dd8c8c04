"""Alembic as a rollout runs it in the application's image, here in this machine's Python, on a real database, with both kinds of driver."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from delivery.durations import Work, measured_in
from delivery.operations import Lock
from tasks.clone import open_clones
from tasks.image_alembic import MigrationLimits
from tests.tasks.alembic_project import SETUP, Application, Driver, Project, a_project, answered, let_go_after

pytestmark = pytest.mark.postgresql

QUICK = MigrationLimits(pause=timedelta(milliseconds=100), deadline=timedelta(seconds=30))
COLUMN = "ALTER TABLE rooms ADD COLUMN floor int"
INDEX = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS rooms_name ON rooms (name)"
ONLINE = f'with op.get_context().autocommit_block(): op.execute("{INDEX}")'
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('rooms_name')"


@pytest.fixture
def database(postgresql: str) -> Iterator[str]:
    with open_clones(SecretStr(postgresql), SETUP) as clones, clones.fresh() as address:
        yield address


@pytest.fixture(params=["psycopg", "asyncpg"])
def project(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Project:
    return a_project(tmp_path, database, request.param)


def asked(address: str, question: str) -> list[tuple[object, ...]]:
    with psycopg.connect(address, autocommit=True) as connection:
        return connection.execute(question.encode()).fetchall()


def columns(address: str) -> set[object]:
    return {name for (name,) in asked(address, "SELECT attname FROM pg_attribute WHERE attrelid = 'rooms'::regclass AND attnum > 0")}


def test_pending_revisions_are_applied_in_their_order_and_read_back(project: Project, database: str) -> None:
    project.revision("r1", COLUMN, down="r0").revision("r2", "ALTER TABLE rooms ADD COLUMN wing text", down="r1")
    answer = project.upgrade()
    assert (answer.refusal, answer.told["before"], answer.told["after"]) == ("", ["r0"], ["r2"])
    assert [one["id"] for one in answer.told["applied"]] == ["r1", "r2"]
    assert {"floor", "wing"} <= columns(database)
    assert (project.upgrade().told["applied"], asked(database, "SELECT version_num FROM alembic_version")) == ([], [("r2",)])


def test_one_that_fails_keeps_those_before_it_and_says_so(project: Project, database: str) -> None:
    project.revision("r1", COLUMN, down="r0").revision("r2", "ALTER TABLE halls ADD COLUMN wing text", down="r1")
    answer = project.upgrade()
    assert answer.refusal == 'revision r2 fails: relation "halls" does not exist (SQLSTATE 42P01)'
    assert (answer.told["after"], [one["id"] for one in answer.told["applied"]], "floor" in columns(database)) == (["r1"], ["r1"], True)


def test_what_nobody_has_looked_at_does_not_run(project: Project, database: str) -> None:
    project.revision("r1", COLUMN, down="r0")
    assert project.upgrade(reviewed={"r1": "0" * 64}).refusal == "revision r1 is pending here, and nobody has looked at it"
    assert "floor" not in columns(database)


def test_a_revision_that_the_image_does_not_know_is_named_with_the_way_out(project: Project, database: str) -> None:
    asked(database, "UPDATE alembic_version SET version_num = 'r9' RETURNING 1")
    answer = project.upgrade()
    assert answer.refusal == "the database is at revision r9, which this image does not know"
    assert "greenroom rollback" in answer.way_out


def test_three_at_once_apply_once_and_all_succeed(project: Project) -> None:
    project.revision("r1", COLUMN, "SELECT pg_sleep(0.5)", down="r0")
    running = [project.start(project.upgrading(limits=QUICK)) for _ in range(3)]
    answers = [answered(process) for process in running]
    assert sorted(len(answer.told["applied"]) for answer in answers) == [0, 0, 1]
    assert [(answer.refusal, answer.told["after"]) for answer in answers] == [("", ["r1"])] * 3


def test_a_lock_that_is_held_is_tried_for_until_it_is_free(project: Project, database: str) -> None:
    project.revision("r1", COLUMN, down="r0")
    with psycopg.connect(database) as reader:
        reader.execute("SELECT * FROM rooms LIMIT 1")
        with let_go_after(reader, seconds=4.0):
            answer = project.upgrade(limits=QUICK)
    assert answer.told["tries"] > 2
    assert "floor" in columns(database)


def test_at_the_deadline_nothing_is_changed_and_the_holder_is_named(project: Project, database: str) -> None:
    project.revision("r1", COLUMN, down="r0")
    with psycopg.connect(database) as reader:
        reader.execute("SELECT * FROM rooms LIMIT 1")
        answer = project.upgrade(limits=MigrationLimits(pause=timedelta(milliseconds=50), deadline=timedelta(seconds=2)))
        holder = reader.info.backend_pid
    assert "revision r1 got no lock in" in answer.refusal
    assert f"process {holder} in a transaction for" in answer.refusal
    assert (answer.told["after"], "floor" in columns(database)) == (["r0"], False)


def test_neither_env_py_nor_a_revision_can_switch_the_guard_off(project: Project, database: str) -> None:
    project.revision("r1", "SET lock_timeout = 0", "SET statement_timeout = 0", down="r0")
    project.revision(
        "r2",
        "SET lock_timeout = 0",
        "CREATE TABLE limits AS SELECT current_setting('lock_timeout') AS wait, current_setting('statement_timeout') AS run",
        down="r1",
    )
    assert project.upgrade().refusal == ""
    assert asked(database, "SELECT * FROM limits") == [("100ms", "30s")]


def test_a_statement_that_runs_too_long_is_ended(project: Project) -> None:
    project.revision("r1", "SELECT pg_sleep(20)", down="r0")
    assert "statement timeout" in project.upgrade(limits=MigrationLimits(statement_timeout=timedelta(milliseconds=300))).refusal


def test_a_half_built_index_of_a_process_that_died_is_dropped_and_built_again(project: Project, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO rooms (id, name) VALUES (5000, 'room 1')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(INDEX.encode())
        connection.execute("DELETE FROM rooms WHERE id = 5000")
    assert asked(database, VALID) == [(False,)]
    project.revision("r1", ONLINE, down="r0")
    assert (project.upgrade().refusal, asked(database, VALID)) == ("", [(True,)])


def test_a_build_that_fails_leaves_no_half_built_index(project: Project, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO rooms (id, name) VALUES (5000, 'room 1')")
    project.revision("r1", ONLINE, down="r0")
    assert "could not create unique index" in project.upgrade().refusal
    assert asked(database, VALID) == []


def test_an_online_build_waits_for_older_transactions_without_a_short_limit(project: Project, database: str) -> None:
    project.revision("r1", ONLINE, down="r0")
    with psycopg.connect(database) as writer:
        writer.execute("UPDATE rooms SET note = 'x' WHERE id = 1")
        with let_go_after(writer, seconds=4.0):
            answer = project.upgrade()
    assert (answer.told["tries"], asked(database, VALID)) == (1, [(True,)])


def test_a_revision_that_is_committed_in_part_goes_on_from_there_when_it_gets_no_lock(project: Project, database: str) -> None:
    project.revision("r1", COLUMN, ONLINE, "ALTER TABLE halls ADD COLUMN floor int", down="r0")
    with psycopg.connect(database) as reader:
        reader.execute("CREATE TABLE halls (id int)")
        reader.commit()
        reader.execute("SELECT * FROM halls")
        with let_go_after(reader, seconds=5.0):
            answer = project.upgrade(limits=QUICK)
    assert (answer.refusal, answer.told["after"]) == ("", ["r1"])
    assert answer.told["tries"] > 1


CUT = """
import psycopg
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.dialects.postgresql import {driver} as driver
kind = driver.dialect
commit, cut = kind.do_commit, []
def do_commit(self, connection):
    cursor = connection.cursor()
    cursor.execute("SELECT pg_backend_pid(), to_regclass('rooms') IS NOT NULL AND EXISTS (SELECT FROM pg_attribute"
                   " WHERE attrelid = to_regclass('rooms') AND attname = 'floor')")
    pid, there = cursor.fetchone()
    if there and not cut and {once}:
        cut.append(pid)
        if {after}:
            commit(self, connection)
        with psycopg.connect({address!r}, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pid])
    return commit(self, connection) if not cut or cut[-1] != pid else cursor.execute("SELECT 1")
kind.do_commit = do_commit
"""


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
def test_a_connection_lost_at_the_commit_is_resolved_by_reading(project: Project, database: str, tmp_path: Path, *, after: bool) -> None:
    flag = tmp_path / "cut"
    once = f"not __import__('pathlib').Path({str(flag)!r}).exists() and (__import__('pathlib').Path({str(flag)!r}).touch() or True)"
    project.begin(more=CUT.format(driver=project.driver, address=database, after=after, once=once)).revision("r1", COLUMN, down="r0")
    answer = project.upgrade(limits=QUICK)
    assert flag.exists()
    assert (answer.refusal, answer.told["after"], answer.told["tries"]) == ("", ["r1"], 1 if after else 2)
    assert "floor" in columns(database)


def test_a_database_that_stays_away_is_told_without_its_password(tmp_path: Path) -> None:
    project = Project(tmp_path, "postgresql+psycopg://stage:sekret@127.0.0.1:1/none").begin().revision("r0", down=None)
    answer = project.upgrade(limits=MigrationLimits(pause=timedelta(milliseconds=50), deadline=timedelta(milliseconds=300)))
    assert answer.refusal.startswith("Alembic fails: OperationalError")
    assert "sekret" not in answer.refusal


def test_the_watcher_sees_the_rows_that_are_written_under_a_lock_and_the_table_that_is_rewritten(project: Project) -> None:
    project.revision("r1", "INSERT INTO rooms SELECT g, 'room' FROM generate_series(2000, 40000) g", down="r0")
    project.revision("r2", "ALTER TABLE rooms ALTER COLUMN id TYPE numeric", down="r1").revision("r3", COLUMN, down="r2")
    answer = project.upgrade(watch=True)
    assert answer.refusal == ""
    assert any("writes 38,001 rows of rooms in one transaction" in one for one in answer.told["objections"]), answer.told["objections"]
    assert "writes rooms anew" in answer.told["objections"]


def test_the_watcher_measures_each_statement_with_the_rows_of_its_table_and_what_it_does_to_them(project: Project, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ANALYZE rooms")
    project.revision("r1", COLUMN, "ALTER TABLE rooms ADD CONSTRAINT c CHECK (id > 0)", "UPDATE rooms SET note = name", down="r0")
    project.revision("r2", "ALTER TABLE rooms ALTER COLUMN id TYPE numeric", down="r1").revision("r3", ONLINE, down="r2")
    answer = project.upgrade(watch=True)
    assert answer.refusal == ""
    told = [(one.revision, one.work, one.table, one.rows, one.lock) for one in measured_in(answer.told["measured"])]
    assert told == [
        ("r1", Work.METADATA, "rooms", 1000, Lock.ACCESS_EXCLUSIVE),
        ("r1", Work.SCAN, "rooms", 1000, Lock.ACCESS_EXCLUSIVE),
        ("r1", Work.SCAN, "rooms", 1000, Lock.ACCESS_EXCLUSIVE),
        ("r2", Work.REWRITE, "rooms", 1000, Lock.ACCESS_EXCLUSIVE),
        ("r3", Work.INDEX, "rooms", 1000, Lock.SHARE_UPDATE_EXCLUSIVE),
    ]
    assert all(one["seconds"] > 0 for one in answer.told["measured"])


# -- what the application feels


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_with_an_idle_reader_on_a_million_rows_the_application_waits_300_ms_at_most(
    postgresql: str, tmp_path: Path, driver: Driver
) -> None:
    rows = SETUP.replace("1, 1000)", "1, 1000000)") + "VACUUM ANALYZE rooms"
    with open_clones(SecretStr(postgresql), rows) as clones, clones.fresh() as large:
        project = a_project(tmp_path, large, driver).revision("r1", COLUMN, down="r0")
        with psycopg.connect(large) as reader, Application(large) as application:
            reader.execute("SELECT * FROM rooms LIMIT 1")
            with let_go_after(reader, seconds=6.0):
                answer = project.upgrade()
    assert [one["id"] for one in answer.told["applied"]] == ["r1"]
    assert answer.told["tries"] > 2
    assert application.worst <= 0.3, f"it waited {application.worst:.3f} s at most in {application.requests} requests"
