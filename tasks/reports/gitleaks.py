import re
from collections.abc import Sequence

from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity
from tasks.reports.document import document_of, line_of, one_line

_COMMITS = re.compile(r"\b(\d+) commits scanned")
_BROKEN = re.compile(r"\b(?:ERR|FTL)\b")


def read_gitleaks(text: str, lines: Sequence[str]) -> Scan:
    """`gitleaks git --report-format json --redact`. A range that git does not know ends well with an empty report, so the tool's own words
    must say that it has seen commits. What it found is left out, whatever the report holds.
    """
    if broken := next((line for line in lines if _BROKEN.search(line)), None):
        return NotScanned(f"gitleaks said: {one_line(broken)}")
    seen = [int(match[1]) for line in lines if (match := _COMMITS.search(line))]
    if not sum(seen):
        return NotScanned("gitleaks saw no commit")
    return Scanned(
        tuple(
            Finding(
                tool="gitleaks",
                rule=str(entry["RuleID"]),
                severity=Severity.CRITICAL,
                place=line_of(entry["File"], entry["StartLine"]),
                message=f"in commit {str(entry['Commit'])[:8]} by {one_line(entry['Author'])}: {one_line(entry['Description'])}",
                fix="revoke it first; removing it from the newest commit does not take it back",
            )
            for entry in document_of(text)
        )
    )
