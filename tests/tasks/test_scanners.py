"""The presets' own commands with the real programs: what they find, and that nothing in a commit makes them look away."""

from datetime import date
from pathlib import Path

import pytest

from delivery.application import Application, Named, Service
from delivery.check import CheckResult
from delivery.gate import Gate
from delivery.presets import Preset
from delivery.scan import Severity
from tasks.checks import run_check
from tasks.source import checkout, history, range_since_release
from tests.tasks.repository import Repository

pytestmark = pytest.mark.scanners

# Put together here, so that no scanner of this repository finds it.
KEY = "AKIA" + "QYLPMN5HHHFPZ7K2"
SERVICE = Service("worker", "worker", ".", "Dockerfile", ready=("true",))
DECLARED = Application(application=Named("app"), service=(SERVICE,), presets={"repository": Preset()})


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    written(made, "Dockerfile", "FROM debian:12\n")
    made.commit("One", app_py="a = 1\n")
    return made


def written(repository: Repository, name: str, text: str) -> None:
    (repository.path / name).write_text(text)


def run(name: str, repository: Repository, tmp_path: Path) -> CheckResult:
    source = checkout.plain(str(repository.path), repository.head(), work_dir=tmp_path / "work")
    (check,) = (check for check in DECLARED.checks if check.name == name)
    return run_check(check, source, None, work_dir=tmp_path / "work", gate=Gate(date(2026, 3, 1)))


class TestSecretsInCommits:
    def test_a_secret_that_was_removed_again_is_found_in_the_commit_that_brought_it(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("Leak", key_txt=f"aws = '{KEY}'\n")
        leaked = str(repository.head())
        repository.commit("Hide", key_txt="nothing\n")
        result = run("gitleaks", repository, tmp_path)
        assert not result.passed
        (finding,) = result.findings
        assert (finding.rule, finding.place, finding.severity) == ("aws-access-token", "key.txt:1", Severity.CRITICAL)
        assert leaked[:8] in finding.message
        assert KEY not in repr(result) + Path(result.report).read_text() + Path(result.log).read_text()

    def test_clean_commits_pass(self, repository: Repository, tmp_path: Path) -> None:
        result = run("gitleaks", repository, tmp_path)
        assert result.passed
        assert result.not_scanned is None

    def test_nothing_in_the_commit_makes_it_look_away(self, repository: Repository, tmp_path: Path) -> None:
        written(repository, ".gitleaks.toml", "[extend]\nuseDefault = true\n[[allowlists]]\npaths = ['.*']\n")
        written(repository, ".gitattributes", "*.txt -diff\n")
        repository.commit("Leak", key_txt=f"aws = '{KEY}'  # gitleaks:allow\n")
        written(repository, ".gitleaksignore", f"{repository.head()}:key.txt:aws-access-token:1\nkey.txt:aws-access-token:1\n")
        repository.commit("Ignore")
        assert [finding.place for finding in run("gitleaks", repository, tmp_path).findings] == ["key.txt:1"]

    def test_a_secret_that_only_a_merge_brings_is_found(self, repository: Repository, tmp_path: Path) -> None:
        repository.git("checkout", "--quiet", "-b", "side")
        repository.commit("Side", side_py="b = 1\n")
        repository.git("checkout", "--quiet", "-")
        repository.commit("Main", main_py="c = 1\n")
        repository.git("merge", "--quiet", "--no-commit", "side")
        repository.commit("Merge", key_txt=f"aws = '{KEY}'\n")
        assert "key.txt:1" in {finding.place for finding in run("gitleaks", repository, tmp_path).findings}

    def test_only_what_came_since_the_last_version_is_read(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("Leak", key_txt=f"aws = '{KEY}'\n")
        repository.tag("v1.0.0")
        released = str(repository.head())
        repository.commit("Two", app_py="a = 2\n")
        source = checkout.plain(str(repository.path), repository.head(), work_dir=tmp_path / "work")
        assert range_since_release(source) == f"{released}..{source.sha}"
        assert run("gitleaks", repository, tmp_path).passed

    def test_the_commit_of_a_version_is_read_since_the_version_before(self, repository: Repository, tmp_path: Path) -> None:
        first = str(repository.head())
        repository.tag("v1.0.0")
        repository.commit("Leak", key_txt=f"aws = '{KEY}'\n")
        repository.tag("v1.1.0")
        source = checkout.plain(str(repository.path), repository.head(), work_dir=tmp_path / "work")
        assert range_since_release(source) == f"{first}..{source.sha}"
        assert not run("gitleaks", repository, tmp_path).passed

    def test_the_history_holds_no_file_of_the_commit(self, repository: Repository, tmp_path: Path) -> None:
        source = checkout.plain(str(repository.path), repository.head(), work_dir=tmp_path / "work")
        assert (history(source) / "objects").is_dir()
        assert not (history(source) / "app.py").exists()


class TestDockerfiles:
    def test_an_error_stops_a_release_and_a_warning_does_not(self, repository: Repository, tmp_path: Path) -> None:
        written(repository, "Dockerfile", "FROM debian:12\nRUN cd /tmp && true\n")
        repository.commit("Warned")
        warned = run("hadolint", repository, tmp_path)
        assert warned.passed
        assert {finding.severity for finding in warned.findings} == {Severity.MEDIUM}
        written(repository, "Dockerfile", "FROM debian:12\nMAINTAINER somebody\n")
        repository.commit("Wrong")
        assert [finding.rule for finding in run("hadolint", repository, tmp_path).findings] == ["DL4000"]
        assert not run("hadolint", repository, tmp_path).passed

    def test_a_dockerfile_that_is_not_there_was_not_scanned(self, repository: Repository, tmp_path: Path) -> None:
        repository.git("rm", "--quiet", "Dockerfile")
        repository.commit("Gone")
        assert "no report" in str(run("hadolint", repository, tmp_path).not_scanned)
