"""The revisions form one line and their SQL can be printed without a database."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

CONFIG = Path(__file__).parent.parent / "alembic.ini"


def test_there_is_one_head() -> None:
    script = ScriptDirectory.from_config(Config(CONFIG))
    assert len(script.get_heads()) == 1


def test_the_sql_waits_only_briefly_for_locks_and_only_adds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command.upgrade(Config(CONFIG), "head", sql=True)
    sql = capsys.readouterr().out
    assert "SET lock_timeout" in sql
    assert "DROP" not in sql
