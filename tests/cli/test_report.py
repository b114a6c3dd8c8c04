"""`greenroom report`, as a person at a terminal meets it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.journal import SqlJournal
from cli.main import run
from tests.cli.test_status import rolled_out


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlJournal]:
    monkeypatch.setenv("GREENROOM_DATABASE_URL", f"sqlite:///{tmp_path / 'journal.db'}")
    monkeypatch.chdir(tmp_path)
    journal = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    journal.migrate()
    rolled_out(journal, "1.0.0")
    yield journal
    journal.close()


@pytest.mark.parametrize(("arguments", "file"), [([], "production-1.html"), (["folder/it.html"], "folder/it.html")])
def test_the_report_is_written_and_named(arguments: list[str], file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["report", "production-1", *arguments]) == 0
    verdict, where = capsys.readouterr().out.splitlines()
    assert (verdict, where) == ("Production runs v1.0.0.", f"Its report: {file}")
    assert "<h1>Production runs v1.0.0.</h1>" in (tmp_path / file).read_text()


def test_a_rollout_that_never_was_is_refused_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["report", "production-7"]) == 2
    assert "Unknown rollout: got 'production-7'" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a folder").mkdir()
    assert run(["report", "production-1", "a folder"]) == 1
    assert "a folder cannot be written: Is a directory." in capsys.readouterr().err
    assert not list(tmp_path.glob(".a folder*"))
