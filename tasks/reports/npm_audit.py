from collections.abc import Sequence
from typing import Any

from delivery.scan import Finding, NotScanned, Scan, Scanned
from tasks.reports.document import document_of, one_line, severity_of


def read_npm_audit(text: str, _lines: Sequence[str]) -> Scan:
    """`npm audit --json` of npm 7 or later. Its service's refusal is a document too.

    A package that is vulnerable only through another one is not told again: its `via` names that package.
    """
    report = document_of(text)
    if "vulnerabilities" not in report:
        error = report.get("error") or {}
        said = f"{report.get('statusCode') or ''} {error.get('summary') or error.get('code') or ''}".strip()
        return NotScanned(f"the advisory service gave no answer ({said})" if said else "the advisory service gave no answer")
    if not report["metadata"]["dependencies"]["total"]:
        return NotScanned("npm audit looked at no package")
    return Scanned(
        tuple(
            _finding(package, found)
            for package in report["vulnerabilities"].values()
            for found in package["via"]
            if isinstance(found, dict)
        )
    )


def _finding(package: dict[str, Any], found: dict[str, Any]) -> Finding:
    available = package.get("fixAvailable")
    fix = f"{available['name']} {available['version']}" if isinstance(available, dict) else "npm audit fix" if available else ""
    return Finding(
        tool="npm-audit",
        rule=str(found.get("url") or found["source"]).rpartition("/")[2],
        severity=severity_of(found.get("severity")),
        place=f"{package['name']} {found.get('range') or package.get('range') or ''}".strip(),
        message=one_line(found["title"]),
        fix=fix,
    )
