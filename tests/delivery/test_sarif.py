from datetime import date

from delivery.check import CheckResult
from delivery.gate import CheckWaiver, Gate
from delivery.sarif import sarif_of
from delivery.scan import Finding, Severity

TODAY = date(2026, 3, 1)
WAIVER = CheckWaiver(check="bandit", rule="B608", reason="a constant", owner="mia", until=date(2026, 4, 1))


def test_a_finding_has_its_place_and_a_waived_one_says_why_it_is_suppressed() -> None:
    found = (
        Finding("bandit", "B608", Severity.MEDIUM, "api/a.py:3:7", "SQL", "bind it"),
        Finding("bandit", "CVE-1", Severity.CRITICAL, "requests 2.19.0", "leaks"),
    )
    result = CheckResult("bandit", passed=False, seconds=1.0, findings=found)
    (run,) = sarif_of(result, Gate(TODAY, (WAIVER,)), commit="a" * 40)["runs"]
    first, second = run["results"]
    assert first["locations"] == [
        {"physicalLocation": {"artifactLocation": {"uri": "api/a.py"}, "region": {"startLine": 3, "startColumn": 7}}}
    ]
    assert (first["level"], second["level"]) == ("warning", "error")
    assert "a constant" in first["suppressions"][0]["justification"]
    assert "suppressions" not in second
    assert second["locations"] == [{"logicalLocations": [{"fullyQualifiedName": "requests 2.19.0"}]}]
    assert run["invocations"][0]["executionSuccessful"] is True


def test_what_was_not_scanned_has_not_come_to_its_end() -> None:
    result = CheckResult("trivy", passed=False, seconds=0.0, not_scanned="trivy is not installed")
    (run,) = sarif_of(result, Gate(TODAY), commit="a" * 40)["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert "trivy is not installed" in run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]
