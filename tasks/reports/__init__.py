"""What each tool's machine-readable report says, as findings. One reader per tool; text in, value out.

Several tools end well without having looked: a reader says `NotScanned` whenever the report does not show that the tool did.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from delivery.check_settings import ReportKind
from delivery.scan import NotScanned, Scan
from tasks.reports.bandit import read_bandit
from tasks.reports.document import Unreadable
from tasks.reports.eslint import read_eslint
from tasks.reports.gitleaks import read_gitleaks
from tasks.reports.hadolint import read_hadolint
from tasks.reports.licences import read_npm_query, read_pip_licenses
from tasks.reports.npm_audit import read_npm_audit
from tasks.reports.pip_audit import read_pip_audit
from tasks.reports.pnpm_audit import read_pnpm_audit
from tasks.reports.ruff import read_ruff
from tasks.reports.safety import read_safety
from tasks.reports.sarif import read_sarif
from tasks.reports.snyk import read_snyk
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
    "pnpm-audit": read_pnpm_audit,
    "safety": read_safety,
    "snyk": read_snyk,
    "pip-licenses": read_pip_licenses,
    "npm-query": read_npm_query,
}


_LICENCES = {"pip-licenses": read_pip_licenses, "npm-query": read_npm_query}


def read_report(kind: ReportKind, text: str, lines: Sequence[str], *, allow: Sequence[str] = ()) -> Scan:
    """What the report says; `NotScanned` for one that is not what this tool writes. `allow` are the licences that packages may have."""
    licences = _LICENCES.get(kind)
    reader = partial(licences, allow=allow) if licences else READERS[kind]
    try:
        return reader(text, lines)
    except Unreadable as unreadable:
        return NotScanned(str(unreadable))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as odd:
        return NotScanned(f"its report is not one that {kind} writes ({type(odd).__name__})")
