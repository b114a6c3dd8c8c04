"""What stays with a run: files, and rows of the one table. What nobody has looked at is never called passed."""

import contextlib
import sys
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr

from delivery.application import Application, Named, Service
from delivery.check import CheckResult
from delivery.check_settings import CheckSettings
from delivery.errors import DeliveryError
from delivery.gate import Gate
from tasks.checks import verify
from tasks.report_checks import check_rows
from tasks.source import checkout
from tests.tasks.repository import Repository

SERVICE = Service(name="worker", kind="worker", context="api", dockerfile="api/Dockerfile", ready=("true",))
COVERED = '{"meta": {}, "files": {"a.py": {"summary": {"covered_lines": 1, "num_statements": 2}}}}'


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit("One", api__app_py="a = 1\n")
    return made


def python(name: str, code: str, *arguments: str, **options: object) -> CheckSettings:
    return CheckSettings(name, (sys.executable, "-c", code, *arguments), reads=("api",), **options)  # type: ignore[arg-type]


def run(repository: Repository, tmp_path: Path, *checks: CheckSettings, **options: object) -> list[CheckResult]:
    """Every answer, whether they pass or not."""
    told: list[CheckResult] = []
    source = checkout.plain(str(repository.path), repository.head(), work_dir=tmp_path / "work")
    declared = Application(application=Named("app"), service=(SERVICE,), check=checks)
    with contextlib.suppress(DeliveryError):
        verify(source, declared, work_dir=tmp_path / "work", gate=Gate(date(2026, 3, 1)), tell=told.extend, **options)  # type: ignore[arg-type]
    return told


def test_failed_not_scanned_and_not_configured_have_rows_of_their_own(repository: Repository, tmp_path: Path) -> None:
    checks = [
        python("good", "print('[]')", report="ruff"),
        python("bad", "raise SystemExit(1)"),
        CheckSettings("gone", ("no-such-tool",), report="ruff"),
        CheckSettings("lost", ("no-such-tool",)),
        python("snyk", "raise SystemExit(1)", report="snyk", token="snyk"),
    ]
    rows = {row["check"]: row for row in check_rows(run(repository, tmp_path, *checks), {"pip-audit": "switched off in greenroom.toml"})}
    assert [(name, row["verdict"], row["high"]) for name, row in rows.items()] == [
        ("good", "passed", "0"),
        ("bad", "FAILED", "-"),
        ("gone", "NOT SCANNED", "-"),
        ("lost", "NOT SCANNED", "-"),
        ("snyk", "not configured", "-"),
        ("pip-audit", "left out", "-"),
    ]
    assert rows["snyk"]["told"] == "there is no block tool-token/snyk"


def test_a_token_reaches_its_tool_and_no_file(repository: Repository, tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['T']); open(sys.argv[1], 'w').write('<a>' + os.environ['T'] + '</a>')"
    check = python("tool", code, "{junit}", token="tool")
    (result,) = run(repository, tmp_path, check, tokens={"tool": {"T": SecretStr("very-secret-token")}})
    assert result.passed
    assert [Path(file).read_text() for file in result.kept] == ["<a>***</a>"]
    written = [
        file for file in (tmp_path / "work").rglob("*") if file.is_file() and "very-secret-token" in file.read_text(errors="replace")
    ]
    assert written == []


def test_too_little_coverage_stops_the_release_and_failing_tests_are_told_as_such(repository: Repository, tmp_path: Path) -> None:
    write = f"import sys; open(sys.argv[1], 'w').write({COVERED!r})"
    (enough,) = run(repository, tmp_path, python("pytest", write, "{coverage}", coverage=50))
    (little,) = run(repository, tmp_path, python("pytest", write, "{coverage}", coverage=51))
    (none,) = run(repository, tmp_path, python("pytest", "pass", "{coverage}", coverage=51))
    (failed,) = run(repository, tmp_path, python("pytest", f"{write}; raise SystemExit(1)", "{coverage}", coverage=1))
    assert [one.verdict for one in (enough, little, none, failed)] == ["passed", "FAILED", "NOT SCANNED", "FAILED"]
    assert little.findings[0].message == "50.0 % of the lines are tested, expected 51 %"
    assert failed.findings == ()


def test_an_answer_from_the_cache_brings_its_files_and_is_looked_at_again_when_they_are_gone(
    repository: Repository, tmp_path: Path
) -> None:
    check = python("pytest", "import sys; open(sys.argv[1], 'w').write('<a/>')", "{junit}")
    (first,) = run(repository, tmp_path, check, keep_in=tmp_path / "one")
    (second,) = run(repository, tmp_path, check, keep_in=tmp_path / "two")
    assert (first.cached, second.cached) == (False, True)
    assert second.kept == (str(tmp_path / "two" / "pytest.junit.xml"),)
    (tmp_path / "one" / "pytest.junit.xml").unlink()
    (third,) = run(repository, tmp_path, check, keep_in=tmp_path / "three")
    assert not third.cached
