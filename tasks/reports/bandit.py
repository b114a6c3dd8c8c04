import re
from collections.abc import Sequence

from delivery.scan import Finding, NotScanned, Scan, Scanned
from tasks.reports.document import document_of, line_of, one_line, severity_of

# bandit quotes the password that it found.
_QUOTED_PASSWORD = re.compile(r"(?<=password: ).+")


def read_bandit(text: str, _lines: Sequence[str]) -> Scan:
    """`bandit --format json`. It ends well with nothing found when a folder is not there or a file does not parse."""
    report = document_of(text)
    if report["errors"]:
        missed = [f"{error['filename']}: {error['reason']}" for error in report["errors"]]
        return NotScanned(f"bandit could not read {one_line(missed[0])}" + (f", and {len(missed) - 1} more" if missed[1:] else ""))
    if not report["metrics"]["_totals"]["loc"]:
        return NotScanned("bandit looked at no line of code")
    return Scanned(
        tuple(
            Finding(
                tool="bandit",
                rule=str(entry["test_id"]),
                severity=severity_of(entry["issue_severity"]),
                place=line_of(entry["filename"], entry["line_number"]),
                message=_QUOTED_PASSWORD.sub("***", one_line(entry["issue_text"])),
                fix=f"see {entry['more_info']}" if entry.get("more_info") else "",
            )
            for entry in report["results"]
        )
    )
