from collections.abc import Sequence

from delivery.scan import UNTOLD, Finding, NotScanned, Scan, Scanned, Severity
from tasks.reports.document import document_of, one_line, severity_of

_SHOWN_LENGTH = 160


def read_safety(text: str, _lines: Sequence[str]) -> Scan:
    """`safety check --output json`. What a policy file of the commit makes it ignore counts all the same: here waivers do that.

    Without a licence key it tells no severities, and then each vulnerability counts as high.
    """
    report = document_of(text)
    if not report["report_meta"]["packages_found"]:
        return NotScanned("safety looked at no package")
    return Scanned(
        tuple(
            Finding(
                tool="safety",
                rule=str(found.get("CVE") or found["vulnerability_id"]),
                severity=_severity(found.get("severity")),
                place=f"{found['package_name']} {found['analyzed_version']}",
                message=one_line(found.get("advisory") or "")[:_SHOWN_LENGTH],
                fix=f"{found['package_name']} {' or '.join(found['fixed_versions'])}" if found.get("fixed_versions") else "",
            )
            for found in (*report["vulnerabilities"], *report["ignored_vulnerabilities"])
        )
    )


def _severity(told: object) -> Severity:
    cvss = told.get("cvssv3") if isinstance(told, dict) else None
    return severity_of(cvss.get("base_severity")) if isinstance(cvss, dict) else UNTOLD
