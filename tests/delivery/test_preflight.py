"""What signed words about checks amount to; silence is never clean."""

import pytest

from delivery.preflight import Item, failing, judge_scans, judge_tests, sentence


@pytest.mark.parametrize(
    ("signed", "verdict"),
    [
        (None, "cannot tell"),
        ({}, "fail"),
        ({"ruff": "ruff passed in 0.1 s"}, "pass"),
        ({"ruff": "ruff passed in 0.1 s", "pytest": "pytest failed in 3.0 s"}, "fail"),
        ({"snyk": "snyk is not configured (there is no block tool-token/snyk)"}, "fail"),
        ({"pip-audit": "pip-audit was NOT scanned (no advisories); waived"}, "fail"),
    ],
)
def test_tests_pass_when_a_trusted_key_says_that_each_did(signed: dict[str, str] | None, verdict: str) -> None:
    assert judge_tests("tests", signed).verdict == verdict


@pytest.mark.parametrize(
    ("signed", "verdict"),
    [
        (None, "cannot tell"),
        ({"ruff": "ruff passed in 0.1 s"}, "fail"),
        ({"bandit": "bandit passed in 0.1 s: 2 medium, 3 low found"}, "pass"),
        ({"trivy-config": "trivy-config passed in 0.1 s: 1 high, 3 low found; waived by Ann until 2027-01-01"}, "fail"),
        ({"trivy-vulnerabilities": "trivy-vulnerabilities passed in 0.1 s: 1 critical found"}, "fail"),
        ({"pip-audit": "pip-audit was NOT scanned (no advisories); waived"}, "fail"),
        ({"bandit": "bandit passed in 0.1 s", "gitleaks": "gitleaks failed in 1.0 s"}, "fail"),
        ({"snyk": "snyk is not configured (there is no block tool-token/snyk)"}, "fail"),
        ({"bandit": "bandit passed in 0.1 s: 12 high found"}, "fail"),
    ],
)
def test_a_scan_is_clean_when_it_looked_and_found_nothing_high(signed: dict[str, str] | None, verdict: str) -> None:
    assert judge_scans("scan", signed).verdict == verdict


def test_a_tool_that_did_not_look_is_never_named_among_those_that_passed() -> None:
    signed = {
        "bandit": "bandit passed in 0.1 s",
        "snyk": "snyk is not configured (no token)",
        "pip-audit": "pip-audit was NOT scanned (no advisories); waived by Ann",
    }
    tests = judge_tests("tests", signed)
    told = "signed: bandit passed; snyk is not configured (no token); pip-audit was NOT scanned (no advisories); waived by Ann"
    assert (tests.verdict, tests.evidence) == ("pass", told)
    assert judge_scans("scan", signed).evidence == signed["pip-audit"]
    del signed["pip-audit"]
    assert judge_scans("scan", signed).evidence == "signed: bandit found nothing high; snyk is not configured (no token)"


def test_what_cannot_be_told_is_counted_and_fails_nothing() -> None:
    items = (Item("a", "pass", ""), Item("b", "cannot tell", ""))
    assert failing(items) == ()
    assert sentence("production", items) == "Production has nothing against it: 0 fail, 1 cannot be told, 1 pass."
    assert sentence("production", (*items, Item("c", "fail", ""))) == "Production is not ready: 1 fail, 1 cannot be told, 1 pass."
