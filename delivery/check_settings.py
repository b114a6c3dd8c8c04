"""How `greenroom.toml` names one tool that looks at code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from delivery.scan import Severity
from delivery.strict import STRICT

# The machine-readable reports that are understood; each has its reader in tasks/reports.
ReportKind = Literal[
    "ruff", "eslint", "bandit", "pip-audit", "npm-audit", "gitleaks", "hadolint", "trivy", "sarif",
    "pnpm-audit", "safety", "snyk", "pip-licenses", "npm-query",
]  # fmt: skip
REPORT_KINDS: tuple[str, ...] = get_args(ReportKind)

# Lists of packages with their licences; what is allowed decides which of them are findings.
LICENCE_KINDS: tuple[ReportKind, ...] = ("pip-licenses", "npm-query")

# What a command may ask for in braces: the file that its report is read from, the commits since the release before, the folder of the
# repository's history, in which none of its files lie, the folder of the team's advisories, and where its JUnit file and its coverage go.
REPORT = "{report}"
RANGE = "{range}"
HISTORY = "{history}"
ADVISORIES = "{advisories}"
JUNIT = "{junit}"
COVERAGE = "{coverage}"


@dataclass(frozen=True)
class CheckSettings:
    """One tool that looks at code. `reads` are the paths that its answer depends on.

    Without `report` its exit code decides. With it, what it writes to `{report}` (to its standard output when the command names no
    `{report}`) is read as findings, and those from `fails_at` on stop the release. What rests on knowledge from outside, advisories for
    instance, is looked at again after `fresh_hours`. `settings` are variables of the tool's environment, never secrets.

    With `coverage` the tests must run at least that many percent of the lines, told by what the tool writes to `{coverage}`. `allow` are
    the licences that packages may have. `token` names the tool-token block without which the tool is not configured.
    """

    __pydantic_config__ = STRICT

    name: str
    command: tuple[str, ...]
    toolchain: str | None = None
    directory: str = "."
    reads: tuple[str, ...] = (".",)
    timeout_seconds: int = 300
    report: ReportKind | None = None
    fails_at: Severity = Severity.LOW
    fresh_hours: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    coverage: float | None = None
    allow: tuple[str, ...] = ()
    token: str | None = None

    def problems(self) -> tuple[str, ...]:
        here = f"check {self.name}"
        found = []
        if not self.command:
            found.append(f"{here}.command: got an empty list, expected a program and its arguments")
        if self.report is None and any(REPORT in part for part in self.command):
            found.append(f"{here}.command: got {REPORT} without `report`, expected the report's kind too: {', '.join(REPORT_KINDS)}")
        if self.report is None and self.fails_at is not Severity.LOW and self.coverage is None:
            found.append(f"{here}.fails_at: got {self.fails_at} without `report`, expected none, since the exit code decides")
        if self.fresh_hours is not None and self.fresh_hours < 1:
            found.append(f"{here}.fresh_hours: got {self.fresh_hours}, expected 1 or more")
        if self.coverage is not None and not 0 < self.coverage <= 100:
            found.append(f"{here}.coverage: got {self.coverage:g}, expected a percentage above 0, up to 100")
        if (self.coverage is not None) != any(COVERAGE in part for part in self.command):
            found.append(f"{here}.command: expected {COVERAGE} in it and `coverage` beside it, or neither, got one of them")
        if self.coverage is not None and self.report is not None:
            found.append(f"{here}.coverage: got a report too, expected one of them")
        if self.allow and self.report not in LICENCE_KINDS:
            found.append(f"{here}.allow: got licences, expected them with report = {' or '.join(LICENCE_KINDS)} only")
        return tuple(found)
