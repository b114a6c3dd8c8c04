from collections.abc import Callable
from pathlib import Path

import pytest

from cli.main import run
from tests.bad_input.samples import PLANTED, PRODUCTION, STAGING, TOKEN


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of which nothing is there but its environment files."""
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "production.toml").write_text(PRODUCTION)
    (tmp_path / "environments" / "staging.toml").write_text(STAGING)
    for name in ("PREFECT_API_AUTH_STRING", "GREENROOM_DATABASE_URL", "GREENROOM_BLOCKS_FILE", "GREENROOM_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GREENROOM_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("GREENROOM_ENVIRONMENTS_DIR", str(tmp_path / "environments"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    return tmp_path


@pytest.fixture
def refusal(room: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command line says of arguments that it refuses: exit code 2, nothing on standard output, no file, no journal."""

    def refused(*arguments: str) -> str:
        before = sorted(room.rglob("*"))
        code = run(arguments)
        said = capsys.readouterr()
        assert (code, said.out) == (2, ""), said
        assert sorted(room.rglob("*")) == before
        assert "Traceback" not in said.err
        assert not any(secret in said.err for secret in (PLANTED, TOKEN))
        return said.err

    return refused
