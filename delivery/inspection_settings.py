"""How a running environment is inspected from outside: the section `[inspection]` of its file."""

from dataclasses import dataclass
from datetime import date

from delivery.gate import CheckWaiver, Gate
from delivery.scan import Severity
from delivery.strict import STRICT

TOOL = "inspection"

# Paths that tell strangers about the inside, with how bad it is when they are answered; what a team adds itself is taken for HIGH.
KNOWN_PRIVATE: dict[str, Severity] = {
    "/.env": Severity.CRITICAL,
    "/.git/HEAD": Severity.CRITICAL,
    "/.git/config": Severity.CRITICAL,
    "/actuator": Severity.HIGH,
    "/actuator/env": Severity.CRITICAL,
    "/admin": Severity.MEDIUM,
    "/console": Severity.HIGH,
    "/debug": Severity.HIGH,
    "/debug/pprof/": Severity.HIGH,
    "/debug/vars": Severity.HIGH,
    "/docs": Severity.MEDIUM,
    "/metrics": Severity.MEDIUM,
    "/openapi.json": Severity.MEDIUM,
    "/phpinfo.php": Severity.HIGH,
    "/redoc": Severity.MEDIUM,
    "/server-info": Severity.HIGH,
    "/server-status": Severity.HIGH,
}
UNKNOWN_PRIVATE = Severity.HIGH
MOST_PRIVATE = 40


@dataclass(frozen=True, kw_only=True)
class InspectionWaiver(CheckWaiver):
    """Excuses one rule of the inspection; `place` is a method and a path (`GET /metrics`), and holds below that path too."""

    __pydantic_config__ = STRICT

    check: str = TOOL


@dataclass(frozen=True)
class InspectionSettings:
    """Findings from `fails_at` on turn a rollout back. `private` are paths that no user may reach, beside those at which services tell
    their metrics. A certificate must be good for `certificate_days` more. `provoke`: private paths, errors and unusual methods are tried,
    not pages alone; None: where nobody approves, which production never is.
    """

    __pydantic_config__ = STRICT

    fails_at: Severity = Severity.MEDIUM
    private: tuple[str, ...] = tuple(KNOWN_PRIVATE)
    certificate_days: float = 14.0
    provoke: bool | None = None
    waiver: tuple[InspectionWaiver, ...] = ()

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        found = [
            f"inspection.private: got {path[:80]!r}, expected a path of printable ASCII that begins with one /, without ? and #"
            for path in self.private
            if not _is_path(path)
        ]
        if len(self.private) > MOST_PRIVATE:
            found.append(f"inspection.private: got {len(self.private)} paths, expected at most {MOST_PRIVATE}")
        if not self.certificate_days >= 0:
            found.append(f"inspection.certificate_days: got {self.certificate_days:g}, expected 0 or more")
        for waiver in self.waiver:
            found += [f"inspection.{problem}" for problem in waiver.problems()]
            if waiver.check != TOOL:
                found.append(f"inspection.waiver.check: got {waiver.check[:80]!r}, expected none, since it is always {TOOL}")
        return tuple(found)

    def gate(self, today: date) -> Gate:
        return Gate(today, self.waiver)


def _is_path(path: str) -> bool:
    return path.startswith("/") and not path.startswith("//") and all("!" <= one <= "~" and one not in "?#\\" for one in path)
