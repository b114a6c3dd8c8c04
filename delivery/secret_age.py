"""How old an environment's secrets are, and what follows: people are warned, the doctor fails, releases wait."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from delivery.application import STRICT
from delivery.waiver import Waiver

# Whoever writes today's date east of Greenwich may be a day ahead of UTC.
AHEAD = timedelta(days=1)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class Age(StrEnum):
    """Worst first. A registered secret whose day is missing, or lies in the future, counts as the oldest; one that nobody has registered
    is not judged.
    """

    TOO_OLD = "too old"  # releases are refused
    OVERDUE = "overdue"
    DUE = "due soon"
    UNKNOWN = "unknown"
    FRESH = "fresh"


@dataclass(frozen=True)
class KeptSecret:
    """What is known about a secret, never the secret: who renews it, the number of its version, the day (UTC) on which that was made."""

    __pydantic_config__ = STRICT

    owner: str
    version: int = 1
    created: date | None = None


@dataclass(frozen=True, kw_only=True)
class AgeWaiver(Waiver):
    """Lets releases go although one secret is too old. The doctor goes on complaining."""

    __pydantic_config__ = STRICT

    secret: str


@dataclass(frozen=True)
class AgePolicy:
    """Whole days since a secret's version was made: from the first on it is due soon, from the second overdue, from the third too old."""

    __pydantic_config__ = STRICT

    warn_days: int = 75
    overdue_days: int = 90
    refuse_days: int = 97
    waiver: tuple[AgeWaiver, ...] = ()

    def of(self, days: int) -> Age:
        for least, age in ((self.refuse_days, Age.TOO_OLD), (self.overdue_days, Age.OVERDUE), (self.warn_days, Age.DUE)):
            if days >= least:
                return age
        return Age.FRESH

    def problems(self, secrets: Mapping[str, KeptSecret]) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`; nothing in them is a value that may be a secret."""
        found = []
        if not 0 < self.warn_days <= self.overdue_days <= self.refuse_days:
            got = f"{self.warn_days}, {self.overdue_days} and {self.refuse_days}"
            found.append(f"secret_age: got {got}, expected warn_days, overdue_days and refuse_days to rise from 1 or more")
        for number, waiver in enumerate(self.waiver, start=1):
            found += [f"secret_age.waiver[{number}]: got no {key}, expected one" for key in waiver.unnamed]
            if waiver.secret not in secrets:
                known = ", ".join(filter(_NAME.fullmatch, secrets)) or "none is there"
                found.append(f"secret_age.waiver[{number}].secret: got one that is not in [secrets], expected one of: {known}")
        for name, secret in secrets.items():
            if not _NAME.fullmatch(name):
                found.append("secrets: got a name that no variable can have, expected letters, digits and _, at most 100")
                continue
            if not secret.owner.strip():
                found.append(f"secrets.{name}.owner: got nobody, expected who renews it")
            if secret.version < 1:
                found.append(f"secrets.{name}.version: got {secret.version}, expected 1 or more")
        return tuple(found)


@dataclass(frozen=True)
class SecretAge:
    """One secret today. `days` is None where nobody can tell."""

    name: str
    age: Age
    days: int | None = None
    kept: KeptSecret | None = None
    waiver: AgeWaiver | None = None

    @property
    def stops(self) -> bool:
        """Whether it keeps releases from going."""
        return self.age is Age.TOO_OLD and self.waiver is None

    def sentence(self) -> str:
        if self.kept is None:
            return f"{self.name} is not in [secrets]: nobody can tell its age"
        since = f"{self.days} days old" if self.days is not None else "of no day that can be right"
        told = f"{self.name} v{self.kept.version} is {since}, {self.age.value} ({self.kept.owner} renews it)"
        return f"{told}, waived by {self.waiver.owner} until {self.waiver.until}: {self.waiver.reason}" if self.waiver else told


def ages_of(
    secrets: Mapping[str, KeptSecret], policy: AgePolicy, *, today: date, present: Collection[str] = frozenset()
) -> tuple[SecretAge, ...]:
    """Each registered secret, and each of those `present` that nobody has registered; the worst first, then by name."""
    known = [_age_of(name, secret, policy, today=today) for name, secret in secrets.items()]
    unknown = [SecretAge(name, Age.UNKNOWN) for name in present if name not in secrets]
    order = list(Age)
    return tuple(sorted([*known, *unknown], key=lambda one: (order.index(one.age), one.name)))


def failing(ages: Iterable[SecretAge]) -> tuple[SecretAge, ...]:
    """Those whose rotation is overdue, waived or not."""
    return tuple(one for one in ages if one.age in (Age.TOO_OLD, Age.OVERDUE))


def _age_of(name: str, secret: KeptSecret, policy: AgePolicy, *, today: date) -> SecretAge:
    if secret.created is None or secret.created > today + AHEAD:
        days, age = None, Age.TOO_OLD
    else:
        days = max(0, (today - secret.created).days)
        age = policy.of(days)
    excuse = next((one for one in policy.waiver if one.secret == name and one.holds_on(today)), None) if age is Age.TOO_OLD else None
    return SecretAge(name, age, days, secret, excuse)
