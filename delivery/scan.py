"""What a tool found when it looked, or that it did not look: two different values, and the second is never clean."""

from dataclasses import dataclass
from enum import StrEnum

from delivery.strict import STRICT


class Severity(StrEnum):
    """How bad a finding is; the order of the members is the order of badness."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    def reaches(self, gate: "Severity") -> bool:
        """Whether this is at least as bad as `gate`."""
        order = tuple(Severity)
        return order.index(self) >= order.index(gate)


# A severity that a tool does not tell, or that nobody here knows: not knowing is not harmless.
UNTOLD = Severity.HIGH


@dataclass(frozen=True)
class Finding:
    """One thing that a tool objects to. `place` is `path:line` from the root, or the package; `fix` is "" when none is known."""

    __pydantic_config__ = STRICT

    tool: str
    rule: str
    severity: Severity
    place: str
    message: str
    fix: str = ""

    def sentence(self) -> str:
        fix = f" (fix: {self.fix})" if self.fix else ""
        return f"{self.place} {self.rule} {self.message}{fix}"


@dataclass(frozen=True)
class Scanned:
    """The tool looked at everything it was asked to look at."""

    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class NotScanned:
    """The tool did not look, or not at everything. `reason` completes the sentence "it was not scanned: …"."""

    reason: str


Scan = Scanned | NotScanned


def worst_first(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The worst come first; findings of one severity keep the tool's order."""
    order = tuple(Severity)
    return tuple(sorted(findings, key=lambda finding: -order.index(finding.severity)))


def count_by_severity(findings: tuple[Finding, ...]) -> str:
    """`1 high, 3 low`; "nothing" when there is nothing."""
    told = [(severity, sum(finding.severity is severity for finding in findings)) for severity in reversed(Severity)]
    return ", ".join(f"{count} {severity}" for severity, count in told if count) or "nothing"
