import json
import socket
from pathlib import Path
from typing import Any

import pytest

from blocks.settings import settings
from blocks.signing import make_key_pair
from cli.doctor import Examination, _is_loopback, _listening
from cli.main import run
from delivery.errors import InvalidSettings
from deployments.keys import main as make_keys
from flows.heartbeat import beat
from tests.tasks.small_server import serving


@pytest.fixture
def examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The findings on an installation of which nothing is there but a folder and an environment file."""
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "production.toml").write_text('[environment]\nname = "production"\ntarget = "production"\n')
    monkeypatch.setenv("GREENROOM_WORK_DIR", str(tmp_path / "room"))
    monkeypatch.setenv("GREENROOM_ENVIRONMENTS_DIR", str(tmp_path / "environments"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    for name in ("GREENROOM_DATABASE_URL", "GREENROOM_BLOCKS_FILE", "GREENROOM_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    assert run(["doctor", "--json"]) == 1
    return {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_each_thing_that_is_missing_is_named_with_its_next_step(examined: dict[str, Any]):
    for name in ("blocks file", "registry", "signing key", "environment production", "Prefect server", "repository"):
        assert examined[name]["verdict"] == "missing", name
        assert examined[name]["next"], name


def test_what_is_there_is_found_beside_what_is_missing(examined: dict[str, Any]):
    assert examined["journal"]["verdict"] == "ok"
    assert examined["abandoned rollouts"]["evidence"] == "none"


def test_what_an_environment_gives_is_an_item_of_its_own(examined: dict[str, Any]):
    assert examined["values of production"]["verdict"] == "missing"
    assert examined["values of production"]["evidence"].startswith("There is no blocks file")


@pytest.mark.parametrize(
    ("enabled", "verdict", "evidence"),
    [
        (["events"], "look", "are kept for ever"),
        (["events", "flow_runs"], "ok", "are deleted by its server after 30 days"),
        (None, "look", "Prefect's server does not tell for how long it keeps runs."),
    ],
)
def test_it_tells_for_how_long_prefect_keeps_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: list[str] | None, verdict: str, evidence: str
) -> None:
    monkeypatch.setenv("GREENROOM_WORK_DIR", str(tmp_path))
    page = json.dumps({"server": {"services": {"db_vacuum": {"enabled": enabled, "retention_period": "P30D"}}}})
    with serving({"/api/health": (200, "true"), "/api/admin/settings": (200, page)}) as url:
        monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
        found = Examination(settings())._old_runs("Prefect's old runs")
    assert (found.verdict, found.evidence) == (verdict, evidence)
    assert bool(found.next) is (verdict == "look")


def test_it_sees_on_which_address_a_server_listens():
    with socket.create_server(("127.0.0.1", 0)) as private, socket.create_server(("0.0.0.0", 0)) as public:  # noqa: S104  for a moment
        [here], [everywhere] = _listening(private.getsockname()[1]), _listening(public.getsockname()[1])
    assert (here, _is_loopback(here)) == ("127.0.0.1", True)
    assert (everywhere, _is_loopback(everywhere)) == ("0.0.0.0", False)  # noqa: S104


def with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with the key that `deployments.keys` makes, and its block; returns the folder of trusted keys."""
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "production.toml").write_text('[environment]\nname = "production"\ntarget = "production"\n')
    monkeypatch.setenv("GREENROOM_WORK_DIR", str(tmp_path / "room"))
    monkeypatch.setenv("GREENROOM_ENVIRONMENTS_DIR", str(tmp_path / "environments"))
    assert make_keys() == 0
    (tmp_path / "room" / "blocks.toml").touch(mode=0o600)
    (tmp_path / "room" / "blocks.toml").write_text(f'[signing-key.default]\nfile = "{tmp_path}/room/signing.key"\n')
    return tmp_path / "environments" / "keys"


def test_a_key_whose_public_half_is_trusted_is_all_that_signing_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with_a_key(tmp_path, monkeypatch)
    found = Examination(settings())._signing_key("signing key")
    assert (found.verdict, found.evidence) == ("ok", "signs, and is trusted by production")


def test_a_key_that_nobody_trusts_is_found_before_a_release_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keys = with_a_key(tmp_path, monkeypatch)
    make_key_pair(tmp_path / "other.key", keys / "release.pub")
    with pytest.raises(InvalidSettings, match="trusted by none of the keys of production"):
        Examination(settings())._signing_key("signing key")


def test_a_steward_that_does_not_look_is_worth_a_look(examined: dict[str, Any]):
    assert examined["steward"]["verdict"] == "look"
    assert "none has ever run here" in examined["steward"]["evidence"]


def test_a_steward_that_looks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GREENROOM_WORK_DIR", str(tmp_path))
    beat(settings())
    assert Examination(settings())._steward("steward").verdict == "ok"
