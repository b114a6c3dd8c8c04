from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from delivery.scan import Finding, NotScanned, Scan, Scanned
from tasks.reports.document import document_of, one_line, severity_of


def read_snyk(text: str, _lines: Sequence[str]) -> Scan:
    """`snyk test --json`: one document, or one per project. A token that is refused is a document too."""
    report = document_of(text)
    projects = report if isinstance(report, list) else [report]
    for project in projects:
        if "vulnerabilities" not in project:
            return NotScanned(f"snyk said: {one_line(project.get('error') or project.get('message') or 'nothing')[:200]}")
        if not project["dependencyCount"]:
            return NotScanned("snyk looked at no package")
    if not projects:
        return NotScanned("snyk looked at no project")
    return Scanned(tuple(dict.fromkeys(finding for project in projects for finding in _findings(project))))


def _findings(project: Mapping[str, Any]) -> Iterator[Finding]:
    """The same vulnerability comes once for each way that leads to the package."""
    for found in project["vulnerabilities"]:
        fixed = found.get("fixedIn") or ()
        yield Finding(
            tool="snyk",
            rule=str(found["id"]),
            severity=severity_of(found["severity"]),
            place=f"{found['packageName']} {found['version']}",
            message=one_line(found["title"]),
            fix=f"{found['packageName']} {' or '.join(map(str, fixed))}" if fixed else "",
        )
