from collections.abc import Sequence

from delivery.scan import Finding, Scan, Scanned, Severity
from tasks.reports.document import document_of, line_of, one_line


def read_ruff(text: str, _lines: Sequence[str]) -> Scan:
    """`ruff check --output-format json`. It has no severities: a file that does not parse is high, the rest low."""
    return Scanned(
        tuple(
            Finding(
                tool="ruff",
                rule=str(entry["code"] or "invalid-syntax"),
                severity=Severity.HIGH if entry["code"] in (None, "invalid-syntax") else Severity.LOW,
                place=line_of(entry["filename"], entry["location"]["row"], entry["location"]["column"]),
                message=one_line(entry["message"]),
                fix=one_line((entry.get("fix") or {}).get("message") or ""),
            )
            for entry in document_of(text)
        )
    )
