import sys
from pathlib import Path

import pytest
from plumbum import local

from delivery.migrations import Finding
from tasks.squawk import read_with_squawk


def found(sql: str) -> set[tuple[int, str]]:
    report = read_with_squawk(sql)
    assert report is not None
    return {(finding.statement, finding.rule) for finding in report}


def test_a_finding_names_its_statement():
    sql = "BEGIN;\nALTER TABLE rooms ADD COLUMN floor int NOT NULL;\n\n\nCREATE INDEX i ON rooms (floor);\nCOMMIT;"
    assert {(2, "adding-required-field"), (3, "require-concurrent-index-creation")} <= found(sql)


def test_texts_of_several_lines_do_not_shift_the_statements():
    assert (3, "require-concurrent-index-creation") in found("SELECT 'a\n\nb'; SELECT $$\n\n$$;\nCREATE INDEX i ON rooms (floor)")


@pytest.mark.parametrize("comment", ["-- squawk-ignore require-concurrent-index-creation\n", "-- squawk-ignore-file\n"])
def test_a_comment_in_the_migration_cannot_make_it_look_away(comment: str):
    assert (1, "require-concurrent-index-creation") in found(f"{comment}CREATE INDEX i ON rooms (floor);")


def test_a_settings_file_of_the_application_cannot_make_it_look_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".squawk.toml").write_text('excluded_rules = ["require-concurrent-index-creation"]\n')
    monkeypatch.chdir(tmp_path)
    assert (1, "require-concurrent-index-creation") in found("CREATE INDEX i ON rooms (floor);")


def test_nothing_to_object_to_is_an_empty_report_and_not_none():
    assert read_with_squawk("SELECT 1") == ()
    assert read_with_squawk("") == ()


def test_what_it_cannot_parse_is_a_finding():
    report = read_with_squawk("FROBNICATE rooms")
    assert report
    assert isinstance(report[0], Finding)
    assert report[0].rule == "syntax-error"


@pytest.mark.parametrize(
    "script",
    [None, "exit 0", "echo '{}'", "echo 'usage: squawk'; exit 2", "echo '[{\"line\": 0}]'"],
    ids=["missing", "silent", "not a list", "another program", "another format"],
)
def test_a_squawk_that_did_not_look_is_none(script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if script is not None:
        program = tmp_path / "squawk"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with local.env(PATH="/usr/bin:/bin"):
        assert read_with_squawk("CREATE INDEX i ON rooms (floor);") is None


def test_its_environment_holds_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program, told = tmp_path / "squawk", tmp_path / "told"
    program.write_text(f"#!/bin/sh\n/usr/bin/env > {told}\necho '[]'\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("GREENROOM_SECRET", "sekret")
    assert read_with_squawk("SELECT 1") == ()
    assert "sekret" not in told.read_text()
