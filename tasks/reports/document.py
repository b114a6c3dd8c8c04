"""The first look at a report: is it JSON at all, and how bad is what it calls bad?"""

import json
from collections.abc import Mapping
from typing import Any

from delivery.scan import UNTOLD, Severity

# The words of all the tools; what none of them says is not taken for harmless.
_SEVERITIES: Mapping[str, Severity] = {
    "critical": Severity.CRITICAL,
    "high": Severity.HIGH,
    "error": Severity.HIGH,
    "medium": Severity.MEDIUM,
    "moderate": Severity.MEDIUM,
    "warning": Severity.MEDIUM,
    "low": Severity.LOW,
    "info": Severity.LOW,
    "note": Severity.LOW,
    "style": Severity.LOW,
    "none": Severity.LOW,
}


class Unreadable(Exception):  # noqa: N818  it completes the sentence "it was not scanned: …"
    """Why a report says nothing."""


def document_of(text: str) -> Any:
    """The report's JSON. Raises `Unreadable`."""
    if not text.strip():
        raise Unreadable("it wrote no report")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise Unreadable("its report is not JSON") from None


def severity_of(word: str | None) -> Severity:
    return _SEVERITIES.get((word or "").lower(), UNTOLD)


def one_line(text: object) -> str:
    return " ".join(str(text).split())


def line_of(path: object, line: object, column: object = None) -> str:
    """`path:line:column`, as far as it is known."""
    return ":".join(str(part) for part in (path, line, column) if part not in (None, "", 0))
