"""Rows of the corpus that blocks, settings of this installation and commands can have."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blocks.local import local_blocks
from blocks.settings import Settings
from cli.main import run
from delivery.errors import InvalidSettings
from tests.bad_input.samples import PLANTED, RELEASE, SHA

BLOCKS = [
    ("24", "[docker-target.production]\n", "docker-target.production.network: got a value that does not fit, expected: Field required"),
    ("25", "[docker-target.production]\ncluster = 'x'\n", "docker-target.production.cluster: got an unknown key, expected one of:"),
    ("44", f"[oci-registry.default]\nhost = 'https://u:{PLANTED}@r.example'\n", "oci-registry.default.host: got a value that does not fit"),
    ("60", f"[slack-notifier.team]\nwebhook = 'http://slack.example/{PLANTED}'\n", "webhook: got an address that is spoken to"),
    ("60", f"[webhook-notifier.team]\nurl = 'http://chat.example/{PLANTED}'\n", "url: got an address that is spoken to in the clear"),
    ("60", f"[webhook-notifier.team]\nurl = 'https://me:{PLANTED}@chat.example/'\n", "url: got an address with a login in it (not shown)"),
    ("60", f"[webhook-notifier.team]\nurl = 'file:///{PLANTED}'\n", "url: got what is no address, expected https://host/path"),
    ("60", f"[slack-notifier.team]\ntoken = '{PLANTED}'\nchannel = 'x'\napi_url = 'http://s.example/'\n", "spoken to in the clear"),
    ("60", f"[prometheus-metrics.p]\nurl = 'http://me:{PLANTED}@p.example'\ngauges.x = 'y'\n", "login in it (not shown)"),
    ("60", f"[traefik-metrics.p]\nenvironment = 'p'\nadmin_url = 'http://me:{PLANTED}@t.example'\n", "login in it (not shown)"),
    ("6", f"[git-credential.default]\ntoken = '{PLANTED}'\ntoken = '{PLANTED}'\n", ":3: not TOML: git-credential.default.token is there"),
    ("9", "#" * 2_000_000, "is larger than 1 MB"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "text", "said"), BLOCKS)
def test_what_cannot_be_meant_in_the_blocks_file_is_named_without_its_values(tmp_path: Path, row: str, text: str, said: str) -> None:
    (tmp_path / "blocks.toml").write_text(text)
    (tmp_path / "blocks.toml").chmod(0o600)
    with pytest.raises(InvalidSettings) as refused:
        local_blocks(Settings(work_dir=tmp_path))
    assert said in refused.value.what, row
    assert refused.value.what.startswith(str(tmp_path / "blocks.toml"))
    assert PLANTED not in str(refused.value)


VARIABLES = [
    ("48", "DATABASE_URL", f"mysql://me:{PLANTED}@db/x", "GREENROOM_DATABASE_URL: got a value that is not shown, expected sqlite:///"),
    ("60", "KEEP_RELEASES", "0", "GREENROOM_KEEP_RELEASES: got '0', expected greater than or equal to 2"),
    ("60", "KEEP_BACKUPS", "1", "GREENROOM_KEEP_BACKUPS: got '1', expected greater than or equal to 2"),
    ("60", "UI_URL", f"http://me:{PLANTED}@prefect.example", "GREENROOM_UI_URL: got a value that is not shown, expected one without"),
    ("11", "KEEP_RELEASE", "3", "GREENROOM_KEEP_RELEASE: got an unknown setting, expected GREENROOM_KEEP_RELEASES"),
]


@pytest.mark.parametrize(("row", "name", "value", "said"), VARIABLES)
def test_a_setting_that_cannot_be_meant_ends_every_command(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, row: str, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"GREENROOM_{name}", value)
    assert said in refusal("promote", RELEASE), row


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://prefect.example:4200/api", "PREFECT_API_URL: got an address that is spoken to in the clear, expected https://"),
        (f"https://me:{PLANTED}@prefect.example/api", "PREFECT_API_URL: got an address with a login in it (not shown)"),
        ("prefect.example", "PREFECT_API_URL: got what is no address"),
    ],
)
def test_credentials_go_to_prefect_in_the_clear_on_this_machine_only(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", f"me:{PLANTED}")
    assert said in refusal("release", SHA)


COMMANDS = [
    ("52", ("release", SHA, "--version", "v1.2"), "Not a version: got 'v1.2', expected MAJOR.MINOR.PATCH"),
    ("52", ("release", SHA, "--version", "1.2.3; rm -rf /"), "Not a version: got '1.2.3; rm -rf /'"),
    ("52", ("release", SHA, "--version", "v1.2.3\n"), r"Not a version: got 'v1.2.3\n'"),
    ("52", ("release", SHA, "--version", "1.2.٣"), "Not a version: got '1.2.٣'"),
    ("53", ("promote", RELEASE, "producton"), "Unknown environment: got 'producton', expected one of: production, staging"),
    ("53", ("promote", RELEASE, "../production"), "Unknown environment: got '../production'"),
    ("53", ("unhold", "prodction", "-r", "it is well"), "Did you mean production?"),
    ("54", ("release", "main"), "Not a commit: got 'main', expected 40 lower-case hex digits"),
    ("54", ("release", "--", "--upload-pack=x"), "Not a commit: got '--upload-pack=x'"),
    ("54", ("release", "a..b"), "Not a commit: got 'a..b'"),
    ("54", ("release", "a" * 300), "Not a commit: got 'aaaa"),
    ("54", ("release", SHA + "\n"), "Not a commit: got"),
    ("55", ("release",), "Missing argument 'SHA'"),
    ("55", ("release", SHA, "--until", "moon"), "'moon' is not one of"),
    ("55", ("release", SHA, "--colour", "green"), "No such option"),
    ("56", ("approve", "seven", "-r", "x"), "Invalid value for 'NUMBER'"),
    ("56", ("approve", "1", "-r", "  "), "No reason was given."),
    ("57", ("rollback", "production", "-r", " "), "No reason was given."),
    ("57", ("rollback", "production", "-r", "x", "--version", "latest"), "Not a version: got 'latest'"),
]


@pytest.mark.parametrize(("row", "arguments", "said"), COMMANDS)
def test_a_command_that_cannot_be_meant_does_nothing(refusal: Callable[..., str], row: str, arguments: tuple[str, ...], said: str) -> None:
    assert said in refusal(*arguments), row


@pytest.mark.usefixtures("room")
def test_going_back_to_what_nobody_released_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rollback", "production", "-r", "x", "--version", "9.9.9", "--via", "direct"]) == 2
    assert "9.9.9" in capsys.readouterr().err
    assert run(["approve", "7", "-r", "because"]) == 2
    assert "7" in capsys.readouterr().err
