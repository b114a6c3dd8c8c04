"""Reports about packages and coverage as the tools really wrote them, shortened; Snyk's by its documentation, since it needs a token."""

import json
from pathlib import Path
from typing import Any

import pytest

from delivery.check_settings import ReportKind
from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity
from tasks.reports import read_report
from tasks.reports.coverage import read_coverage

PNPM = {
    "advisories": {
        "1097678": {
            "findings": [{"version": "1.2.5", "paths": [".>minimist"], "dev": False, "optional": False, "bundled": False}],
            "id": 1097678,
            "title": "Prototype Pollution in minimist",
            "module_name": "minimist",
            "vulnerable_versions": ">=1.0.0 <1.2.6",
            "patched_versions": ">=1.2.6",
            "severity": "critical",
            "github_advisory_id": "GHSA-xvch-5gv4-984h",
        }
    },
    "metadata": {"dependencies": 3, "devDependencies": 1, "totalDependencies": 4},
}
PNPM_REFUSED = "Error: ERR_PNPM_AUDIT_BAD_RESPONSE\n\n  x The audit endpoint responded with 405:\n"
SAFETY_FOUND = {
    "vulnerability_id": "36546",
    "package_name": "requests",
    "vulnerable_spec": "<=2.19.1",
    "analyzed_version": "2.19.0",
    "advisory": "The Requests package through 2.19.1 sends an HTTP Authorization header to an http URI.",
    "fixed_versions": [],
    "CVE": "CVE-2018-18074",
    "severity": None,
}
SAFETY = {"report_meta": {"packages_found": 2}, "vulnerabilities": [SAFETY_FOUND], "ignored_vulnerabilities": []}
SNYK = {
    "ok": False,
    "dependencyCount": 3,
    "packageManager": "npm",
    "vulnerabilities": [
        {"id": "SNYK-JS-X-1", "title": "Pollution", "severity": "high", "packageName": "x", "version": "1.0.0", "fixedIn": ["1.0.1"]}
    ]
    * 2,
}


def python_package(name: str, version: str, **told: str) -> dict[str, str]:
    licences = {f"License-{kind}": told.get(kind.lower(), "UNKNOWN") for kind in ("Classifier", "Expression", "Metadata")}
    return {**licences, "Name": name, "Version": version}


PIP_LICENSES = [
    python_package("greenlet", "3.5.6", expression="MIT AND PSF-2.0"),
    python_package("PyYAML", "6.0.4", classifier="MIT License", metadata="MIT"),
    python_package("celery", "5.7.0", metadata="BSD-3-Clause"),
    python_package("silent", "1"),
]
NPM_QUERY = [
    {"name": "dealbrain-web", "version": "0.0.0", "location": "", "private": True},
    {"name": None, "version": None, "location": "../toolchain"},
    {"name": "exit", "version": "0.1.2", "licenses": [{"type": "MIT"}], "location": "../toolchain/node_modules/exit"},
    {"name": "json-schema", "version": "0.4.0", "license": "(AFL-2.1 OR BSD-3-Clause)", "location": "node_modules/json-schema"},
    {"name": "file", "version": "1.0.0", "license": "SEE LICENSE IN x", "location": "node_modules/file"},
]
COVERAGE_PY = {
    "meta": {"format": 3, "version": "7.17.4"},
    "files": {
        "m.py": {"summary": {"covered_lines": 3, "num_statements": 4}},
        "n.py": {"summary": {"covered_lines": 0, "num_statements": 1}},
    },
}
JEST = {"total": {"lines": {"total": 113, "covered": 111}}, "/web/src/app.ts": {"lines": {"total": 50, "covered": 40}}}
COBERTURA = """<?xml version="1.0" ?><coverage version="7.17.4" line-rate="0.75"><packages><package name="."><classes>
<class name="m.py" filename="m.py" line-rate="0.75"><methods/><lines><line number="1" hits="1"/><line number="2" hits="1"/>
<line number="5" hits="1"/><line number="6" hits="0"/></lines></class></classes></package></packages></coverage>"""


def read(kind: ReportKind, document: Any, *allow: str) -> Scan:
    return read_report(kind, json.dumps(document), (), allow=allow)


