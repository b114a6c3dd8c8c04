"""Reports as the tools really write them, cut down to what is read."""

import json
from typing import Any

import pytest

from delivery.check_settings import REPORT_KINDS, ReportKind
from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity
from tasks.reports import READERS, read_report

RUFF = {
    "code": "F401",
    "filename": "/source/api/a.py",
    "fix": {"applicability": "safe", "edits": [], "message": "Remove unused import: `os`"},
    "location": {"column": 8, "row": 1},
    "message": "`os` imported but unused",
}
ESLINT = {
    "filePath": "/source/web/a.ts",
    "messages": [
        {"ruleId": "no-debugger", "severity": 2, "message": "Unexpected 'debugger' statement.", "line": 2, "column": 38},
        {"ruleId": "semi", "severity": 1, "message": "Missing semicolon.", "line": 3, "column": 1, "fix": {"range": [1, 2], "text": ";"}},
        {"ruleId": None, "fatal": True, "severity": 2, "message": "Parsing error: Identifier expected.", "line": 1, "column": 16},
    ],
}
BANDIT_FOUND = {
    "filename": "./a.py",
    "issue_severity": "LOW",
    "issue_text": "Possible hardcoded password: 'hunter2hunter2'",
    "line_number": 4,
    "more_info": "https://bandit.example/b105",
    "test_id": "B105",
}
TRIVY = {
    "SchemaVersion": 2,
    "Results": [
        {
            "Target": "api/requirements.txt",
            "Class": "lang-pkgs",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2018-18074",
                    "PkgName": "requests",
                    "InstalledVersion": "2.19.0",
                    "FixedVersion": "2.20.0",
                    "Title": "requests redirect leak",
                    "Severity": "HIGH",
                }
            ],
        },
        {
            "Target": "Dockerfile",
            "Class": "config",
            "Misconfigurations": [
                {"ID": "DS-0002", "Status": "PASS", "Severity": "HIGH", "Title": "user"},
                {
                    "ID": "DS-0001",
                    "Status": "FAIL",
                    "Severity": "MEDIUM",
                    "Title": "':latest' tag used",
                    "Message": "Specify a tag",
                    "Resolution": "Add a tag",
                    "CauseMetadata": {"StartLine": 1},
                },
            ],
        },
        {
            "Target": "t.env",
            "Class": "secret",
            "Secrets": [{"RuleID": "github-pat", "Severity": "CRITICAL", "Title": "Token", "StartLine": 1}],
        },
    ],
}
LEAK = {
    "RuleID": "private-key",
    "Description": "Identified a Private Key.",
    "StartLine": 1,
    "Match": "REDACTED",
    "Secret": "REDACTED",
    "File": "k.pem",
    "Commit": "cd175616119e4e164230cc672290e71d3a906e21",
    "Author": "Ann",
}
VULNERABLE = {
    "name": "minimist",
    "range": "<1.2.6",
    "fixAvailable": True,
    "via": [
        {
            "source": 1179,
            "url": "https://advisories.example/GHSA-xvch",
            "title": "Prototype Pollution",
            "severity": "critical",
            "range": "<1.2.6",
        }
    ],
}


def bandit(*results: dict[str, Any], errors: tuple[dict[str, str], ...] = (), loc: int = 8) -> dict[str, Any]:
    return {"errors": list(errors), "metrics": {"_totals": {"loc": loc}}, "results": list(results)}


def npm(total: int = 3, **vulnerabilities: Any) -> dict[str, Any]:
    return {"auditReportVersion": 2, "vulnerabilities": vulnerabilities, "metadata": {"dependencies": {"total": total}}}


def read(kind: ReportKind, document: Any, *lines: str) -> Scan:
    return read_report(kind, json.dumps(document), lines)


def found(kind: ReportKind, document: Any, *lines: str) -> tuple[Finding, ...]:
    scan = read(kind, document, *lines)
    assert isinstance(scan, Scanned), scan
    return scan.findings


def not_scanned(kind: ReportKind, document: Any, *lines: str) -> str:
    scan = read(kind, document, *lines)
    assert isinstance(scan, NotScanned), scan
    return scan.reason


def test_every_kind_that_a_file_may_name_has_a_reader() -> None:
    assert tuple(READERS) == REPORT_KINDS


