from datetime import date

import pytest

from delivery.application import Smoke
from delivery.contraction import CONTRACTING, GONE, Contraction, Proof, Seen, Thing, contractions, gone, judge, proofs_in
from delivery.journal import Evidence
from delivery.migration_rules import RULES
from delivery.migrations import read_operations
from delivery.old_version import OldVersion
from delivery.operations import Lock, MigrationWaiver, Operation, Safety
from delivery.own_code import CodeSearch
from delivery.revisions import ReviewedRevision
from delivery.schema import Schema
from tests.samples import a_release


def an_operation(rule: str, table: str = "rooms") -> Operation:
    return Operation(1, "…", rule, Safety.SAFE, Lock.NONE, table, "", "")


def a_revision(*operations: Operation) -> ReviewedRevision:
    return ReviewedRevision("r1", ("r0",), "0" * 64, "", "", operations)


def labels(sql: str) -> list[str]:
    schema = Schema.read("CREATE TABLE rooms (id int, note text); CREATE TABLE notes (id int)")
    return [one.label for one in contractions(a_revision(*read_operations(sql, schema=schema, old_version=OldVersion.read(None))))]


def test_every_contracting_rule_is_a_rule_that_exists() -> None:
    assert RULES.keys() >= CONTRACTING


def test_what_contracts_is_told_once_and_what_expands_is_not() -> None:
    found = a_revision(an_operation("add-column"), an_operation("drop-column"), an_operation("drop-column"), an_operation("rights", ""))
    assert [one.label for one in contractions(found)] == ["drop-column on rooms", "rights on *"]


@pytest.mark.parametrize(
    ("sql", "label", "names"),
    [
        ("ALTER TABLE public.rooms DROP COLUMN IF EXISTS note", "drop-column on rooms: note", ("note",)),
        ("ALTER TABLE rooms DROP COLUMN note CASCADE", "cascade on rooms: note", ("note",)),
        ('ALTER TABLE rooms RENAME "note" TO remark', "rename on rooms: note", ("note",)),
        ("ALTER TABLE rooms RENAME TO halls", "rename on rooms", ("rooms",)),
        ("DROP TABLE attic.rooms", "drop on attic.rooms", ("rooms",)),
        ("DROP FUNCTION f(int)", "drop on f", ("f",)),
        ("DROP TRIGGER t ON rooms", "drop on rooms", ("rooms",)),
        ("ALTER VIEW quiet RENAME COLUMN id TO number", "rename on quiet: id", ("id",)),
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "rename on *: sad", ("sad",)),
        ("ALTER TYPE mood RENAME TO moods", "rename on *: mood", ("mood",)),
        ("ALTER TABLE rooms ALTER note DROP DEFAULT", "drop-default on rooms", ("rooms",)),
        ("REVOKE SELECT ON rooms FROM app", "rights on rooms", ("rooms",)),
    ],
)
def test_what_goes_is_known_by_the_name_that_code_would_use(sql: str, label: str, names: tuple[str, ...]) -> None:
    schema = Schema.read("CREATE TABLE rooms (id int, note text)")
    (found,) = contractions(a_revision(*read_operations(sql, schema=schema, old_version=OldVersion.read(None))))
    assert (found.label, found.names) == (label, names)


NOTE = Contraction("r1", "drop-column", "rooms", ("note",))
TIGHT = Contraction("r1", "set-not-null", "rooms", ("rooms",))


def seen(
    files: dict[str, bytes | None], *, worker: dict[str, bytes | None] | None = None, smoke: int = 1, written: int = 0, function: str = ""
) -> Seen:
    def searched(service: str, of: dict[str, bytes | None]) -> CodeSearch:
        search = CodeSearch(("note", "rooms"))
        for path, content in of.items():
            search.look(f"{service}:/srv/{path}", content)
        return search

    functions = CodeSearch(("note", "rooms"))
    if function:
        functions.look("the function sync()", function.encode())
    code = {"api": searched("api", files), "worker": searched("worker", {"jobs.py": b"x = 1\n"} if worker is None else worker)}
    return Seen(a_release(smoke=(Smoke("api", "/rooms"),) * smoke), code, functions, {"rooms": written} if written else {})


CLEAN: dict[str, bytes | None] = {"app.py": b"SELECT id FROM halls\n"}


def test_what_no_code_names_and_smoke_lives_through_is_proved_and_the_evidence_says_what_was_looked_at() -> None:
    proof = judge(NOTE, seen(CLEAN, function="SELECT 1"))
    assert proof.holds
    assert proof.sentence() == (
        "drop-column on rooms: note: proved beside v1.1.0-110aaaaa: note is named in none of 2 files of api, worker and 1 function of the "
        "database, and its 1 smoke request went well afterwards"
    )


