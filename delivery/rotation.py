"""Renewing a secret without anybody noticing: two versions are valid at once, the users move from one to the other as to a new release, and
the old one is taken away when nobody uses it. Each step is read from how things stand, so that whoever looks next goes on where the last
one died.

A version is pending, current or previous, as secret stores name them (AWS Secrets Manager: AWSPENDING, AWSCURRENT, AWSPREVIOUS). The old
one is disabled before it is deleted: what still needs it shows while it can be brought back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RotationStep(StrEnum):
    """In their order."""

    ADD = "add"  # the provider knows a second version, and the secrets have it beside the first
    VERIFY = "verify"  # the database lets it in, and it may do everything that the old one may
    NAME = "name"  # the environment's file says that it is the one
    ROLL_OUT = "roll out"  # the live release runs with it
    RELEASE = "let go"  # nobody works with the old one any more
    DISABLE = "disable"  # the database refuses the old one
    FORGET = "forget"  # the secrets do not have it any more


@dataclass(frozen=True)
class Login:
    """What a database says of whom one version lets in: the role, what it may do, and the sessions of every role there now."""

    role: str
    rights: frozenset[str]
    sessions: Mapping[str, int]


@dataclass(frozen=True)
class SecretVersions:
    """How one secret stands in one environment. `there` are its versions, oldest first; `named` is the one that the file names, `live` the
    one that the live release runs with; `warm` are the releases that still run with an older one, and until when they are held.

    `logins` are what the database says to the oldest and the newest version, None where it refuses one. They are not there for a secret
    that opens no database: then nobody can tell.
    """

    environment: str
    name: str
    there: tuple[int, ...]
    named: int | None
    live: int | None
    warm: tuple[tuple[str, datetime | None], ...] = ()
    logins: Mapping[int, Login | None] | None = None

    @property
    def newest(self) -> int:
        return self.there[-1]

    @property
    def oldest(self) -> int:
        return self.there[0]


@dataclass(frozen=True)
class Finding:
    """One step: is it done (None: nobody can tell), what was seen, and what to do where it is not."""

    step: RotationStep
    done: bool | None
    what: str
    next: str = ""


@dataclass(frozen=True)
class Rotation:
    """All steps as they stand."""

    secret: SecretVersions
    findings: tuple[Finding, ...]

    @property
    def waits_for(self) -> Finding | None:
        """The first step that is not done; None where all are. What nobody can tell holds nothing up."""
        return next((one for one in self.findings if one.done is False), None)

    @property
    def next(self) -> str:
        """What to do now."""
        return (self.waits_for or self.findings[-1]).next

    def sentence(self) -> str:
        where = f"{self.secret.environment.capitalize()}, {self.secret.name}"
        if (found := self.waits_for) is None:
            return f"{where}: version {self.secret.newest} is the only one left, and everybody works with it."
        return f"{where}: {found.what}."


def rotation_of(secret: SecretVersions) -> Rotation:
    """Every step in its order, from the facts alone."""
    return Rotation(secret, tuple(_findings(secret)))


def _findings(secret: SecretVersions) -> Iterator[Finding]:
    name, old, new = secret.name, secret.oldest, secret.newest
    if old == new:
        begin = f"to renew it, make a second one at the provider, and put {name}@{new + 1} beside {name}@{new} into the secrets block."
        if secret.named == secret.live == new:
            yield Finding(
                RotationStep.FORGET, done=True, what=f"only version {new} is there, and the live release runs with it", next=begin
            )
            return
        yield Finding(RotationStep.ADD, done=False, what=f"there is one version, {new}", next=begin)
        return
    yield Finding(RotationStep.ADD, done=True, what=f"versions {', '.join(map(str, secret.there))} are there")
    yield _verified(secret)
    yield Finding(
        RotationStep.NAME,
        done=secret.named == new,
        what=f"the environment's file names version {secret.named or 'none'}",
        next=f"write version = {new} and the day it was made into [secrets.{name}] of {secret.environment}.toml.",
    )
    yield Finding(
        RotationStep.ROLL_OUT,
        done=secret.live == new,
        what=f"the live release runs with version {secret.live}",
        next=f"`greenroom rotate {secret.environment} {name}`: it is rolled out as any release is.",
    )
    yield _let_go(secret)
    yield _disabled(secret)
    yield Finding(
        RotationStep.FORGET,
        done=False,
        what=f"version {old} is still among the secrets",
        next=f"take {name}@{old} out of the environment-secrets block.",
    )


def _verified(secret: SecretVersions) -> Finding:
    if secret.logins is None:
        return Finding(RotationStep.VERIFY, done=None, what="it opens no database, so that only the rollout can try it")
    before, after = secret.logins[secret.oldest], secret.logins[secret.newest]
    if after is None:
        return Finding(
            RotationStep.VERIFY,
            done=False,
            what=f"the database refuses version {secret.newest}",
            next=f"correct {secret.name}@{secret.newest} in the environment-secrets block, or the role at the provider.",
        )
    missing = sorted(before.rights - after.rights) if before else []
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return Finding(
            RotationStep.VERIFY,
            done=False,
            what=f"{after.role} may not do what {before.role if before else ''} may: {', '.join(missing[:3])}{more}",
            next=f"grant it to {after.role}.",
        )
    return Finding(RotationStep.VERIFY, done=True, what=f"{after.role} is let in, and may do everything that it must")


def _let_go(secret: SecretVersions) -> Finding:
    held = [f"{release} until {until:%Y-%m-%d %H:%M} UTC" if until else release for release, until in secret.warm]
    if held:
        return Finding(
            RotationStep.RELEASE,
            done=False,
            what=f"still running with an older version: {', '.join(held)}",
            next="nothing: what is held warm is retired by itself. Look again then.",
        )
    before, after = (secret.logins or {}).get(secret.oldest), (secret.logins or {}).get(secret.newest)
    if before is None or after is None or before.role == after.role:
        return Finding(RotationStep.RELEASE, done=None, what="nothing of this environment runs with an older version")
    # Asking makes a session of its own, which is not counted.
    sessions = after.sessions.get(before.role, 0)
    return Finding(
        RotationStep.RELEASE,
        done=not sessions,
        what=f"{before.role} has {sessions} sessions" if sessions else f"{before.role} has no session",
        next=f"find out who else uses {before.role}: pg_stat_activity tells from where.",
    )


def _disabled(secret: SecretVersions) -> Finding:
    if secret.logins is None:
        return Finding(RotationStep.DISABLE, done=None, what="nobody here can try whether the old version is refused")
    before = secret.logins[secret.oldest]
    return Finding(
        RotationStep.DISABLE,
        done=before is None,
        what=f"the database {'refuses' if before is None else 'still lets in'} version {secret.oldest}",
        next=f"disable it at the provider, for instance ALTER ROLE {before.role if before else ''} NOLOGIN; delete it a day later.",
    )
