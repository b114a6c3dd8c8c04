import re
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.migration_rules import RULES
from delivery.migrations import NOT_OBJECTED, Finding, MigrationVerdict, Observation, judge
from delivery.old_version import OldVersion
from delivery.operations import Lock, MigrationWaiver, Safety
from delivery.schema import Schema
from tests.delivery.migration_samples import NEEDS_CLONE, OLD, SAFE, SAFE_ALONE, SCHEMA, UNSAFE


def judged(sql: str | None, *, transaction: bool = True, **other: object) -> MigrationVerdict:
    wrapped = f"BEGIN; {sql}; COMMIT;" if transaction and sql is not None else sql
    given: dict[str, object] = {"schema": Schema.read(SCHEMA), "old_version": OldVersion.read(OLD), "squawk": ()}
    return judge(wrapped, **{**given, **other})  # type: ignore[arg-type]


def rules(verdict: MigrationVerdict) -> set[str]:
    return {operation.rule for operation in verdict.operations if operation.safety is not Safety.SAFE}


def each(cases: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sql", [case[1] for case in cases], ids=[case[0] for case in cases])


def each_with_rule(cases: list[tuple[str, str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("sql", "rule"), [case[1:] for case in cases], ids=[case[0] for case in cases])


@each(SAFE)
def test_what_the_live_version_does_not_notice_is_safe(sql: str) -> None:
    verdict = judged(sql)
    assert rules(verdict) == set()
    assert verdict.safe


@each(SAFE_ALONE)
def test_what_is_online_outside_a_transaction_is_safe(sql: str) -> None:
    assert rules(judged(sql, transaction=False)) == set()


@each_with_rule(UNSAFE)
def test_a_hazard_is_named_by_its_rule(sql: str, rule: str) -> None:
    verdict = judged(sql)
    assert rule in rules(verdict)
    assert any(operation.safety is Safety.UNSAFE for operation in verdict.operations)
    assert rule in verdict.sentence()


@each_with_rule(UNSAFE)
def test_a_good_run_on_a_clone_excuses_no_hazard(sql: str, rule: str) -> None:
    assert rule in rules(judged(sql, clone=Observation(finished=True)))


@each_with_rule(NEEDS_CLONE)
def test_what_the_text_does_not_tell_is_left_to_the_clone(sql: str, rule: str) -> None:
    alone, well, badly = (
        judged(sql),
        judged(sql, clone=Observation(finished=True)),
        judged(sql, clone=Observation(True, ("writes rooms anew",))),
    )
    assert rules(alone) == {rule}
    assert {operation.safety for operation in alone.operations if operation.stops} == {Safety.NEEDS_CLONE}
    assert alone.sentence().startswith("needs the clone: ")
    assert (alone.safe, well.safe, badly.safe) == (False, True, False)
    assert "writes rooms anew" in badly.sentence()


def test_a_clone_that_told_nothing_settles_nothing():
    assert not judged("CALL move_rooms()", clone=Observation(finished=False)).safe


def test_python_that_cannot_be_told_as_sql_needs_the_clone():
    assert rules(judged(None)) == {"no-offline-sql"}
    assert judged(None, clone=Observation(finished=True)).safe


def test_each_operation_tells_its_lock_and_a_safe_way():
    index = next(operation for operation in judged("CREATE INDEX i ON rooms (note)").operations if operation.rule == "create-index")
    assert (index.lock, index.table, index.statement) == (Lock.SHARE, "rooms", 2)
    assert "CONCURRENTLY" in index.alternative
    assert index.sentence() == (
        "statement 2, create-index [SHARE on rooms]: writers wait while the index is built. "
        "Instead: write it with CONCURRENTLY inside op.get_context().autocommit_block()."
    )


def test_without_a_known_schema_nothing_is_concluded_from_what_is_missing():
    blank = Schema.read(None)
    assert rules(judged("CREATE OR REPLACE VIEW quiet AS SELECT 1", schema=blank)) == {"replace-view"}
    assert rules(judged("ALTER TABLE rooms ALTER COLUMN name TYPE text", schema=Schema.read(None))) == {"change-type-unknown"}


def test_without_a_known_old_version_a_new_restriction_needs_the_clone():
    sql = "ALTER TABLE days_old ADD CONSTRAINT c CHECK (n > 5) NOT VALID"
    assert rules(judged(sql, old_version=OldVersion.read(None))) == {"check-live-writes"}


def test_every_safe_way_is_spelled_out():
    silent = {"squawk", "clone"}
    assert {name for name, rule in RULES.items() if rule.safety != "safe" and not rule.alternative} - silent == set()


# -- squawk


def test_what_squawk_finds_is_an_objection_at_its_statement():
    verdict = judged("SELECT 1", squawk=(Finding(2, "ban-something", "It is banned."),))
    (found,) = [operation for operation in verdict.operations if operation.stops]
    assert (found.statement, found.rule, found.sql) == (2, "squawk:ban-something", "SELECT 1")


@pytest.mark.parametrize("rule", NOT_OBJECTED)
def test_what_is_left_out_of_squawk_s_report_has_a_reason(rule: str):
    assert judged("SELECT 1", squawk=(Finding(2, rule, "message"),)).safe
    assert len(NOT_OBJECTED[rule]) > 20


def test_a_migration_that_squawk_did_not_see_is_not_judged_and_so_not_safe():
    verdict = judged("SELECT 1", squawk=None)
    assert not verdict.safe
    assert verdict.sentence().startswith("not judged: ")
    assert not judged("SELECT 1", squawk=None, clone=Observation(finished=True)).safe


def test_what_squawk_cannot_parse_is_asked_of_postgresql():
    report = (Finding(2, "syntax-error", "expected command"),)
    assert not judged("SELECT 1", squawk=report).safe
    assert judged("SELECT 1", squawk=report, clone=Observation(finished=True)).safe


# -- waivers

TODAY = date(2026, 5, 4)


def waiver(
    rule: str = "drop-column", table: str = "rooms", reason: str = "no version since 1.2 reads it", until: date = TODAY
) -> MigrationWaiver:
    return MigrationWaiver(rule=rule, table=table, reason=reason, owner="ada", until=until)


def test_a_waiver_lets_its_rule_pass_on_its_table_and_is_shown():
    verdict = judged("ALTER TABLE rooms DROP COLUMN note", waivers=[waiver()], today=TODAY)
    assert verdict.safe
    (waived,) = verdict.waived
    assert waived.safety is Safety.UNSAFE
    assert "waived by ada until 2026-05-04: no version since 1.2 reads it" in waived.sentence()


@pytest.mark.parametrize(
    "other",
    [waiver(rule="rename"), waiver(table="bookings"), waiver(until=date(2026, 5, 3)), waiver(reason=" ")],
    ids=["another rule", "another table", "expired", "without a reason"],
)
def test_a_waiver_covers_nothing_else(other: MigrationWaiver):
    assert not judged("ALTER TABLE rooms DROP COLUMN note", waivers=[other], today=TODAY).safe


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE bookings VALIDATE CONSTRAINT bookings_room; {off}; ALTER TABLE rooms ADD COLUMN a int",
        "{off}; ALTER TABLE rooms ADD COLUMN a int; ALTER TABLE bookings VALIDATE CONSTRAINT bookings_room",
        "{off}; ALTER TABLE rooms ADD COLUMN a int; SET statement_timeout = '5s'; ALTER TABLE bookings VALIDATE CONSTRAINT bookings_room",
    ],
    ids=["online work before", "online work too", "online work under another limit"],
)
def test_the_statement_timeout_is_lifted_for_online_work_alone(sql: str) -> None:
    assert "timeout-off" in rules(judged(sql.format(off="SET statement_timeout = '0'")))


def test_the_statement_timeout_may_be_lifted_for_online_work() -> None:
    sql = "SET statement_timeout = '0'; ALTER TABLE bookings VALIDATE CONSTRAINT bookings_room; SET statement_timeout = '5s'"
    assert judged(sql).safe


def test_a_waiver_leaves_other_objections_standing():
    verdict = judged("ALTER TABLE rooms DROP COLUMN note; DROP TABLE bookings", waivers=[waiver(table="*")], today=TODAY)
    assert rules(verdict) >= {"drop"}
    assert not verdict.safe


# -- whatever is written

WORDS = """
ALTER TABLE rooms ADD COLUMN DROP CONSTRAINT CHECK ( ) note = 1 , ; TYPE text SET DEFAULT NOT NULL VALID CREATE INDEX ON UPDATE
WHERE id BEGIN COMMIT DO $$x;$$ 'a' USING UNIQUE WITH AS SELECT DELETE FROM INSERT INTO VALUES PARTITION OF TO FOR IN BETWEEN AND
LOCK PRIMARY KEY EXECUTE
"""
words = st.sampled_from(WORDS.split())


@settings(deadline=None)
@given(st.lists(words, max_size=25).map(" ".join))
def test_no_text_makes_the_judge_fall(sql: str):
    verdict = judged(sql, transaction=False)
    assert verdict.sentence()


@settings(deadline=None)
@given(st.sampled_from([case[1] for case in UNSAFE]), st.sampled_from([case[1] for case in SAFE]))
def test_a_hazard_is_found_after_harmless_statements_too(hazard: str, harmless: str):
    assert not judged(f"BEGIN; {harmless}; COMMIT; BEGIN; {hazard}; COMMIT", transaction=False).safe


@settings(deadline=None)
@given(st.sampled_from([case[1:] for case in UNSAFE]), st.booleans())
def test_comments_case_and_spaces_change_no_verdict(case: tuple[str, str], upper: bool):  # noqa: FBT001  drawn by hypothesis
    sql, rule = case
    quoted = "'" in sql or "$" in sql
    dressed = sql if quoted else (sql.upper() if upper else sql.lower())
    dressed = dressed.replace(" ", "\n  /* it's ; */ ") if not quoted else f"-- it's;\n{dressed} -- end"
    assert rule in rules(judged(dressed))


@pytest.mark.parametrize("spelled", ['"rooms"', "public.rooms", '"public"."rooms"', "ROOMS", "public . rooms"])
@each_with_rule(UNSAFE)
def test_a_table_may_be_spelled_in_any_way(sql: str, rule: str, spelled: str):
    respelled = re.sub(r"(?<!_)\brooms\b(?!_)(?!')", spelled, sql)
    assert rule in rules(judged(respelled))


@pytest.mark.parametrize("spelled", ['"rooms"', "public.rooms", "ROOMS"])
@each(SAFE)
def test_a_harmless_act_may_be_spelled_in_any_way(sql: str, spelled: str):
    assert rules(judged(re.sub(r"(?<!_)\brooms\b(?!_)(?!')(?!\.)", spelled, sql))) == set()


def test_a_name_in_quotes_with_another_case_is_another_table():
    assert rules(judged('CREATE TABLE "Rooms" (id int); CREATE INDEX i ON "Rooms" (id)')) == set()
    assert rules(judged('CREATE TABLE "Rooms" (id int); CREATE INDEX i ON rooms (note)')) == {"create-index"}
