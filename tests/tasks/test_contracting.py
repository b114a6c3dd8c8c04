"""What goes from a real database, as its catalogue tells, and what was written to it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from delivery.application import Smoke
from delivery.contraction import Proof
from delivery.errors import DeliveryError
from delivery.migrations import read_operations
from delivery.old_version import OldVersion
from delivery.ports import Token
from delivery.release import Release
from delivery.revisions import ReviewedRevision
from delivery.schema import Schema
from tasks.contracting import Contracting
from tasks.scene import Scene
from tests.samples import a_plan, a_release
from tests.simulated_target import SimulatedTarget
from tests.tasks.test_alembic_back import Place
from tests.tasks.test_alembic_inside import asked, database  # noqa: F401  a fixture

pytestmark = pytest.mark.postgresql

THERE = """
CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE SCHEMA attic; CREATE TABLE attic.boxes (id int, label text);
CREATE VIEW quiet AS SELECT id, name FROM rooms;
CREATE FUNCTION sync() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
 NEW.note := upper(NEW.note); RETURN NEW; END$$;
"""
LIVE = a_release("1.1.0", smoke=(Smoke("api", "/rooms"),))


class Here(Place):
    """The database itself stands for the copy."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address, self.code = address, {}

    def files_of(
        self, release: Release, service: str, wanted: Callable[[str, str], bool], **about: object
    ) -> Iterator[tuple[str, bytes | None]]:
        if self.code.get((release.version.tag, service)) == {}:
            raise DeliveryError("The engine could not pull it.", next="mend it.")
        return super().files_of(release, service, wanted, **about)


@pytest.fixture
def here(database: str) -> Here:  # noqa: F811
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(THERE)
    return Here(database)


def proofs(here: Here, change: str, tmp_path: Path, *, sql: str = "", smoke: str = "SELECT 1") -> tuple[Proof, ...]:
    """What is told of a revision that does `change` and whose text is `sql`."""
    operations = read_operations(sql, schema=Schema.read("CREATE TABLE rooms (id int, note text)"), old_version=OldVersion.read(None))
    revision = ReviewedRevision("r1", ("r0",), "0" * 64, "", sql, operations)
    plan = a_plan(a_release("1.2.0"), LIVE, SimulatedTarget())
    scene = Scene(plan, here, None, Token("production", "production-1", 1), lambda: None, threading.Event(), tmp_path)
    name = psycopg.conninfo.conninfo_to_dict(here.address)["dbname"]
    looked = Contracting(scene, here, str(name), [revision], lambda: None)
    looked.before()
    run(here, change)
    looked.after()
    looked.writes_of(LIVE, lambda: run(here, smoke))
    return looked.proofs([LIVE])


def run(here: Here, statement: str) -> None:
    with psycopg.connect(here.address) as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ("ALTER TABLE rooms DROP COLUMN note", "gone on rooms: note"),
        ("ALTER TABLE rooms DROP COLUMN name CASCADE", "gone on quiet; gone on rooms: name"),
        ("DROP TABLE attic.boxes", "gone on attic.boxes"),
        ("DROP VIEW quiet", "gone on quiet"),
        ("DROP FUNCTION sync", "gone on sync"),
        ("DROP TYPE mood", "gone on mood"),
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "gone on mood: sad"),
        ("ALTER TABLE rooms RENAME TO halls", "gone on rooms"),
        ("ALTER TABLE rooms ADD COLUMN floor int; CREATE TABLE halls (id int)", ""),
    ],
)
def test_what_goes_is_seen_on_the_copy_whoever_takes_it_away(here: Here, tmp_path: Path, change: str, label: str) -> None:
    assert "; ".join(sorted(proof.contraction.label for proof in proofs(here, change, tmp_path))) == label


def test_a_function_of_the_database_that_still_names_it_is_a_use(here: Here, tmp_path: Path) -> None:
    (proof,) = proofs(here, "ALTER TABLE rooms DROP COLUMN note", tmp_path)
    assert (proof.holds, proof.how) == (False, "note is named in the function sync():2")
    run(here, "DROP FUNCTION sync; ALTER TABLE rooms ADD COLUMN note text")
    (proof,) = proofs(here, "ALTER TABLE rooms DROP COLUMN note", tmp_path)
    assert (proof.holds, proof.how) == (
        True,
        "note is named in none of 2 files of api, worker, and its 1 smoke request went well afterwards",
    )


@pytest.mark.parametrize(("code", "holds"), [(b"SELECT 1", True), (b"SELECT quiet", False)])
def test_a_package_that_came_from_no_index_is_the_code_of_an_image_that_has_no_other(
    here: Here, tmp_path: Path, code: bytes, *, holds: bool
) -> None:
    site = "venv/lib/python3.11/site-packages"
    here.code[("v1.1.0", "api")] = {
        "venv/pyvenv.cfg": b"",
        f"{site}/shop/models.py": code,
        f"{site}/flask/app.py": b"quiet",
        f"{site}/shop-1.dist-info/direct_url.json": b'{"url": "file:///build"}',
        f"{site}/shop-1.dist-info/RECORD": b"shop/models.py,,",
        f"{site}/flask-3.dist-info/RECORD": b"flask/app.py,,",
    }
    (proof,) = proofs(here, "DROP VIEW quiet", tmp_path)
    assert (proof.holds, f"quiet is named in api:/{site}/shop/models.py:1" == proof.how) == (holds, not holds)


def test_an_image_that_cannot_be_read_proves_nothing(here: Here, tmp_path: Path) -> None:
    here.code[("v1.1.0", "api")] = {}
    (proof,) = proofs(here, "DROP VIEW quiet", tmp_path)
    assert (proof.holds, proof.how) == (False, "its image of api cannot be read")


@pytest.mark.parametrize(
    ("smoke", "how"),
    [
        ("INSERT INTO rooms (id, note) VALUES (100001, 'x')", "its smoke requests wrote 1 row of rooms afterwards"),
        ("UPDATE rooms SET note = 'x' WHERE id IN (1, 2)", "its smoke requests wrote 2 rows of rooms afterwards"),
        ("SELECT count(*) FROM rooms", "rooms is named in api:/srv/app.py:1, and no smoke request of it wrote a row of rooms"),
        ("DELETE FROM rooms WHERE id = 1", "rooms is named in api:/srv/app.py:1, and no smoke request of it wrote a row of rooms"),
    ],
)
def test_what_is_tightened_is_proved_by_rows_that_its_smoke_requests_wrote_after_the_upgrade(
    here: Here, tmp_path: Path, smoke: str, how: str
) -> None:
    here.code[("v1.1.0", "api")] = {"srv/app.py": b"INSERT INTO rooms"}
    sql = "ALTER TABLE rooms ALTER COLUMN note SET NOT NULL"
    change = "UPDATE rooms SET note = ''; ALTER TABLE rooms ALTER COLUMN note SET NOT NULL"
    (proof,) = proofs(here, change, tmp_path, sql=sql, smoke=smoke)
    assert (proof.contraction.label, proof.how) == ("set-not-null on rooms", how)
