"""The command itself; what it does is in tests/flows/test_steward.py."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import run

PRODUCTION = '[environment]\nname = "production"\ntarget = "docker-target/production"\n'


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "production.toml").write_text(PRODUCTION)
    for name in [name for name in os.environ if name.startswith(("GREENROOM_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GREENROOM_WORK_DIR", str(tmp_path))
    monkeypatch.setenv("GREENROOM_ENVIRONMENTS_DIR", str(tmp_path / "environments"))
    monkeypatch.setenv("GREENROOM_UI_URL", "http://127.0.0.1:9")
    return tmp_path


def test_without_a_blocks_file_it_does_not_begin(installation: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["steward", "--once"]) == 2
    assert f"There is no blocks file {installation / 'blocks.toml'}" in capsys.readouterr().err


@pytest.mark.processes
def test_it_ends_at_sigterm(installation: Path):
    (installation / "blocks.toml").touch(mode=0o600)
    process = subprocess.Popen([sys.executable, "-m", "cli.main", "steward"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert "The steward looks into the journal every 2 s." in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert told.splitlines()[-1].endswith("The steward has ended.")


@pytest.mark.processes
def test_its_first_look_does_not_wait_for_prefect():
    asked = "import sys; import cli.steward; print('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True).stdout == "False\n"
