from collections.abc import Sequence
from typing import Any

from delivery.scan import UNTOLD, Finding, NotScanned, Scan, Scanned
from tasks.reports.document import document_of, one_line

_SHOWN_LENGTH = 160


def read_pip_audit(text: str, _lines: Sequence[str]) -> Scan:
    """`pip-audit --format json`. A package that its service does not answer for is skipped, and it ends well all the same.

    It tells no severities, so each vulnerability counts as high.
    """
    packages = document_of(text)["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    if skipped:
        why = one_line(skipped[0]["skip_reason"])
        return NotScanned(f"{len(skipped)} of {len(packages)} packages were skipped, the first since: {why}")
    if not packages:
        return NotScanned("pip-audit looked at no package")
    return Scanned(tuple(_finding(package, found) for package in packages for found in package["vulns"]))


def _finding(package: dict[str, Any], found: dict[str, Any]) -> Finding:
    aliases = [alias for alias in found.get("aliases") or () if str(alias).startswith("CVE-")]
    fixed = found.get("fix_versions") or ()
    return Finding(
        tool="pip-audit",
        rule=str(found["id"]),
        severity=UNTOLD,
        place=f"{package['name']} {package['version']}",
        message=one_line(" ".join([*aliases, str(found.get("description") or "")]))[:_SHOWN_LENGTH],
        fix=f"{package['name']} {' or '.join(fixed)}" if fixed else "",
    )