def found(kind: ReportKind, document: Any, *allow: str) -> tuple[Finding, ...]:
    scan = read(kind, document, *allow)
    assert isinstance(scan, Scanned), scan
    return scan.findings


def test_pnpm_tells_the_package_and_its_fix_and_a_refusing_service_is_not_clean() -> None:
    (one,) = found("pnpm-audit", PNPM)
    assert (one.rule, one.severity, one.place, one.fix) == (
        "GHSA-xvch-5gv4-984h",
        Severity.CRITICAL,
        "minimist 1.2.5",
        "minimist >=1.2.6",
    )
    assert isinstance(read_report("pnpm-audit", PNPM_REFUSED, ()), NotScanned)
    assert isinstance(read("pnpm-audit", {"advisories": {}, "metadata": {"dependencies": 0, "totalDependencies": 0}}), NotScanned)


def test_what_a_policy_file_makes_safety_ignore_counts_all_the_same() -> None:
    ignored = SAFETY | {"vulnerabilities": [], "ignored_vulnerabilities": [SAFETY_FOUND]}
    for document in (SAFETY, ignored):
        (one,) = found("safety", document)
        assert (one.rule, one.severity, one.place) == ("CVE-2018-18074", Severity.HIGH, "requests 2.19.0")
    assert isinstance(read("safety", SAFETY | {"report_meta": {"packages_found": 0}}), NotScanned)


def test_snyk_tells_a_vulnerability_once_and_a_refused_token_is_not_clean() -> None:
    (one,) = found("snyk", [SNYK])
    assert (one.rule, one.severity, one.fix) == ("SNYK-JS-X-1", Severity.HIGH, "x 1.0.1")
    assert read("snyk", {"ok": False, "error": "Authentication failed"}) == NotScanned("snyk said: Authentication failed")
    assert isinstance(read("snyk", SNYK | {"dependencyCount": 0}), NotScanned)


def test_of_a_python_package_the_expression_counts_then_the_classifiers_then_the_words() -> None:
    told = [(one.rule, one.place) for one in found("pip-licenses", PIP_LICENSES, "MIT")]
    assert told == [("MIT AND PSF-2.0", "greenlet 3.5.6"), ("BSD-3-Clause", "celery 5.7.0"), ("unknown licence", "silent 1")]
    assert [one.place for one in found("pip-licenses", PIP_LICENSES, "MIT", "PSF-2.0", "BSD-3-Clause")] == ["silent 1"]


def test_of_node_packages_the_application_is_none_and_a_file_is_no_licence() -> None:
    assert [one.place for one in found("npm-query", NPM_QUERY, "MIT", "BSD-3-Clause")] == ["file 1.0.0"]
    assert [one.place for one in found("npm-query", NPM_QUERY, "MIT")] == ["json-schema 0.4.0", "file 1.0.0"]
    assert isinstance(read("npm-query", NPM_QUERY[:2], "MIT"), NotScanned)


@pytest.mark.parametrize(("text", "percent"), [(json.dumps(COVERAGE_PY), 60.0), (json.dumps(JEST), 80.0), (COBERTURA, 75.0)])
def test_coverage_below_what_was_asked_for_is_a_finding_and_the_very_figure_is_none(tmp_path: Path, text: str, percent: float) -> None:
    (tmp_path / "c").write_text(text)
    assert read_coverage(tmp_path / "c", least=percent, tool="pytest") == Scanned()
    scan = read_coverage(tmp_path / "c", least=percent + 0.5, tool="pytest")
    assert isinstance(scan, Scanned)
    assert scan.findings[0].message.startswith(f"{percent:.1f} % of the lines are tested")


def test_jests_coverage_is_found_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "coverage-summary.json").write_text(json.dumps(JEST))
    assert read_coverage(tmp_path, least=80, tool="jest") == Scanned()


@pytest.mark.parametrize(
    "text", [None, "", "{}", "[]", "<a/>", "<coverage/>", '{"total": {}}', '<!DOCTYPE a [<!ENTITY b "c">]><coverage/>']
)
def test_no_measured_line_is_not_clean(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "c").write_text(text)
    assert isinstance(read_coverage(tmp_path / "c", least=1, tool="pytest"), NotScanned)
