"""How `greenroom.toml` names one tool that looks at code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from delivery.scan import Severity
from delivery.strict import STRICT

# The machine-readable reports that are understood; each has its reader in tasks/reports.
ReportKind = Literal["ruff", "eslint", "bandit", "pip-audit", "npm-audit", "gitleaks", "hadolint", "trivy", "sarif"]
REPORT_KINDS: tuple[str, ...] = get_args(ReportKind)

# What a command may ask for in braces: the file that its report is read from, the commits since the release before, and the folder of the
# repository's history, in which none of its files lie, and the folder of the team's advisories.
REPORT = "{report}"
RANGE = "{range}"
HISTORY = "{history}"
ADVISORIES = "{advisories}"


@dataclass(frozen=True)
class CheckSettings:
    """One tool that looks at code. `reads` are the paths that its answer depends on.

    Without `report` its exit code decides. With it, what it writes to `{report}` (to its standard output when the command names no
    `{report}`) is read as findings, and those from `fails_at` on stop the release. What rests on knowledge from outside, advisories for
    instance, is looked at again after `fresh_hours`. `settings` are variables of the tool's environment, never secrets.
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

    def problems(self) -> tuple[str, ...]:
        here = f"check {self.name}"
        found = []
        if not self.command:
            found.append(f"{here}.command: got an empty list, expected a program and its arguments")
        if self.report is None and any(REPORT in part for part in self.command):
            found.append(f"{here}.command: got {REPORT} without `report`, expected the report's kind too: {', '.join(REPORT_KINDS)}")
        if self.report is None and self.fails_at is not Severity.LOW:
            found.append(f"{here}.fails_at: got {self.fails_at} without `report`, expected none, since the exit code decides")
        if self.fresh_hours is not None and self.fresh_hours < 1:
            found.append(f"{here}.fresh_hours: got {self.fresh_hours}, expected 1 or more")
        return tuple(found)
