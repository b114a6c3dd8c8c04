from pathlib import Path

import pytest

from blocks.journal import SqlJournal
from blocks.settings import settings
from cli.release import why_of
from delivery.errors import InvalidSettings
from tests.cli.test_status import rolled_out


@pytest.fixture(autouse=True)
def a_journal_with_one_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_DATABASE_URL", f"sqlite:///{tmp_path / 'journal.db'}")
    journal = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    journal.migrate()
    rolled_out(journal, "1.0.0")
    journal.close()


def test_what_nobody_says_is_no_parameter_so_that_callers_of_before_are_answered_as_before():
    assert why_of(settings(), planned=True, remediates=None) == {}


def test_what_is_said_goes_into_the_run():
    assert why_of(settings(), planned=False, remediates="production-1") == {"planned": False, "remediates": "production-1"}


def test_a_remedy_for_what_never_was_is_refused_before_a_run_is_made():
    with pytest.raises(InvalidSettings, match="Unknown rollout: got 'production-7', expected one that was opened: production-1"):
        why_of(settings(), planned=True, remediates="production-7")
