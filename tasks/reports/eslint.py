from collections.abc import Sequence
from typing import Any

from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity
from tasks.reports.document import document_of, line_of, one_line


def read_eslint(text: str, _lines: Sequence[str]) -> Scan:
    """`eslint --format json`: an error is medium, a warning low; a file that does not parse is high, since no rule saw it."""
    files = document_of(text)
    if not files:
        return NotScanned("eslint looked at no file")
    return Scanned(tuple(_finding(file["filePath"], message) for file in files for message in file["messages"]))


def _finding(path: str, message: dict[str, Any]) -> Finding:
    severity = Severity.HIGH if message.get("fatal") else Severity.MEDIUM if message["severity"] == 2 else Severity.LOW
    fixes = [suggestion.get("desc", "") for suggestion in message.get("suggestions") or ()]
    return Finding(
        tool="eslint",
        rule=str(message.get("ruleId") or "parsing"),
        severity=severity,
        place=line_of(path, message.get("line"), message.get("column")),
        message=one_line(message["message"]),
        fix="eslint --fix does it" if message.get("fix") else one_line(fixes[0]) if fixes else "",
    )
