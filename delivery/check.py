"""What tools say about code before anything runs."""

from dataclasses import dataclass

from delivery.scan import Finding, count_by_severity
from delivery.strict import STRICT


@dataclass(frozen=True)
class CheckResult:
    """One tool's answer. `tail` holds the last lines of its output, redacted; `log` is where the whole output lies, `report` its report.

    A tool that was judged by its exit code alone has no `findings`. `not_scanned` tells why a tool did not look; such a result passed by
    a waiver or not at all. `waived` are the waivers that it passed by.
    """

    __pydantic_config__ = STRICT

    name: str
    passed: bool
    seconds: float
    tail: tuple[str, ...] = ()
    log: str = ""
    cached: bool = False
    findings: tuple[Finding, ...] = ()
    not_scanned: str | None = None
    waived: tuple[str, ...] = ()
    report: str = ""

    def sentence(self) -> str:
        if self.not_scanned is not None:
            return f"{self.name} was NOT scanned ({self.not_scanned})" + self._excuses()
        verb = "passed" if self.passed else "failed"
        told = f": {count_by_severity(self.findings)} found" if self.findings else ""
        return f"{self.name} {verb} in {self.seconds:.1f} s" + (" (from the cache)" if self.cached else "") + told + self._excuses()

    def _excuses(self) -> str:
        return "".join(f"; {excuse}" for excuse in self.waived)
