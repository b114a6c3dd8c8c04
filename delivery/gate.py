"""Whether a scan lets a release pass: a severity from which findings stop it, and waivers that excuse some of them for a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import assert_never

from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity
from delivery.strict import STRICT
from delivery.waiver import Waiver

# What a waiver names as its rule when it excuses that a tool did not look.
NOT_SCANNED = "not scanned"
# A waiver is a debt with a date; longer ones would be a policy, which is the gate's own severity.
LONGEST_WAIVER = timedelta(days=180)


@dataclass(frozen=True, kw_only=True)
class CheckWaiver(Waiver):
    """Excuses one rule of one check, which may be `not scanned`. Without `place` it holds everywhere."""

    __pydantic_config__ = STRICT

    check: str
    rule: str
    place: str | None = None

    def problems(self) -> tuple[str, ...]:
        """What cannot be meant, as `waiver.key: got …, expected …`."""
        here = f"waiver of {self.rule} in {self.check}"
        blank = (*(() if self.rule.strip() else ("rule",)), *self.unnamed)
        found = [f"{here}: got no {key}, expected one" for key in blank]
        if self.rule == NOT_SCANNED and self.place is not None:
            found.append(f"{here}: got a place, expected none, since nothing was looked at")
        return tuple(found)

    @property
    def name(self) -> str:
        return f"The waiver of {self.rule} in {self.check} ({self.owner})"

    def why_not(self, today: date) -> str:
        """Why it does not hold on that day; "" when it does."""
        too_long = self.until > today + LONGEST_WAIVER
        return super().why_not(today) or (f"ends on {self.until}, more than {LONGEST_WAIVER.days} days ahead." if too_long else "")

    def excuses(self, finding: Finding) -> bool:
        """The rule must be the finding's own; a place is a file, a folder, a package, or one line of a file."""
        if finding.rule != self.rule:
            return False
        place = self.place
        return place is None or finding.place == place or finding.place.startswith((f"{place}:", f"{place.rstrip('/')}/", f"{place} "))

    def sentence(self) -> str:
        where = f" at {self.place}" if self.place else ""
        return f"{self.rule}{where} is waived until {self.until} by {self.owner}: {self.reason}"


@dataclass(frozen=True)
class Decision:
    """What a gate says of one scan. `stopping` are the findings that nobody excuses; `blind` tells why nothing could be looked at."""

    stopping: tuple[Finding, ...] = ()
    tolerated: tuple[Finding, ...] = ()
    used: tuple[CheckWaiver, ...] = ()
    blind: str = ""

    @property
    def passes(self) -> bool:
        return not self.stopping and not self.blind


@dataclass(frozen=True)
class Gate:
    """All that decides over scans on one day."""

    today: date
    waivers: tuple[CheckWaiver, ...] = ()

    def decide(self, check: str, scan: Scan, *, fails_at: Severity) -> Decision:
        """Lets a scan pass when each finding is below `fails_at` or excused by a waiver that holds today; what was not scanned passes by a
        waiver of `not scanned` alone.
        """
        holding = [waiver for waiver in self.waivers if waiver.check == check and waiver.holds_on(self.today)]
        match scan:
            case NotScanned(reason):
                used = tuple(waiver for waiver in holding if waiver.rule == NOT_SCANNED)
                return Decision(used=used) if used else Decision(blind=reason)
            case Scanned(findings):
                return _weighed(findings, fails_at, holding)
            case _:
                assert_never(scan)

    def excuse(self, check: str, finding: Finding) -> CheckWaiver | None:
        """The waiver that holds today for a finding of this check."""
        holding = (waiver for waiver in self.waivers if waiver.check == check and waiver.holds_on(self.today))
        return next((waiver for waiver in holding if waiver.excuses(finding)), None)

    def wrong_waivers(self) -> tuple[str, ...]:
        """The waivers that do not hold today, as sentences: run out, or meant for longer than a waiver may."""
        return tuple(f"{waiver.name} {why}" for waiver in self.waivers if (why := waiver.why_not(self.today)))


def _weighed(findings: tuple[Finding, ...], fails_at: Severity, holding: Sequence[CheckWaiver]) -> Decision:
    stopping, tolerated, used = [], [], []
    for finding in findings:
        excuse = next((waiver for waiver in holding if waiver.excuses(finding)), None)
        if not finding.severity.reaches(fails_at):
            tolerated.append(finding)
        elif excuse is not None:
            tolerated.append(finding)
            used.append(excuse)
        else:
            stopping.append(finding)
    return Decision(tuple(stopping), tuple(tolerated), tuple(dict.fromkeys(used)))
