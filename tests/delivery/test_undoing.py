import pytest

from delivery.operations import Safety
from delivery.schema import Schema
from delivery.undoing import Loss, Undoing, read_undoing

SCHEMA = "CREATE TABLE rooms (id bigint PRIMARY KEY, name text NOT NULL, note text); CREATE INDEX rooms_name ON rooms (name);"
NOTED = "UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0003'"


def read(upgrade: str, downgrade: str) -> Undoing:
    return read_undoing(f"BEGIN; {upgrade}; COMMIT;", f"BEGIN; {downgrade}; {NOTED}; COMMIT;", schema=Schema.read(SCHEMA), squawk=())


@pytest.mark.parametrize(
    ("upgrade", "downgrade", "losses"),
    [
        ("ALTER TABLE rooms ADD COLUMN floor int", "ALTER TABLE rooms DROP COLUMN floor", ["rooms.floor"]),
        ("ALTER TABLE rooms ADD a int, ADD b int", 'ALTER TABLE public.rooms DROP a, DROP COLUMN IF EXISTS "b"', ["rooms.a", "rooms.b"]),
        ("CREATE TABLE halls (id int)", "DROP TABLE IF EXISTS halls", ["halls"]),
        ("CREATE INDEX CONCURRENTLY i ON rooms (id)", "DROP INDEX i", []),
        ("CREATE VIEW v AS SELECT 1", "DROP VIEW v", []),
        ("CREATE TYPE mood AS ENUM ('sad')", "DROP TYPE mood", []),
    ],
)  # fmt: skip
def test_what_the_upgrade_made_may_go_again_and_what_it_holds_is_named(upgrade: str, downgrade: str, losses: list[str]) -> None:
    undoing = read(upgrade, downgrade)
    assert (undoing.objections, undoing.opaque, [str(one) for one in undoing.losses]) == ((), "", losses)


@pytest.mark.parametrize(
    ("downgrade", "rule"),
    [
        ("ALTER TABLE rooms DROP COLUMN name", "drop-column"),
        ("DROP TABLE rooms", "drop"),
        ("DROP INDEX rooms_name", "drop-index"),
        ("ALTER TABLE rooms RENAME COLUMN name TO title", "rename"),
        ("ALTER TABLE rooms ALTER note SET NOT NULL", "set-not-null"),
    ],
)
def test_what_was_there_before_the_upgrade_is_objected_to(downgrade: str, rule: str) -> None:
    undoing = read("ALTER TABLE rooms ADD COLUMN floor int", downgrade)
    assert [one.rule for one in undoing.objections] == [rule]
    assert undoing.objections[0].statement == 2  # of the downgrade, not of both


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rooms WHERE id = 1",
        "UPDATE rooms SET name = ''",
        "TRUNCATE rooms",
        "INSERT INTO rooms VALUES (1, '')",
        "DROP TABLE halls CASCADE",
        "ALTER TABLE rooms DROP COLUMN floor CASCADE",
        "ALTER TABLE rooms ALTER COLUMN floor TYPE smallint",
        "ALTER TABLE rooms RENAME TO halls",
        "DROP SEQUENCE numbers",
        "DO $$ BEGIN END $$",
        "DELETE FROM alembic_versions",
    ],
)
def test_what_may_lose_anything_else_is_never_said_to_lose_nothing(statement: str) -> None:
    assert read("ALTER TABLE rooms ADD COLUMN floor int", statement).opaque == statement


def test_what_python_decides_may_lose_anything() -> None:
    assert read_undoing("SELECT 1", None, schema=Schema.read(SCHEMA), squawk=()).opaque == "Python decides what it does"


def test_what_squawk_did_not_look_at_is_an_objection_and_what_only_a_copy_tells_is_none() -> None:
    undoing = read_undoing("SELECT 1", "ALTER TABLE rooms DROP CONSTRAINT known_by_nobody", schema=Schema.read(SCHEMA), squawk=None)
    assert [one.rule for one in undoing.objections] == ["squawk"]
    assert {one.safety for one in undoing.operations} == {Safety.NOT_JUDGED, Safety.NEEDS_CLONE}


def test_reading_the_way_back_changes_no_schema() -> None:
    schema = Schema.read(SCHEMA)
    read_undoing("ALTER TABLE rooms ADD COLUMN floor int", "DROP TABLE rooms", schema=schema, squawk=())
    assert list(schema.tables["rooms"].columns) == ["id", "name", "note"]


def test_a_loss_of_a_table_has_no_column() -> None:
    assert (str(Loss("halls")), str(Loss("rooms", "floor"))) == ("halls", "rooms.floor")
