"""What tools say about code before anything runs."""

from dataclasses import dataclass

from delivery.scan import Finding, NotScanned, Scan, Scanned, count_by_severity
from delivery.strict import STRICT


@dataclass(frozen=True)
class CheckResult:
    """One tool's answer. `tail` holds the last lines of its output, redacted; `log` is where the whole output lies, `report` its report.

    A tool that was judged by its exit code alone has no `findings`. `not_scanned` tells why a tool did not look; such a result passed by
    a waiver or not at all. `waived` are the waivers that it passed by. `not_configured` tells what an optional tool lacks; it keeps nothing
    from going on, and is never shown as passed. `kept` are the files that stay with the run.
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
    not_configured: str | None = None
    kept: tuple[str, ...] = ()

    @property
    def scan(self) -> Scan:
        return Scanned(self.findings) if self.not_scanned is None else NotScanned(self.not_scanned)

    @property
    def verdict(self) -> str:
        """How it ended, in one or two words; what nobody has looked at is never called passed."""
        if self.not_configured is not None:
            return "not configured"
        if self.not_scanned is not None:
            return "not scanned, waived" if self.passed else "NOT SCANNED"
        return ("passed, from the cache" if self.cached else "passed") if self.passed else "FAILED"

    def sentence(self) -> str:
        if self.not_configured is not None:
            return f"{self.name} is not configured ({self.not_configured})"
        if self.not_scanned is not None:
            return f"{self.name} was NOT scanned ({self.not_scanned})" + self._excuses()
        verb = "passed" if self.passed else "failed"
        told = f": {count_by_severity(self.findings)} found" if self.findings else ""
        return f"{self.name} {verb} in {self.seconds:.1f} s" + (" (from the cache)" if self.cached else "") + told + self._excuses()

    def _excuses(self) -> str:
        return "".join(f"; {excuse}" for excuse in self.waived)