@pytest.mark.parametrize("kind", REPORT_KINDS)
@pytest.mark.parametrize("text", ["", "  \n", "not json", "null", "17", '"x"', '{"a": 1}', "[[]]", '[{"a": 1}]', "[" * 100_000])
def test_a_report_of_another_shape_is_never_clean(kind: ReportKind, text: str) -> None:
    assert isinstance(read_report(kind, text, ("3 commits scanned.",)), NotScanned)


class TestRuff:
    def test_a_finding_has_place_and_fix(self) -> None:
        assert found("ruff", [RUFF]) == (
            Finding("ruff", "F401", Severity.LOW, "/source/api/a.py:1:8", "`os` imported but unused", "Remove unused import: `os`"),
        )

    def test_a_file_that_does_not_parse_is_worse_than_its_style(self) -> None:
        assert found("ruff", [RUFF | {"code": "invalid-syntax", "fix": None}])[0].severity is Severity.HIGH
        assert found("ruff", [RUFF | {"code": None, "fix": None}])[0].rule == "invalid-syntax"

    def test_nothing_found_is_clean(self) -> None:
        assert found("ruff", []) == ()


class TestEslint:
    def test_errors_warnings_and_files_that_do_not_parse_are_told_apart(self) -> None:
        told = [(finding.rule, finding.severity, finding.fix) for finding in found("eslint", [ESLINT])]
        assert told == [
            ("no-debugger", Severity.MEDIUM, ""),
            ("semi", Severity.LOW, "eslint --fix does it"),
            ("parsing", Severity.HIGH, ""),
        ]

    def test_no_file_is_not_clean(self) -> None:
        assert not_scanned("eslint", []) == "eslint looked at no file"


class TestBandit:
    def test_the_password_that_it_found_is_not_repeated(self) -> None:
        (finding,) = found("bandit", bandit(BANDIT_FOUND))
        assert finding.message == "Possible hardcoded password: ***"
        assert (finding.rule, finding.severity, finding.place) == ("B105", Severity.LOW, "./a.py:4")

    def test_a_severity_that_it_cannot_tell_counts_as_high(self) -> None:
        assert found("bandit", bandit(BANDIT_FOUND | {"issue_severity": "UNDEFINED"}))[0].severity is Severity.HIGH

    def test_a_file_that_it_could_not_read_is_not_clean(self) -> None:
        broken = {"filename": "b.py", "reason": "syntax error while parsing AST from file"}
        assert not_scanned("bandit", bandit(errors=(broken, broken))) == f"bandit could not read b.py: {broken['reason']}, and 1 more"

    def test_no_line_of_code_is_not_clean(self) -> None:
        assert not_scanned("bandit", bandit(loc=0)) == "bandit looked at no line of code"


class TestPipAudit:
    def test_a_vulnerability_counts_as_high_since_no_severity_is_told(self) -> None:
        vulnerable = {"id": "PYSEC-2018-28", "aliases": ["CVE-2018-18074"], "fix_versions": ["2.20.0"], "description": "Leaks."}
        package = {"name": "requests", "version": "2.19.0", "vulns": [vulnerable]}
        (finding,) = found("pip-audit", {"dependencies": [package]})
        assert finding == Finding(
            "pip-audit", "PYSEC-2018-28", Severity.HIGH, "requests 2.19.0", "CVE-2018-18074 Leaks.", "requests 2.20.0"
        )

    def test_one_skipped_package_among_good_ones_is_not_clean(self) -> None:
        good = {"name": "click", "version": "8.1", "vulns": []}
        skipped = {"name": "alembic", "skip_reason": "Dependency not found on PyPI and could not be audited"}
        assert not_scanned("pip-audit", {"dependencies": [good, skipped]}).startswith("1 of 2 packages were skipped")

    def test_no_package_is_not_clean(self) -> None:
        assert not_scanned("pip-audit", {"dependencies": []}) == "pip-audit looked at no package"


class TestNpmAudit:
    def test_a_vulnerability_is_told_once_where_it_is(self) -> None:
        through = VULNERABLE | {"name": "mkdirp", "via": ["minimist"]}
        (finding,) = found("npm-audit", npm(minimist=VULNERABLE, mkdirp=through))
        assert finding == Finding("npm-audit", "GHSA-xvch", Severity.CRITICAL, "minimist <1.2.6", "Prototype Pollution", "npm audit fix")

    def test_a_service_that_refuses_is_not_clean(self) -> None:
        refused = {"message": "405 Method Not Allowed", "statusCode": 405, "error": {"summary": "", "detail": ""}}
        assert not_scanned("npm-audit", refused) == "the advisory service gave no answer (405)"

    def test_no_package_is_not_clean(self) -> None:
        assert not_scanned("npm-audit", npm(total=0)) == "npm audit looked at no package"


