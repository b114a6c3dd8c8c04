import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.main import run
from delivery.migrations import Finding

SETUP = """
CREATE TABLE rooms (id bigint PRIMARY KEY, name varchar(40), note text, fee int);
INSERT INTO rooms SELECT g, 'room', 'n', g FROM generate_series(1, 20000) g;
"""
OLD = ["SELECT id, name, note FROM rooms LIMIT 1", "UPDATE rooms SET fee = fee + 1 WHERE id = 1"]


@pytest.fixture(autouse=True)
def nothing_lent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GREENROOM_REPLAY_DATABASE_URL", raising=False)


def case(identity: int | str, sql: str | None, **more: Any) -> dict[str, Any]:
    return {"id": identity, "sql": sql, "alembic": "", **more}


def written(tmp_path: Path, *cases: Any, **more: Any) -> str:
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({"setup_sql": SETUP, "old_version_statements": OLD, "cases": cases, **more}))
    return str(file)


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run(["replay", "migrations", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


COLUMN = "BEGIN; ALTER TABLE rooms ADD COLUMN floor int; COMMIT;"
INDEX = "BEGIN; CREATE INDEX i ON rooms (note); COMMIT;"
CHECK = "BEGIN; ALTER TABLE rooms ADD CONSTRAINT c CHECK (fee >= 0) NOT VALID; COMMIT;"
STRICT = "BEGIN; ALTER TABLE rooms ADD CONSTRAINT c CHECK (fee > 50) NOT VALID; COMMIT;"
PYTHON = 'for i in range(1, 1500):\n    op.get_bind().execute(sa.text("UPDATE rooms SET note = :n WHERE id = :i"), {"n": "a", "i": i})'
ALL = (case("column", COLUMN), case(2, INDEX), case("check", CHECK), case("strict", STRICT), case("python", None, alembic=PYTHON))


def test_each_case_gives_one_line_with_its_id_its_verdict_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    lines = replayed(capsys, written(tmp_path, *ALL))
    assert [(line["id"], line["verdict"]) for line in lines] == [
        ("column", "safe"),
        (2, "unsafe"),
        ("check", "unsafe"),
        ("strict", "unsafe"),
        ("python", "unsafe"),
    ]
    assert lines[1]["reason"].startswith("statement 2, create-index [SHARE on rooms]: writers wait")
    assert [line["reason"].partition(":")[0] for line in lines[2:]] == 3 * ["needs the clone"]
    assert all(set(line) == {"id", "verdict", "reason"} for line in lines)


@pytest.mark.postgresql
@pytest.mark.parametrize("told_by", ["option", "variable"])
def test_a_lent_database_decides_what_the_text_does_not_tell(
    told_by: str, postgresql: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    arguments = [written(tmp_path, *ALL)]
    if told_by == "option":
        arguments += ["--database-url", postgresql]
    else:
        monkeypatch.setenv("GREENROOM_REPLAY_DATABASE_URL", postgresql)
    lines = replayed(capsys, *arguments)
    assert [line["verdict"] for line in lines] == ["safe", "unsafe", "safe", "unsafe", "unsafe"]
    assert "proven on the clone" in lines[2]["reason"]
    assert "the live version's statement 2 fails: new row for relation" in lines[3]["reason"]
    assert "sends 1,499 writes one after another" in lines[4]["reason"]
    with psycopg.connect(postgresql) as connection:
        assert connection.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchone() == (0,)


@pytest.mark.postgresql
def test_a_database_that_is_not_empty_is_refused_before_anything_is_printed(
    postgresql: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE TABLE treasure (n int)")
        try:
            assert run(["replay", "migrations", written(tmp_path, *ALL), "--database-url", postgresql]) == 2
        finally:
            connection.execute("DROP TABLE treasure")
    out, err = capsys.readouterr()
    assert out == ""
    what, next_step = err.splitlines()
    assert "got one that holds relation public.treasure, expected an empty one. Nothing was touched." in what
    assert next_step.startswith("Next: ")


@pytest.mark.postgresql
def test_without_known_statements_of_the_live_version_a_clone_proves_nothing(
    postgresql: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (line,) = replayed(capsys, written(tmp_path, case(1, CHECK), old_version_statements=None), "--database-url", postgresql)
    assert line["verdict"] == "unsafe"


def test_a_case_may_bring_a_schema_and_statements_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wider = "BEGIN; ALTER TABLE halls ALTER COLUMN name TYPE text; COMMIT;"
    own = case("own", wider, setup_sql="CREATE TABLE halls (name varchar(9))", old_version_statements=["SELECT name FROM halls"])
    assert [line["verdict"] for line in replayed(capsys, written(tmp_path, own, case("file's", wider)))] == ["safe", "unsafe"]


NAMES = ["expected", "severity", "hazards", "reason", "title", "safe_alternative", "offline_error"]
NAMES += ["squawk_verdict", "squawk_safety", "safemigrate_verdict", "clone_verdict", "clone_reasons", "measured_pg15"]


@pytest.mark.parametrize("lie", ["safe", "unsafe", "block", "", None, [], {"error": "fails", "rewritten": ["rooms"]}])
def test_what_others_expected_or_measured_is_not_read(lie: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    honest = replayed(capsys, written(tmp_path, *ALL))
    lying = [entry | dict.fromkeys(NAMES, lie) for entry in ALL]
    assert replayed(capsys, written(tmp_path, *lying, about="all is safe")) == honest


def test_neither_names_nor_comments_decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    renamed = [
        entry | {"id": number, "sql": f"-- safe: reviewed\n{entry['sql']}" if entry["sql"] else None} for number, entry in enumerate(ALL)
    ]
    verdicts = [line["verdict"] for line in replayed(capsys, written(tmp_path, *ALL))]
    assert [line["verdict"] for line in replayed(capsys, written(tmp_path, *renamed))] == verdicts


def test_without_squawk_nothing_is_called_safe(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def away(_: str) -> tuple[Finding, ...] | None:
        return None

    monkeypatch.setattr("tasks.squawk.read_with_squawk", away)
    (line,) = replayed(capsys, written(tmp_path, case("column", COLUMN)))
    assert line["verdict"] == "unsafe"
    assert line["reason"].startswith("not judged: ")


@pytest.mark.parametrize(
    ("cases", "more", "told"),
    [
        ([7], {}, "cases[0]: got 7, expected an object"),
        ([{"sql": "SELECT 1"}], {}, "cases[0]: got no id"),
        ([case("a", COLUMN), {"id": 1, "sql": 7}], {}, "cases[1].sql: got 7, expected a string or null"),
        ([case([], COLUMN)], {}, "cases[0].id: got [], expected a number or a string"),  # type: ignore[arg-type]
        ([case("a", COLUMN, alembic=7)], {}, "cases[0].alembic: got 7"),
        ([case("a", COLUMN)], {"setup_sql": 7}, ".setup_sql: got 7"),
        (
            [case("a", COLUMN)],
            {"old_version_statements": "SELECT 1"},
            '.old_version_statements: got "SELECT 1", expected a list of strings',
        ),
    ],
)
def test_a_malformed_file_is_refused_before_anything_is_printed(
    cases: list[Any], more: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["replay", "migrations", written(tmp_path, *cases, **more)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err.splitlines()[0]


def test_a_wrong_address_is_refused_without_its_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    url = "postgresql://stage:sekret@127.0.0.1:1/none"
    assert run(["replay", "migrations", written(tmp_path, *ALL), "--database-url", url]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "sekret" not in err
    assert "none on 127.0.0.1:1: got no connection" in err
