# ruff: noqa: E501  a table has one case a line
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from delivery.errors import DeliveryError, InvalidSettings
from delivery.migrations import Observation
from tasks.clone import PREFIX, Clones, open_clones
from tasks.rehearsal import AlembicCode, rehearse

pytestmark = pytest.mark.postgresql

SETUP = """
CREATE TABLE rooms (id bigint PRIMARY KEY, name text NOT NULL, note text, seats int DEFAULT 1);
CREATE TABLE empty (id bigint);
INSERT INTO rooms SELECT g, 'room ' || g FROM generate_series(1, 20000) g;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO greenroom_test_app;
VACUUM ANALYZE;
"""
OLD = (
    "SELECT id, name, note FROM rooms LIMIT 1",
    "INSERT INTO rooms (id, name) VALUES (30000, 'new')",
    "UPDATE rooms SET note = 'x' WHERE id = 1",
    "SELECT broken FROM rooms",
)


@pytest.fixture(scope="module")
def clones(postgresql: str) -> Iterator[Clones]:
    with open_clones(SecretStr(postgresql), SETUP) as opened:
        yield opened


def seen(clones: Clones, migration: str | AlembicCode, *, old: tuple[str, ...] = OLD) -> tuple[str, ...]:
    with clones.fresh() as address:
        observation = rehearse(address, migration, old_statements=old, role=clones.role)
    assert observation == Observation(finished=True, objections=observation.objections)
    return observation.objections


QUIET = {
    "a column by the catalogue alone": "BEGIN; ALTER TABLE rooms ADD COLUMN floor int DEFAULT 0; COMMIT",
    "an index built online": "CREATE INDEX CONCURRENTLY i ON rooms (note)",
    "a scan before the lock": "BEGIN; SELECT count(*) FROM rooms WHERE note = 'x'; ALTER TABLE rooms ADD COLUMN floor int; COMMIT",
    "a validation alone": "ALTER TABLE rooms ADD CONSTRAINT c CHECK (seats > 0) NOT VALID; ALTER TABLE rooms VALIDATE CONSTRAINT c",
    "a table of its own, however large": "BEGIN; CREATE TABLE t AS SELECT g FROM generate_series(1, 50000) g; CREATE INDEX i ON t (g); COMMIT",
    "batches that are committed": "UPDATE rooms SET note = 'a' WHERE id <= 9000; UPDATE rooms SET note = 'a' WHERE id > 9000 AND id <= 18000",
    "a block that commits by itself": "DO $$BEGIN UPDATE rooms SET note = '' WHERE id < 5; COMMIT; END$$",
}
NOTICED = {
    "rows read under a lock": ("BEGIN; CREATE INDEX i ON rooms (note); COMMIT", "rows of rooms while it holds SHARE"),
    "a validation that keeps the lock": (
        "BEGIN; ALTER TABLE rooms ADD CONSTRAINT c CHECK (seats > 0) NOT VALID; ALTER TABLE rooms VALIDATE CONSTRAINT c; COMMIT",
        "reads 20,000 rows of rooms while it holds ACCESS EXCLUSIVE",
    ),
    "a rewrite hidden in a DO block": ("DO $$BEGIN EXECUTE 'ALTER TABLE rooms ALTER seats TYPE ' || 'bigint'; END$$", "writes rooms anew"),
    "a rewrite that a commit finishes": ("BEGIN; ALTER TABLE rooms ALTER seats TYPE bigint; COMMIT", "writes rooms_pkey anew"),
    "many rows in one transaction": ("UPDATE rooms SET note = 'a'", "writes 20,000 rows of rooms in one transaction and holds each until its end"),
    "many rows in two statements": (
        "BEGIN; UPDATE rooms SET note = 'a' WHERE id <= 9000; UPDATE rooms SET note = 'a' WHERE id > 9000; COMMIT",
        "writes 20,000 rows of rooms in one transaction and holds each until its end",
    ),
    "a name that the live version uses": ("ALTER TABLE rooms RENAME note TO remark", 'statement 1 fails: column "note" does not exist'),
    "a right that the live version uses": ("REVOKE INSERT ON rooms FROM greenroom_test_app", "statement 2 fails: permission denied for table rooms"),
    "a restriction that the live version breaks": ("ALTER TABLE rooms ADD CHECK (id < 30000) NOT VALID", "statement 2 fails: new row for relation"),
    "rows that the live version finds": ("DELETE FROM rooms", "statement 1 finds no row any more"),
    "a state between two transactions": (
        "BEGIN; ALTER TABLE rooms RENAME note TO a; COMMIT; BEGIN; ALTER TABLE rooms RENAME a TO note; COMMIT",
        'statement 1 fails: column "note" does not exist',
    ),
    "what PostgreSQL refuses": ("BEGIN; CREATE INDEX CONCURRENTLY i ON rooms (note); COMMIT", "statement 2 fails: CREATE INDEX CONCURRENTLY cannot"),
}  # fmt: skip


@pytest.mark.parametrize("sql", QUIET.values(), ids=QUIET)
def test_what_nobody_notices_is_not_objected_to(clones: Clones, sql: str):
    assert seen(clones, sql) == ()


@pytest.mark.parametrize(("sql", "sentence"), NOTICED.values(), ids=NOTICED)
def test_what_the_live_version_would_notice_is_told(clones: Clones, sql: str, sentence: str):
    objections = seen(clones, sql)
    assert any(sentence in objection for objection in objections), objections


def test_a_statement_that_failed_before_proves_nothing(clones: Clones):
    assert not any("statement 4" in objection for objection in seen(clones, "ALTER TABLE rooms RENAME note TO remark"))