class TestGitleaks:
    def test_a_leak_is_critical_and_its_text_stays_out(self) -> None:
        (finding,) = found("gitleaks", [LEAK | {"Secret": "s3cr3t", "Match": "key=s3cr3t"}], "INF 3 commits scanned.")
        assert finding.severity is Severity.CRITICAL
        assert finding.place == "k.pem:1"
        assert "s3cr3t" not in repr(finding)

    def test_an_empty_report_without_commits_is_not_clean(self) -> None:
        assert not_scanned("gitleaks", [], "INF 0 commits scanned.", "INF no leaks found") == "gitleaks saw no commit"
        assert not_scanned("gitleaks", []) == "gitleaks saw no commit"

    def test_an_error_that_it_only_logs_is_not_clean(self) -> None:
        assert "unknown revision" in not_scanned("gitleaks", [], "ERR [git] fatal: unknown revision", "INF 3 commits scanned.")


class TestHadolint:
    def test_its_levels_become_severities(self) -> None:
        entry = {"code": "DL3008", "file": "Dockerfile", "line": 2, "message": "Pin versions"}
        levels = [found("hadolint", [entry | {"level": level}])[0].severity for level in ("error", "warning", "info", "style", "novel")]
        assert levels == [Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.LOW, Severity.HIGH]


class TestTrivy:
    def test_vulnerabilities_misconfigurations_and_secrets_are_findings_and_what_passed_is_none(self) -> None:
        assert [(finding.rule, finding.severity, finding.place, finding.fix.split(";")[0]) for finding in found("trivy", TRIVY)] == [
            ("CVE-2018-18074", Severity.HIGH, "api/requirements.txt: requests 2.19.0", "requests 2.20.0"),
            ("DS-0001", Severity.MEDIUM, "Dockerfile:1", "Add a tag"),
            ("github-pat", Severity.CRITICAL, "t.env:1", "revoke it first"),
        ]

    def test_a_severity_that_it_does_not_know_counts_as_high(self) -> None:
        unknown = {"VulnerabilityID": "CVE-1", "PkgName": "a", "InstalledVersion": "1", "Severity": "UNKNOWN"}
        assert found("trivy", {"SchemaVersion": 2, "Results": [{"Target": "t", "Vulnerabilities": [unknown]}]})[0].severity is Severity.HIGH

    def test_a_report_without_results_is_not_clean(self) -> None:
        assert "no lock file" in not_scanned("trivy", {"SchemaVersion": 2, "ArtifactName": "."})


class TestSarif:
    def document(self, *results: dict[str, Any], **run: Any) -> dict[str, Any]:
        rules = [{"id": "R1", "properties": {"security-severity": "9.8"}, "help": {"text": "Do better."}}]
        return {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "semgrep", "rules": rules}}, "results": list(results), **run}]}

    def result(self, **more: Any) -> dict[str, Any]:
        place = {"physicalLocation": {"artifactLocation": {"uri": "api/a.py"}, "region": {"startLine": 3}}}
        return {"ruleId": "R1", "message": {"text": "Bad"}, "locations": [place], **more}

    def test_a_score_decides_before_a_level(self) -> None:
        assert found("sarif", self.document(self.result(level="note"))) == (
            Finding("semgrep", "R1", Severity.CRITICAL, "api/a.py:3", "Bad", "Do better."),
        )

    def test_without_a_score_its_level_counts_and_without_either_it_is_a_warning(self) -> None:
        severities = [
            finding.severity for finding in found("sarif", self.document(self.result(ruleId="R2", level="error"), self.result(ruleId="R2")))
        ]
        assert severities == [Severity.HIGH, Severity.MEDIUM]

    def test_what_passed_is_no_finding(self) -> None:
        assert found("sarif", self.document(self.result(kind="pass"))) == ()

    def test_a_run_that_failed_or_no_run_at_all_is_not_clean(self) -> None:
        assert "did not come to its end" in not_scanned("sarif", self.document(invocations=[{"executionSuccessful": False}]))
        assert not_scanned("sarif", {"version": "2.1.0", "runs": []}) == "the SARIF file tells of no run"
