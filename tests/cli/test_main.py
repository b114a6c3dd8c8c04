import subprocess
import sys
from collections.abc import Callable

import pytest

import cli.replay
from cli.main import run
from delivery.errors import DeliveryError, EnvironmentBusy, InvalidSettings


@pytest.fixture
def a_command_that_raises(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Runs a real command whose work raises; returns the exit code."""

    def run_it(error: BaseException) -> int:
        def raise_it(_file: object) -> None:
            raise error

        monkeypatch.setattr(cli.replay, "print_firings", raise_it)
        return run(["replay", "triggers", "cases.json"])

    return run_it


def test_refused_input_ends_with_2_and_two_lines(a_command_that_raises: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]):
    assert a_command_that_raises(InvalidSettings("Unknown environment: got 'prod'.", next="write production.")) == 2
    assert capsys.readouterr() == ("", "Unknown environment: got 'prod'.\nNext: write production.\n")


@pytest.mark.parametrize("kind", [DeliveryError, EnvironmentBusy])
def test_a_failed_act_ends_with_1_and_two_lines(
    kind: type[DeliveryError], a_command_that_raises: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
):
    assert a_command_that_raises(kind("It did not work.", next="try later.")) == 1
    assert capsys.readouterr().err == "It did not work.\nNext: try later.\n"


def test_what_nobody_foresaw_is_told_without_its_traceback_or_its_text(
    a_command_that_raises: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
):
    assert a_command_that_raises(ValueError("postgresql://user:hunter2@db")) == 1
    told = capsys.readouterr().err
    assert "ValueError" in told
    assert "GREENROOM_DEBUG=1" in told
    assert "Traceback" not in told
    assert "hunter2" not in told


def test_the_traceback_is_there_for_who_asks(
    a_command_that_raises: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GREENROOM_DEBUG", "1")
    assert a_command_that_raises(ValueError("odd")) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupted_command_says_what_goes_on(
    a_command_that_raises: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
):
    assert a_command_that_raises(KeyboardInterrupt()) == 130
    assert "greenroom status" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["approve"], ["approve", "seven", "-r", "x"], ["rollback", "production", "--via", "magic", "-r", "x"], ["nonsense"]]
)
def test_bad_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert run(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in (
        "status",
        "release",
        "approve",
        "reject",
        "promote",
        "rollback",
        "plan",
        "doctor",
        "steward",
        "demo",
        "replay",
        "metrics",
        "report",
        "incident",
    ):
        assert command in shown


def test_help_imports_none_of_the_heavy_packages():
    asked = (
        "import sys; from cli.main import run; run(['--help']); print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    )
    heavy = ["prefect", "sqlalchemy", "docker", "httpx", "pydantic", "alembic", "aiohttp"]
    shown = subprocess.run([sys.executable, "-c", asked, *heavy], check=True, capture_output=True, text=True).stdout
    assert shown.splitlines()[-1] == "[]"