def test_python_row_by_row_in_one_transaction_is_told(clones: Clones):
    code = 'for i in range(1, 1500):\n    op.get_bind().execute(sa.text("UPDATE rooms SET note = :n WHERE id = :i"), {"n": "a", "i": i})'
    (objection,) = seen(clones, AlembicCode(code))
    assert "sends 1,499 writes one after another in one transaction" in objection


def test_python_in_committed_batches_is_not_objected_to(clones: Clones):
    code = """
with op.get_context().autocommit_block():
    for low in range(0, 20000, 5000):
        op.get_bind().execute(sa.text("UPDATE rooms SET note = 'a' WHERE id > :low AND id <= :low + 5000"), {"low": low})
"""
    assert seen(clones, AlembicCode(code)) == ()


def test_python_in_one_large_statement_outside_a_transaction_is_told(clones: Clones):
    code = "with op.get_context().autocommit_block():\n    op.execute(\"UPDATE rooms SET note = 'a'\")"
    assert "writes 20,000 rows in one statement" in seen(clones, AlembicCode(code))[0]


def test_python_that_locks_is_told_as_sql_is(clones: Clones):
    code = 'def upgrade():\n    op.get_bind()\n    op.create_index("i", "rooms", ["note"])\n'
    assert "rows of rooms while it holds SHARE" in seen(clones, AlembicCode(code))[0]


def test_python_that_fails_or_leaves_is_told(clones: Clones):
    assert seen(clones, AlembicCode("raise ValueError('no room')")) == ("it fails: no room",)
    assert seen(clones, AlembicCode("import os; os._exit(3)")) == ("it ended its own process (exit code 3)",)


def test_python_sees_nothing_of_our_environment(clones: Clones, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GREENROOM_SECRET", "sekret")
    assert seen(clones, AlembicCode("import os\nassert not os.environ.get('GREENROOM_SECRET'), 'leaked'")) == ()


# -- the lent server


def databases(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return sorted(name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall())


def roles(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}


def test_each_copy_is_untouched_and_nothing_is_left_on_the_server(postgresql: str):
    before = databases(postgresql)
    with open_clones(SecretStr(postgresql), "CREATE TABLE a (n int); GRANT SELECT ON a TO greenroom_test_reader") as opened:
        assert opened.role == "greenroom_test_reader"
        for _ in range(2):
            with opened.fresh() as address, psycopg.connect(address) as connection:
                assert connection.execute("SELECT count(*) FROM a").fetchone() == (0,)
                connection.execute("INSERT INTO a VALUES (1)")
    assert databases(postgresql) == before
    assert "greenroom_test_reader" not in roles(postgresql)


def test_nothing_is_left_on_the_server_after_a_failure_either(postgresql: str):
    before = databases(postgresql)
    with pytest.raises(RuntimeError), open_clones(SecretStr(postgresql), "SELECT 1") as opened, opened.fresh():
        raise RuntimeError
    with (
        pytest.raises(DeliveryError, match=r'Statement 2 of the set-up fails on the clone: relation "b" does not exist'),
        open_clones(SecretStr(postgresql), "CREATE TABLE a (n int); SELECT * FROM b"),
    ):
        pass
    assert databases(postgresql) == before


@pytest.mark.parametrize("content", ["TABLE greenroom_a (n int)", "SCHEMA greenroom_a", "TYPE greenroom_a AS ENUM ('a')"])
def test_a_database_that_is_not_empty_is_refused_and_not_touched(postgresql: str, content: str):
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE {content}".encode())
        try:
            before = databases(postgresql)
            with (
                pytest.raises(InvalidSettings, match=r"got one that holds .*greenroom_a.*, expected an empty one"),
                open_clones(SecretStr(postgresql), ""),
            ):
                pass
            assert databases(postgresql) == before
        finally:
            connection.execute(f"DROP {content.split(maxsplit=2)[0]} greenroom_a".encode())


def test_a_login_that_may_not_make_databases_works_inside_the_empty_one(postgresql: str):
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE ROLE greenroom_test_small LOGIN PASSWORD 'small'")
        connection.execute("CREATE DATABASE greenroom_test_small OWNER greenroom_test_small")
        small = f"postgresql://greenroom_test_small:small@{postgresql.partition('@')[2].partition('/')[0]}/greenroom_test_small"
        try:
            with open_clones(SecretStr(small), "CREATE TABLE a (n int); CREATE SCHEMA attic") as opened:
                for _ in range(2):
                    with opened.fresh() as address:
                        observed = rehearse(address, "DROP TABLE a", old_statements=["SELECT n FROM a"], role=None)
                        assert observed.objections == ('the live version\'s statement 1 fails: relation "a" does not exist',)
            with open_clones(SecretStr(small), ""):
                pass
        finally:
            connection.execute("DROP DATABASE greenroom_test_small")
            connection.execute("DROP ROLE greenroom_test_small")


def test_copies_that_a_killed_run_left_behind_are_swept_by_age(postgresql: str):
    old, young = f"{PREFIX}1000000000_dead", f"{PREFIX}9999999999_alive"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        for name in (old, young):
            connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            with open_clones(SecretStr(postgresql), ""):
                assert old not in databases(postgresql)
                assert young in databases(postgresql)
        finally:
            connection.execute(f"DROP DATABASE {young}".encode())


@pytest.mark.parametrize("url", ["nonsense", "postgresql://stage:sekret@127.0.0.1:1/none", "mysql://stage:sekret@127.0.0.1/none"])
def test_an_address_that_leads_nowhere_is_refused_without_its_password(url: str):
    with pytest.raises(InvalidSettings) as refused, open_clones(SecretStr(url), ""):
        pass
    assert "sekret" not in str(refused.value)
    assert "expected" in str(refused.value)
