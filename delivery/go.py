"""Go or no-go: what has to hold before a release may go to an environment, whoever has approved it. Rules are data, answers are values."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from delivery.application import STRICT
from delivery.backup import RestoreTest
from delivery.errors import InvalidSettings
from delivery.gate import Decision
from delivery.scan import Severity, worst_first
from delivery.secret_age import SecretAge


@dataclass(frozen=True)
class Freeze:
    """Nothing goes from `starts` until `ends`: times as text, with their offset (2026-12-24T12:00:00+01:00)."""

    __pydantic_config__ = STRICT

    starts: str
    ends: str
    reason: str

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Raises `InvalidSettings` when it is none."""
        starts, ends = _moment(self.starts), _moment(self.ends)
        if starts is None or ends is None or starts >= ends:
            raise InvalidSettings(f"Not a window: got {self.starts[:40]!r} to {self.ends[:40]!r}.", next="write two times with offsets.")
        return starts, ends


@dataclass(frozen=True)
class GoSettings:
    """A release must have lived `soak_seconds` in the environment before; with `evidence` its signed chain must be whole; with
    `backup_hours` the newest backup that was tried must have come back, no longer ago than that; with `open_findings` the inspection of
    the environment before must have left nothing of that severity, or worse, that no waiver excuses today; with `quiet_hours` no critical
    alert may have been open in the environment itself for that long; nothing goes in a `freeze`.
    Kinds in `not_for` are held up by none of these.
    """

    __pydantic_config__ = STRICT

    soak_seconds: float = 0.0
    evidence: bool = False
    backup_hours: float = 0.0
    open_findings: Severity | None = None
    quiet_hours: float = 0.0
    freeze: tuple[Freeze, ...] = ()
    not_for: tuple[Literal["hotfix"], ...] = ()

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        found = [] if self.soak_seconds >= 0 else [f"go.soak_seconds: got {self.soak_seconds:g}, expected 0 or more"]
        if not self.backup_hours >= 0:
            found.append(f"go.backup_hours: got {self.backup_hours:g}, expected 0 or more")
        if not self.quiet_hours >= 0:
            found.append(f"go.quiet_hours: got {self.quiet_hours:g}, expected 0 or more")
        for number, freeze in enumerate(self.freeze, 1):
            try:
                freeze.window  # noqa: B018  asked for its refusal
            except InvalidSettings:
                got = f"{freeze.starts[:40]!r} to {freeze.ends[:40]!r}"
                found.append(f"go.freeze[{number}]: got {got}, expected times with an offset, the end after the start")
        return tuple(found)


@dataclass(frozen=True)
class Answer:
    """`what` says why, with figures, whether it is a go or not."""

    rule: str
    go: bool
    what: str

    def sentence(self) -> str:
        return f"{'go' if self.go else 'NO GO'}, {self.rule}: {self.what}"


@dataclass(frozen=True)
class Soak:
    """How a release has lived in the environment before: from when, until when (None: it lives there still)."""

    environment: str
    since: datetime
    until: datetime | None

    def lasted(self, now: datetime) -> timedelta:
        return (self.until or now) - self.since


@dataclass(frozen=True)
class Backups:
    """Of an environment: whether there is any, and the newest attempt at bringing one back."""

    any: bool = False
    tried: RestoreTest | None = None


@dataclass(frozen=True)
class Inspected:
    """What the inspection of a release in the environment before comes to today; `decision` is None where it was not inspected."""

    environment: str
    decision: Decision | None = None


def answers(
    rules: GoSettings,
    kind: str,
    *,
    now: datetime,
    soak: Soak | None,
    broken: tuple[str, ...],
    backups: Backups | None = None,
    inspected: Inspected | None = None,
    secrets: tuple[SecretAge, ...] = (),
) -> tuple[Answer, ...]:
    """One answer per rule that the environment has. `broken` is what is wrong with the release's evidence; it, `backups` and `inspected`
    are looked at where they count. `secrets` are those that the environment has registered.
    """
    if kind in rules.not_for:
        return (Answer("all rules", go=True, what=f"a {kind} is held up by none"),)
    looked = inspected or Inspected("any environment")
    found = tuple(_answers(rules, now=now, soak=soak, broken=broken, backups=backups or Backups(), inspected=looked))
    return (*found, _of_secrets(secrets)) if secrets else found


def of_alarms(rules: GoSettings, kind: str, alarms: tuple[str, ...]) -> tuple[Answer, ...]:
    """One more answer, where the environment has quiet hours: `alarms` are its critical alerts within them, a sentence each."""
    if not rules.quiet_hours or kind in rules.not_for:
        return ()
    silence = f"no critical alert for {rules.quiet_hours:g} h"
    return (Answer("alerts", not alarms, f"expected {silence}: {'; '.join(alarms[:3])}" if alarms else silence),)


def _answers(
    rules: GoSettings, *, now: datetime, soak: Soak | None, broken: tuple[str, ...], backups: Backups, inspected: Inspected
) -> Iterator[Answer]:
    if rules.soak_seconds:
        lasted = soak.lasted(now).total_seconds() if soak else 0.0
        where = (
            f"{lasted / 60:.0f} of {rules.soak_seconds / 60:.0f} min in {soak.environment}" if soak else "it has not lived anywhere before"
        )
        yield Answer("soak", lasted >= rules.soak_seconds, where)
    if rules.evidence:
        yield Answer("evidence", not broken, "; ".join(broken[:3]) or "everything that was signed holds")
    if rules.backup_hours:
        yield _of_backups(backups, now=now, newest=timedelta(hours=rules.backup_hours))
    if rules.open_findings:
        yield _of_inspection(inspected, rules.open_findings)
    for freeze in rules.freeze:
        starts, ends = freeze.window
        if now < ends:
            frozen = starts <= now
            yield Answer(
                "freeze", not frozen, f"{freeze.reason}, {'until' if frozen else 'from'} {(ends if frozen else starts).isoformat()}"
            )


def _of_backups(backups: Backups, *, now: datetime, newest: timedelta) -> Answer:
    """Before the first backup there is nothing to try: a rollout has to bring it."""
    tried = backups.tried
    if tried is None:
        return Answer("backup", not backups.any, "none was tried yet" if backups.any else "there is none yet that could be tried")
    age = now - tried.at
    hours = f"{age.total_seconds() / 3600:.1f} h ago, at most {newest.total_seconds() / 3600:g} h"
    return Answer("backup", tried.well and age <= newest, f"{tried.what} ({hours})")


def _of_inspection(inspected: Inspected, severity: Severity) -> Answer:
    decision, where = inspected.decision, inspected.environment
    if decision is None:
        return Answer("findings", go=False, what=f"it was not inspected in {where}")
    if decision.blind:
        return Answer("findings", go=False, what=f"it was not scanned in {where}: {decision.blind}")
    if decision.stopping:
        worst = worst_first(decision.stopping)[0]
        more = f", and {len(decision.stopping) - 1} more" if decision.stopping[1:] else ""
        return Answer("findings", go=False, what=f"{worst.severity} {worst.rule} is open in {where}: {worst.place} {worst.message}{more}")
    return Answer("findings", go=True, what=f"nothing from {severity} on is open in {where}")


def _of_secrets(secrets: tuple[SecretAge, ...]) -> Answer:
    told = [one.sentence() for one in secrets if one.stops] or [one.sentence() for one in secrets if one.waiver]
    return Answer("secrets", not any(one.stops for one in secrets), "; ".join(told) or f"none of {len(secrets)} is too old")


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None
