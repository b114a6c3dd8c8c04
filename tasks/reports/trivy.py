from collections.abc import Iterator, Sequence
from typing import Any

from delivery.scan import Finding, NotScanned, Scan, Scanned
from tasks.reports.document import document_of, line_of, one_line, severity_of


def read_trivy(text: str, _lines: Sequence[str]) -> Scan:
    """`trivy … --format json`: vulnerabilities, misconfigurations and secrets. Without anything that it knows how to read the report has no
    results at all, which is not the same as nothing found.
    """
    report = document_of(text)
    results = report.get("Results")
    if not isinstance(report["SchemaVersion"], int) or not results:
        return NotScanned("trivy found nothing that it can read: no lock file, no Dockerfile")
    return Scanned(tuple(finding for result in results for finding in _findings(result)))


def _findings(result: dict[str, Any]) -> Iterator[Finding]:
    target = result["Target"]
    for found in result.get("Vulnerabilities") or ():
        fixed = found.get("FixedVersion") or ""
        yield Finding(
            tool="trivy",
            rule=str(found["VulnerabilityID"]),
            severity=severity_of(found.get("Severity")),
            place=f"{target}: {found['PkgName']} {found['InstalledVersion']}",
            message=one_line(found.get("Title") or ""),
            fix=f"{found['PkgName']} {fixed}" if fixed else "",
        )
    for found in result.get("Misconfigurations") or ():
        if found.get("Status") == "FAIL":
            cause = found.get("CauseMetadata") or {}
            yield Finding(
                tool="trivy",
                rule=str(found["ID"]),
                severity=severity_of(found.get("Severity")),
                place=line_of(target, cause.get("StartLine")),
                message=one_line(found.get("Message") or found.get("Title")),
                fix=one_line(found.get("Resolution") or ""),
            )
    for found in result.get("Secrets") or ():
        yield Finding(
            tool="trivy",
            rule=str(found["RuleID"]),
            severity=severity_of(found.get("Severity")),
            place=line_of(target, found.get("StartLine")),
            message=one_line(found.get("Title") or ""),
            fix="revoke it first; removing it from the newest commit does not take it back",
        )
