from collections.abc import Sequence

from delivery.scan import Finding, NotScanned, Scan, Scanned
from tasks.reports.document import document_of, one_line, severity_of


def read_pnpm_audit(text: str, _lines: Sequence[str]) -> Scan:
    """`pnpm audit --json`. When its service does not answer it writes a sentence instead of a document."""
    report = document_of(text)
    counted = report["metadata"]
    if not (counted.get("totalDependencies") or counted["dependencies"]):
        return NotScanned("pnpm audit looked at no package")
    return Scanned(
        tuple(
            Finding(
                tool="pnpm-audit",
                rule=str(found.get("github_advisory_id") or found["id"]),
                severity=severity_of(found.get("severity")),
                place=f"{found['module_name']} {version}",
                message=one_line(found["title"]),
                fix=f"{found['module_name']} {found['patched_versions']}" if found.get("patched_versions") else "",
            )
            for found in report["advisories"].values()
            for version in dict.fromkeys(str(one["version"]) for one in found["findings"])
        )
    )
