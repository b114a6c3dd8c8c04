"""The rules over the text, held against PostgreSQL itself and against squawk."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from delivery.migrations import squawk_objections
from delivery.sql import statements
from tasks.clone import Clones, open_clones
from tasks.rehearsal import rehearse
from tasks.squawk import read_with_squawk
from tests.delivery.migration_samples import OLD, SAFE, SAFE_ALONE, SCHEMA, UNSAFE

ROWS = """
CREATE SCHEMA attic;
INSERT INTO rooms (id, name, note, fee) OVERRIDING SYSTEM VALUE SELECT g, 'room ' || g, 'note ' || g, 30 FROM generate_series(1, 20000) g;
ALTER SEQUENCE rooms_id_seq RESTART 30001;
INSERT INTO bookings SELECT g + 1, g, 'guest ' || g FROM generate_series(1, 20000) g;
INSERT INTO notes SELECT g, g FROM generate_series(1, 20000) g;
INSERT INTO days_old SELECT g % 100, g FROM generate_series(1, 20000) g;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app, someone;
VACUUM ANALYZE;
"""
HARMLESS = {name: f"BEGIN; {sql}; COMMIT" for name, sql in SAFE} | dict(SAFE_ALONE)
# Hazards that one quiet run cannot show; the text tells them.
WAITING = "a queue in which nobody stood"
UNUSED = "nothing that these statements of the live version use"
UNSEEN_BY_A_RUN = {
    "an index that goes with a lock": WAITING,
    "a table locked by hand": WAITING,
    "two tables in one transaction": WAITING,
    "rows written under the lock of a DDL": "few rows",
    "a time zone": "this server's own is UTC, and then nothing is rewritten",
    "a dropped schema": UNUSED,
    "a dropped view, made again": UNUSED,
    "a column that refuses values": UNUSED,
    "a renamed value of an enum": UNUSED,
    "CASCADE": UNUSED,
    "triggers and foreign keys switched off": "a setting of the migration's own session",
    "another owner": "the live version kept what it was granted",
    "no limit on waiting": WAITING,
    "no limit on waiting, TO": WAITING,
    "a limit of minutes": WAITING,
    "a limit switched off by a function": WAITING,
    "a limit forgotten": WAITING,
    "no limit on a statement": WAITING,
}
SEEN = {name: sql for name, sql, _ in UNSAFE if name not in UNSEEN_BY_A_RUN}


@pytest.fixture(scope="module")
def clones(postgresql: str) -> Iterator[Clones]:
    with open_clones(SecretStr(postgresql), SCHEMA + ROWS) as opened:
        yield opened


def noticed(clones: Clones, sql: str) -> tuple[str, ...]:
    with clones.fresh() as address:
        return rehearse(address, sql, old_statements=OLD, role=clones.role).objections


@pytest.mark.postgresql
@pytest.mark.parametrize("sql", HARMLESS.values(), ids=HARMLESS)
def test_what_the_rules_call_safe_nobody_notices_on_postgresql(clones: Clones, sql: str):
    assert noticed(clones, sql) == ()


@pytest.mark.postgresql
@pytest.mark.parametrize("sql", SEEN.values(), ids=SEEN)
def test_what_the_rules_call_unsafe_is_noticed_on_postgresql(clones: Clones, sql: str):
    assert noticed(clones, f"BEGIN; {sql}; COMMIT")


@pytest.mark.parametrize("sql", HARMLESS.values(), ids=HARMLESS)
def test_what_the_rules_call_safe_squawk_does_not_object_to(sql: str):
    assert squawk_objections(read_with_squawk(sql), statements(sql)) == []
