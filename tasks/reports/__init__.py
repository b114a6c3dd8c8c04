"""What each tool's machine-readable report says, as findings. One reader per tool; text in, value out.

Several tools end well without having looked: a reader says `NotScanned` whenever the report does not show that the tool did.
"""

from collections.abc import Callable, Mapping, Sequence

from delivery.check_settings import ReportKind
from delivery.scan import NotScanned, Scan
from tasks.reports.bandit import read_bandit
from tasks.reports.document import Unreadable
from tasks.reports.eslint import read_eslint
from tasks.reports.gitleaks import read_gitleaks
from tasks.reports.hadolint import read_hadolint
from tasks.reports.npm_audit import read_npm_audit
from tasks.reports.pip_audit import read_pip_audit
from tasks.reports.ruff import read_ruff
from tasks.reports.sarif import read_sarif
from tasks.reports.trivy import read_trivy

# Gets the report and the lines that the tool printed beside it. Raises `Unreadable`, or what missing keys and wrong types raise.
Reader = Callable[[str, Sequence[str]], Scan]

READERS: Mapping[ReportKind, Reader] = {
    "ruff": read_ruff,
    "eslint": read_eslint,
    "bandit": read_bandit,
    "pip-audit": read_pip_audit,
    "npm-audit": read_npm_audit,
    "gitleaks": read_gitleaks,
    "hadolint": read_hadolint,
    "trivy": read_trivy,
    "sarif": read_sarif,
}


def read_report(kind: ReportKind, text: str, lines: Sequence[str]) -> Scan:
    """What the report says; `NotScanned` for one that is not what this tool writes."""
    try:
        return READERS[kind](text, lines)
    except Unreadable as unreadable:
        return NotScanned(str(unreadable))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as odd:
        return NotScanned(f"its report is not one that {kind} writes ({type(odd).__name__})")
