from collections.abc import Sequence

from delivery.scan import Finding, Scan, Scanned
from tasks.reports.document import document_of, line_of, one_line, severity_of


def read_hadolint(text: str, _lines: Sequence[str]) -> Scan:
    """`hadolint --format json`. A file that is not there leaves no report."""
    return Scanned(
        tuple(
            Finding(
                tool="hadolint",
                rule=str(entry["code"]),
                severity=severity_of(entry["level"]),
                place=line_of(entry["file"], entry["line"]),
                message=one_line(entry["message"]),
            )
            for entry in document_of(text)
        )
    )
