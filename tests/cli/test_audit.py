"""`greenroom audit verify`, as a person at a terminal meets it, on a journal that somebody has changed."""

import json
import sqlite3
from pathlib import Path

import pytest

from blocks.journal import SqlJournal
from cli.main import run
from delivery.approval import Approval
from tests.cli.test_status import TTL, begun, planned, rolled_out, store
from tests.samples import a_release

__all__ = ["store"]  # a fixture of the neighbour's


def audit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run(["audit", "verify", *arguments])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def change(tmp_path: Path, *statements: str) -> None:
    with sqlite3.connect(tmp_path / "journal.db") as database:
        for statement in statements:
            assert database.execute(statement).rowcount >= 1


def head(capsys: pytest.CaptureFixture[str]) -> str:
    [found] = json.loads(audit(capsys, "-e", "production", "--json")[1])
    return str(found["head"])


def test_every_act_in_production_is_listed_with_who_and_when(store: SqlJournal, capsys: pytest.CaptureFixture[str]) -> None:
    request = store.open_request(planned(store, a_release("1.0.0")), key="run", expires_at=store.now() + TTL)
    store.decide(request.number, Approval("Bea", "approve", "it is good", "cli", store.now()))
    rolled_out(store, "1.0.0")
    rolled_out(store, "1.1.0", sick_at="watch-50")
    code, shown = audit(capsys, "-e", "production")
    assert code == 0
    lines = shown.splitlines()
    assert lines[0] == "production: 2 rollouts, every chain is whole"
    assert lines[-1].startswith("  head  production-2:")
    for told in (
        "request 1         approve by Bea through cli: it is good",
        "production-1      opened by Ann: ",
        "production-2      shift-10 begun (try 1, fence 2)",
        "production-1      promoted v1.0.0-",
        "production-2      watch-50 SICK: error rate 8.1 %",
        "production-2      ended ROLLED_BACK: Production is back on v1.0.0.",
    ):
        assert told in shown


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE entries SET payload = replace(payload, 'fine', 'good') WHERE rollout = 'production-1'", "Entry 3 of rollout production-1"),
        ("DELETE FROM entries WHERE rollout = 'production-2' AND sequence = 4", "Entry 4 of rollout production-2 is missing"),
        ("UPDATE rollouts SET ending = 'LIVE' WHERE id = 'production-2'", "The end of rollout production-2 does not fit"),
    ],
)
def test_a_changed_entry_is_named_and_the_exit_code_says_so(
    store: SqlJournal, tmp_path: Path, capsys: pytest.CaptureFixture[str], statement: str, told: str
) -> None:
    rolled_out(store, "1.0.0")
    rolled_out(store, "1.1.0", sick_at="watch-50")
    change(tmp_path, statement)
    code, shown = audit(capsys)
    assert code == 1
    assert "production: 2 rollouts, THE JOURNAL WAS CHANGED" in shown
    assert f"BROKEN  {told}" in shown
    assert "head" not in shown


def test_a_rollout_that_was_taken_out_of_the_middle_is_missed(
    store: SqlJournal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        rolled_out(store, version)
    change(tmp_path, "DELETE FROM entries WHERE rollout = 'production-2'", "DELETE FROM rollouts WHERE id = 'production-2'")
    code, shown = audit(capsys, "-e", "production", "--quiet")
    assert (code, "BROKEN  Rollout production-2 is missing." in shown) == (1, True)


def test_a_noted_head_is_still_there_after_more_rollouts(store: SqlJournal, capsys: pytest.CaptureFixture[str]) -> None:
    rolled_out(store, "1.0.0")
    noted = head(capsys)
    rolled_out(store, "1.1.0")
    begun(store, "1.2.0", until="shift-10")
    assert audit(capsys, "--noted", noted)[0] == 0


def test_a_newest_rollout_that_was_taken_away_is_missed_by_the_head_that_was_noted(
    store: SqlJournal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rolled_out(store, "1.0.0")
    rolled_out(store, "1.1.0")
    noted = head(capsys)
    change(tmp_path, "DELETE FROM entries WHERE rollout = 'production-2'", "DELETE FROM rollouts WHERE id = 'production-2'")
    assert audit(capsys)[0] == 0  # nothing in the journal itself can tell
    code, shown = audit(capsys, "--noted", noted)
    assert (code, "the journal does not have it" in shown) == (2, True)


def test_an_environment_whose_file_is_gone_is_still_answered_for(
    store: SqlJournal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rolled_out(store, "1.0.0")
    for file in tmp_path.rglob("production.toml"):
        file.unlink()
    assert "production: 1 rollouts, every chain is whole" in audit(capsys)[1]


def test_an_unknown_environment_is_refused(store: SqlJournal, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.now()
    assert audit(capsys, "-e", "prodction")[0] == 2
