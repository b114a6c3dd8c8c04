from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity
from tasks.reports.document import document_of, line_of, one_line, severity_of

# GitHub's bands of `security-severity`, which is a CVSS score as text.
_BANDS = ((9.0, Severity.CRITICAL), (7.0, Severity.HIGH), (4.0, Severity.MEDIUM), (0.0, Severity.LOW))


def read_sarif(text: str, _lines: Sequence[str]) -> Scan:
    """SARIF 2.1, which many tools write: the reader for whatever has none of its own."""
    runs = document_of(text)["runs"]
    if not runs:
        return NotScanned("the SARIF file tells of no run")
    for run in runs:
        for invocation in run.get("invocations") or ():
            if invocation.get("executionSuccessful") is False:
                return NotScanned(f"{run['tool']['driver']['name']} says that it did not come to its end")
    return Scanned(tuple(finding for run in runs for finding in _findings(run)))


def _findings(run: dict[str, Any]) -> Iterator[Finding]:
    driver = run["tool"]["driver"]
    rules = {rule["id"]: rule for rule in driver.get("rules") or ()}
    for result in run["results"]:
        if result.get("kind", "fail") not in ("fail", "open", "review"):
            continue
        name = str(result.get("ruleId") or (result.get("rule") or {}).get("id") or "unnamed")
        rule = rules.get(name, {})
        yield Finding(
            tool=str(driver["name"]),
            rule=name,
            severity=_severity(result, rule),
            place=_place(result),
            message=one_line(result["message"].get("text") or name),
            fix=one_line((rule.get("help") or {}).get("text") or "")[:160],
        )


def _severity(result: Mapping[str, Any], rule: Mapping[str, Any]) -> Severity:
    score = (rule.get("properties") or {}).get("security-severity")
    if score is not None:
        return next((severity for least, severity in _BANDS if float(score) >= least), Severity.LOW)
    level = result.get("level") or (rule.get("defaultConfiguration") or {}).get("level") or "warning"
    return severity_of(level)


def _place(result: Mapping[str, Any]) -> str:
    for location in result.get("locations") or ():
        physical = location.get("physicalLocation") or {}
        path = (physical.get("artifactLocation") or {}).get("uri", "")
        region = physical.get("region") or {}
        return line_of(path.removeprefix("file://"), region.get("startLine"), region.get("startColumn"))
    return ""