@pytest.mark.parametrize(
    ("found", "how"),
    [
        (seen({"app.py": b"\n\nrow.note"}), "note is named in api:/srv/app.py:3"),
        (seen(CLEAN, worker={"jobs.py": b"note"}), "note is named in worker:/srv/jobs.py:1"),
        (seen(CLEAN, function="BEGIN\n NEW.note := 1"), "note is named in the function sync():2"),
        (seen({f"{n}.py": b"note" for n in range(5)}), "note is named in api:/srv/0.py:1, api:/srv/1.py:1, api:/srv/2.py:1 (and 2 more)"),
        (seen(CLEAN, smoke=0), "it declares no smoke request"),
        (seen(CLEAN, worker={}), "no code was found in its image of worker"),
        (seen({**CLEAN, "big.bin": None}), "api:/srv/big.bin cannot be read"),
        (seen({**CLEAN, "lib.zip": b"PK"}), "api:/srv/lib.zip cannot be read"),
    ],
)
def test_everything_else_is_not_proved_and_the_place_is_named(found: Seen, how: str) -> None:
    proof = judge(NOTE, found)
    assert (proof.holds, proof.how) == (False, how)


def test_an_image_that_several_services_share_is_counted_once() -> None:
    both = seen(CLEAN)
    shared = Seen(both.release, {"api": both.code["api"], "worker": both.code["api"]}, both.functions, {})
    assert "none of 1 file of api, worker" in judge(NOTE, shared).how


def test_what_has_no_name_is_not_proved_by_searching_for_nothing() -> None:
    assert judge(Contraction("r1", "cascade", ""), seen(CLEAN)).how == "what is taken away has no name that its code could be searched for"


def test_what_only_tightens_is_proved_by_a_row_that_was_written_afterwards() -> None:
    uses: dict[str, bytes | None] = {"app.py": b"INSERT INTO rooms"}
    assert judge(TIGHT, seen(uses)).how == "rooms is named in api:/srv/app.py:1, and no smoke request of it wrote a row of rooms"
    assert judge(TIGHT, seen(uses, written=2)) == Proof(
        TIGHT, "v1.1.0-110aaaaa", True, "its smoke requests wrote 2 rows of rooms afterwards"
    )
    assert not judge(Contraction("r1", "drop", "rooms", ("rooms",)), seen(uses, written=2)).holds


THERE = (
    Thing("relation", "", "rooms"), Thing("column", "rooms", "id"), Thing("column", "rooms", "note"), Thing("function", "", "sync"),
    Thing("type", "", "mood"), Thing("value", "mood", "sad"), Thing("value", "mood", "glad"), Thing("column", "halls", "id"),
)  # fmt: skip


def without(*lost: tuple[str, str, str]) -> list[Thing]:
    return [thing for thing in THERE if (thing.kind, thing.of, thing.name) not in lost]


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ([("column", "rooms", "note")], ["gone on rooms: note"]),
        ([("relation", "", "rooms"), ("column", "rooms", "id"), ("column", "rooms", "note")], ["gone on rooms"]),
        ([("function", "", "sync")], ["gone on sync"]),
        ([("value", "mood", "sad")], ["gone on mood: sad"]),
        ([("type", "", "mood"), ("value", "mood", "sad"), ("value", "mood", "glad")], ["gone on mood"]),
        ([], []),
    ],
)
def test_what_the_copy_no_longer_has_contracts_although_no_statement_says_so(lost: list[tuple[str, str, str]], expected: list[str]) -> None:
    found = gone(THERE, without(*lost), [a_revision()])
    assert [one.label for one in found] == expected
    assert {one.rule for one in found} <= {GONE}


def test_what_a_statement_says_is_not_told_twice() -> None:
    schema = Schema.read("CREATE TABLE rooms (id int, note text)")
    sql = "ALTER TABLE rooms DROP COLUMN note; DROP FUNCTION sync"
    revision = a_revision(*read_operations(sql, schema=schema, old_version=OldVersion.read(None)))
    assert gone(THERE, without(("column", "rooms", "note"), ("function", "", "sync")), [revision]) == ()


def test_a_proof_comes_back_from_the_journal_and_what_is_malformed_proves_nothing() -> None:
    proof = Proof(NOTE, "v1.1.0-110aaaaa", True, "well")
    facts = proof.facts()
    assert proofs_in(Evidence(well=True, summary="", facts={"contractions": [facts]})) == (proof,)
    for broken in ({**facts, "holds": "yes"}, {**facts, "names": "note"}, {**facts, "release": None}, "x", {}):
        assert proofs_in(Evidence(well=True, summary="", facts={"contractions": [broken]})) == ()
    assert proofs_in(None) == proofs_in(Evidence(well=True, summary="")) == ()


def test_only_a_waiver_of_contractions_answers_for_one_on_its_table_until_its_last_day() -> None:
    def waiver(rule: str, table: str) -> MigrationWaiver:
        return MigrationWaiver(rule=rule, table=table, reason="it is empty", owner="Bea", until=date(2026, 1, 2))

    assert NOTE.waiver([waiver("clone", "*"), waiver("drop-column", "rooms"), waiver("contraction", "halls")], date(2026, 1, 1)) is None
    for table in ("rooms", "*"):
        assert NOTE.waiver([waiver("contraction", table)], date(2026, 1, 2)) == waiver("contraction", table)
        assert NOTE.waiver([waiver("contraction", table)], date(2026, 1, 3)) is None
