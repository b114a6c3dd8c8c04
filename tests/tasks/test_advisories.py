"""A team's feed, read by the real Trivy."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from delivery.application import Application, Named, Service
from delivery.check import CheckResult
from delivery.errors import InvalidSettings
from delivery.gate import NOT_SCANNED, CheckWaiver, Gate
from delivery.presets import Preset
from delivery.scan import Severity
from delivery.source import Source
from tasks import advisories as module
from tasks.advisories import Advisories, ready_advisories
from tasks.checks import run_check
from tasks.source import checkout
from tasks.toolchains import toolchain_environment
from tests.delivery.test_advisories import FIXED, record
from tests.tasks.repository import Repository

pytestmark = pytest.mark.scanners

TODAY = date(2026, 3, 1)
SERVICE = Service("worker", "worker", ".", "Dockerfile", ready=("true",))
DECLARED = Application(application=Named("app"), service=(SERVICE,), presets={"trivy": Preset()})
LOCK = {
    "name": "web",
    "lockfileVersion": 3,
    "packages": {"": {"name": "web", "dependencies": {"minimist": "1.2.0"}}, "node_modules/minimist": {"version": "1.2.0"}},
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit("One", requirements_txt="requests==2.19.0\nzope.interface==5.0\n")
    return made


def feed(tmp_path: Path, *records: dict[str, Any], as_of: str = "2026-02-28") -> Path:
    file = tmp_path / "advisories.json"
    file.write_text(json.dumps({"as_of": as_of, "advisories": list(records)}))
    return file


def check_out(repository: Repository, tmp_path: Path) -> Source:
    return checkout.plain(str(repository.path), repository.head(), work_dir=tmp_path / "work")


def run(
    repository: Repository, tmp_path: Path, file: Path | None, *waivers: CheckWaiver, name: str = "trivy-vulnerabilities"
) -> CheckResult:
    (check,) = (check for check in DECLARED.checks if check.name == name)
    source = check_out(repository, tmp_path)
    return run_check(check, source, None, work_dir=tmp_path / "work", gate=Gate(TODAY, waivers), advisories=file)


def test_packages_of_both_kinds_of_lock_file_are_found_and_others_are_not(repository: Repository, tmp_path: Path) -> None:
    (repository.path / "package-lock.json").write_text(json.dumps(LOCK))
    repository.commit("Two")
    minimist = record({"introduced": "1.0.0"}, {"fixed": "1.2.6"}, ecosystem="npm", package="minimist", aliases=["CVE-2021-44906"])
    zope = record({"introduced": "0"}, {"last_affected": "5.0"}, package="Zope.Interface", aliases=["CVE-1"])
    leaks = record(*FIXED, database_specific={"severity": "CRITICAL"})
    mended = record({"introduced": "0"}, {"fixed": "2.19.0"}, aliases=["CVE-2"])
    found = run(repository, tmp_path, feed(tmp_path, minimist, zope, leaks, mended)).findings
    assert {(finding.rule, finding.severity, finding.place, finding.fix) for finding in found} == {
        ("CVE-2018-18074", Severity.CRITICAL, "requirements.txt: requests 2.19.0", "requests 2.20.0"),
        ("CVE-1", Severity.HIGH, "requirements.txt: zope.interface 5.0", ""),
        ("CVE-2021-44906", Severity.HIGH, "package-lock.json: minimist 1.2.0", "minimist 1.2.6"),
    }


def test_a_new_advisory_is_found_though_the_same_commit_was_clean_before(repository: Repository, tmp_path: Path) -> None:
    assert run(repository, tmp_path, feed(tmp_path)).passed
    assert run(repository, tmp_path, feed(tmp_path)).cached
    assert not run(repository, tmp_path, feed(tmp_path, record(*FIXED))).passed


def test_nothing_in_the_commit_makes_it_look_away(repository: Repository, tmp_path: Path) -> None:
    (repository.path / ".trivyignore").write_text("CVE-2018-18074\n")
    (repository.path / "trivy.yaml").write_text("severity: [LOW]\nscan:\n  skip-files: [requirements.txt]\n")
    repository.commit("Ignore")
    assert [finding.rule for finding in run(repository, tmp_path, feed(tmp_path, record(*FIXED))).findings] == ["CVE-2018-18074"]


def test_stale_or_missing_advisories_are_not_clean_even_if_the_answer_is_in_the_cache(repository: Repository, tmp_path: Path) -> None:
    assert run(repository, tmp_path, feed(tmp_path, as_of="2026-02-22")).passed
    stale = run(repository, tmp_path, feed(tmp_path, as_of="2026-02-21"))
    assert (stale.passed, stale.not_scanned) == (False, "the advisories are of 2026-02-21, 8 days old, 7 at most")
    assert "no advisories were imported" in str(run(repository, tmp_path, None).not_scanned)
    assert "cannot be read" in str(run(repository, tmp_path, tmp_path / "nowhere.json").not_scanned)
    waiver = CheckWaiver(
        check="trivy-vulnerabilities", rule=NOT_SCANNED, reason="the feed moves house", owner="mia", until=date(2026, 3, 2)
    )
    assert run(repository, tmp_path, None, waiver).passed


def test_a_file_that_is_no_feed_is_refused(repository: Repository, tmp_path: Path) -> None:
    file = tmp_path / "advisories.json"
    file.write_text("[")
    with pytest.raises(InvalidSettings, match="is not JSON"):
        run(repository, tmp_path, file)


def test_without_a_lock_file_nothing_was_scanned(repository: Repository, tmp_path: Path) -> None:
    repository.git("mv", "requirements.txt", "wishes.txt")
    repository.commit("No lock")
    assert "no lock file" in str(run(repository, tmp_path, feed(tmp_path)).not_scanned)


def test_a_scanner_that_does_not_find_what_was_planted_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ready() -> object:
        environment = toolchain_environment(None, work_dir=tmp_path / "work")
        return ready_advisories(feed(tmp_path), work_dir=tmp_path / "work", environment=environment, today=TODAY, identity="1")

    believed = module._PROOF
    elsewhere = tuple(replace(planted, package="another") for planted in believed)
    with monkeypatch.context() as changed:
        changed.setattr(module, "_PROOF", elsewhere)
        assert "does not find what was planted" in str(ready())
    assert isinstance(ready(), Advisories)


def test_a_feed_of_many_packages_spans_pages_and_is_read(repository: Repository, tmp_path: Path) -> None:
    many = [record(*FIXED, package=f"package-{number}", aliases=[f"CVE-2020-{number}"]) for number in range(5000)]
    found = run(repository, tmp_path, feed(tmp_path, *many, record(*FIXED))).findings
    assert [finding.rule for finding in found] == ["CVE-2018-18074"]


def test_a_secret_and_a_dockerfile_of_the_commit_are_looked_at(repository: Repository, tmp_path: Path) -> None:
    (repository.path / "Dockerfile").write_text("FROM debian:12\nUSER root\n")
    (repository.path / "trivy-secret.yaml").write_text("disable-rules: [aws-access-key-id]\n")
    key = "AKIA" + "QYLPMN5HHHFPZ7K2"
    repository.commit("Two", settings_env=f"AWS_ACCESS_KEY_ID={key}\n")
    result = run(repository, tmp_path, None, name="trivy-config")
    rules = {finding.rule for finding in result.findings}
    assert {"aws-access-key-id", "DS-0002"} <= rules
    assert key not in repr(result) + Path(result.report).read_text()
