"""Where a release runs and under which policy: `deployments/environments/<name>.toml`, and how an environment stands right now.

The field names are the keys of the file. Durations are seconds there, since a TOML file has no durations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Literal

from delivery.alert_settings import AlertSettings
from delivery.application import STRICT
from delivery.backup import BackupSettings
from delivery.canary import JudgePolicy
from delivery.downgrade import DowngradePolicy
from delivery.environment_rules import ValueRules
from delivery.errors import InvalidSettings
from delivery.go import GoSettings
from delivery.image_policy import ImagePolicy
from delivery.inspection_settings import InspectionSettings
from delivery.operations import MigrationWaiver
from delivery.provenance import ProvenancePolicy, is_key_file
from delivery.secret_age import AgePolicy, KeptSecret
from delivery.triggers import Trigger

Kind = Literal["normal", "hotfix", "rollback", "config"]


class Capability(StrEnum):
    """What a target can do; an environment that asks for more is refused when its rollout is planned."""

    SPLIT_TRAFFIC = "split traffic"
    KEEP_BLUE = "keep blue"
    RUN_ONCE = "run once"
    DRAIN = "drain"
    PRIVATE_ADDRESS = "private address"
    COPY_DATABASE = "copy its database"
    BACK_UP = "back up its database"


@dataclass(frozen=True)
class Identity:
    """`target`, `secrets` and `notifier` are names of Prefect blocks; `after` is the environment a release must have lived in first."""

    __pydantic_config__ = STRICT

    name: str
    target: str
    notifier: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class ApprovalPolicy:
    """`automatic` asks nobody; `form` asks `quorum` distinct persons in the UI, CLI or API; the author is not one of them if excluded.
    `signed` does too, and counts those alone whose SSH signature is by a key in `allowed_signers`, a file in the folder of keys.
    A request that waits longer than `escalate_hours` is told once more, more loudly; 0: never. `break_glass` names a file like
    `allowed_signers`: a signature by one person in it, with a reason, stands for the quorum and beats the go/no-go rules. Empty: nobody.
    """

    __pydantic_config__ = STRICT

    policy: Literal["automatic", "form", "signed"] = "form"
    quorum: int = 1
    author_may_approve: bool = False
    expires_hours: float = 24.0
    automatic_for: tuple[Literal["hotfix"], ...] = ()
    allowed_signers: str = "allowed_signers"
    escalate_hours: float = 4.0
    break_glass: str = ""

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        found = []
        if self.quorum < 1:
            found.append(f"approval.quorum: got {self.quorum}, expected 1 or more")
        if self.expires_hours <= 0:
            found.append(f"approval.expires_hours: got {self.expires_hours}, expected more than 0")
        if self.escalate_hours < 0:
            found.append(f"approval.escalate_hours: got {self.escalate_hours}, expected 0 or more")
        if self.policy == "signed" and self.automatic_for:
            found.append(
                "approval.automatic_for: got hotfix, expected nothing where only signatures count: anybody can call a release a hotfix"
            )
        if not is_key_file(self.allowed_signers):
            found.append(f"approval.allowed_signers: got {self.allowed_signers[:80]!r}, expected the name of a file, without folders")
        if self.break_glass and not is_key_file(self.break_glass):
            found.append(f"approval.break_glass: got {self.break_glass[:80]!r}, expected the name of a file, without folders")
        if self.break_glass and self.policy == "automatic":
            found.append("approval.break_glass: got a file, expected none where nobody is asked")
        return tuple(found)


@dataclass(frozen=True)
class Traffic:
    """Green's share rises by `steps` (percent, rising to 100), is watched `watch_seconds` at each, `bake_seconds` at 100;
    blue stays warm for `hold_seconds` after the promotion.
    """

    __pydantic_config__ = STRICT

    steps: tuple[int, ...] = (10, 25, 50, 100)
    watch_seconds: float = 300.0
    bake_seconds: float = 300.0
    hold_seconds: float = 900.0


@dataclass(frozen=True)
class WatchSettings:
    """Scrapes every `interval_seconds`; rates and percentiles are taken over the last `window_seconds`, and count as unknown below
    `minimum_requests` in it. A watch that stays blind beyond its length plus `blind_seconds` turns the rollout back. `log_patterns` are
    plain texts that a log line contains.
    """

    __pydantic_config__ = STRICT

    interval_seconds: float = 5.0
    window_seconds: float = 60.0
    minimum_requests: int = 100
    blind_seconds: float = 300.0
    log_patterns: tuple[str, ...] = ("panic:", "FATAL", "Segmentation fault", "OutOfMemory")


@dataclass(frozen=True)
class JudgeSettings:
    """Compares green with blue while both have users, every `look_seconds` (a whole number of scrapes), and sends everybody back as soon as
    the evidence suffices. `alpha` bounds how often a release that is not worse is ever sent back. The first `warm_up_seconds` excuse slow
    answers, never errors. With `promote_early` a watch ends as soon as green is shown to be no worse by more than the margins (fractions:
    of errors, of answers slower than about blue's p95, than about its median).

    `error_noise` and `latency_noise` are the standard deviations of the healthy log ratios between two alike versions from look to look.
    """

    __pydantic_config__ = STRICT

    enabled: bool = True
    look_seconds: float = 15.0
    alpha: float = 0.01
    warm_up_seconds: float = 60.0
    promote_early: bool = False
    error_margin: float = 0.005
    slow_margin: float = 0.02
    median_margin: float = 0.05
    error_noise: float = 0.15
    latency_noise: float = 0.03

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        found = []
        if self.look_seconds <= 0:
            found.append(f"judge.look_seconds: got {self.look_seconds:g}, expected more than 0")
        if self.warm_up_seconds < 0:
            found.append(f"judge.warm_up_seconds: got {self.warm_up_seconds:g}, expected 0 or more")
        fractions = {key: getattr(self, key) for key in ("alpha", "error_margin", "slow_margin", "median_margin")}
        deviations = {key: getattr(self, key) for key in ("error_noise", "latency_noise")}
        found += [f"judge.{key}: got {one:g}, expected a fraction between 0 and 1" for key, one in fractions.items() if not 0 < one < 1]
        found += [
            f"judge.{key}: got {one:g}, expected a standard deviation from 0 to below 1"
            for key, one in deviations.items()
            if not 0 <= one < 1
        ]
        return tuple(found)

    def policy(self) -> JudgePolicy:
        return JudgePolicy(
            alpha=self.alpha,
            warm_up_seconds=self.warm_up_seconds,
            error_margin=self.error_margin,
            slow_margin=self.slow_margin,
            median_margin=self.median_margin,
            error_noise=self.error_noise,
            latency_noise=self.latency_noise,
        )


@dataclass(frozen=True)
class Deadlines:
    """How long one attempt at a step may take, in seconds."""

    __pydantic_config__ = STRICT

    prepare_seconds: float = 600.0
    migrate_seconds: float = 900.0
    prove_seconds: float = 1800.0
    backup_seconds: float = 1800.0
    launch_seconds: float = 180.0
    step_seconds: float = 120.0


@dataclass(frozen=True)
class Proving:
    """What a release must show here before users (smoke), before it is called live (load test, baseline), and before its migrations
    touch the database (clone): both versions pass their smoke requests on a copy that they were applied to. With `inspect` what users
    reach is looked at from outside once the release has every user, as `[inspection]` says.
    """

    __pydantic_config__ = STRICT

    smoke: bool = True
    load: bool = False
    clone: bool = False
    inspect: bool = False


@dataclass(frozen=True)
class VerificationSettings:
    """What users reach is asked every `interval_seconds` (the schedule looks each minute), with `timeout_seconds` for a whole answer. An
    endpoint that fails `alert_after` times in a row makes a person be told; at `rollback_after` the release before comes back, if
    `on_failure` is "rollback" and the failing began no longer than `newest_seconds` ago.
    """

    __pydantic_config__ = STRICT

    enabled: bool = False
    interval_seconds: float = 60.0
    timeout_seconds: float = 10.0
    alert_after: int = 3
    rollback_after: int = 5
    on_failure: Literal["alert", "rollback"] = "alert"
    newest_seconds: float = 1200.0

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        found = [
            f"verification.{key}: got {getattr(self, key):g}, expected more than 0"
            for key in ("interval_seconds", "timeout_seconds", "newest_seconds")
            if getattr(self, key) <= 0
        ]
        if self.alert_after < 1:
            found.append(f"verification.alert_after: got {self.alert_after}, expected 1 or more")
        least = max(2, self.alert_after)  # one failure is chance, and nobody goes back before a person is told
        if self.rollback_after < least:
            found.append(f"verification.rollback_after: got {self.rollback_after}, expected {least} or more")
        longest = self.interval_seconds * (self.rollback_after - 1)
        if self.on_failure == "rollback" and not found and longest >= self.newest_seconds:
            found.append(
                f"verification.newest_seconds: got {self.newest_seconds:g}, expected more than the {longest:g} s until the last failure"
            )
        return tuple(found)


@dataclass(frozen=True)
class Environment:
    """The whole environment file. It is read once, when a rollout is asked for, and frozen into the plan."""

    __pydantic_config__ = STRICT

    environment: Identity
    approval: ApprovalPolicy = ApprovalPolicy()
    traffic: Traffic = Traffic()
    watch: WatchSettings = WatchSettings()
    judge: JudgeSettings = JudgeSettings()
    deadlines: Deadlines = Deadlines()
    prove: Proving = Proving()
    backup: BackupSettings = field(default_factory=BackupSettings)
    downgrade: DowngradePolicy = field(default_factory=DowngradePolicy)
    verification: VerificationSettings = VerificationSettings()
    provenance: ProvenancePolicy = field(default_factory=ProvenancePolicy)
    image: ImagePolicy = field(default_factory=ImagePolicy)
    go: GoSettings = field(default_factory=GoSettings)
    inspection: InspectionSettings = field(default_factory=InspectionSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    trigger: tuple[Trigger, ...] = ()
    waiver: tuple[MigrationWaiver, ...] = ()
    secret_age: AgePolicy = field(default_factory=AgePolicy)
    secrets: Mapping[str, KeptSecret] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    values: ValueRules = field(default_factory=ValueRules)

    @property
    def name(self) -> str:
        return self.environment.name

    @property
    def title(self) -> str:
        return self.name.capitalize()

    @property
    def secret_versions(self) -> Mapping[str, int]:
        """Which version of each registered secret whatever is brought here now runs with."""
        return {name: kept.version for name, kept in self.secrets.items()}

    @property
    def provokes(self) -> bool:
        """Whether an inspection asks for more than pages: never where people approve, since real users are there."""
        return self.approval.policy == "automatic" if self.inspection.provoke is None else self.inspection.provoke

    def problems(self) -> tuple[str, ...]:
        """Everything that contradicts itself, as sentences `key: got …, expected …`; empty when the file is sound."""
        found = []
        steps = self.traffic.steps
        rising = all(lower < higher for lower, higher in pairwise((0, *steps)))
        if not steps or not rising or steps[-1] != 100:
            found.append(f"traffic.steps: got {list(steps)}, expected rising percentages that end at 100")
        for key, value in (
            ("traffic.watch_seconds", self.traffic.watch_seconds),
            ("traffic.bake_seconds", self.traffic.bake_seconds),
            ("traffic.hold_seconds", self.traffic.hold_seconds),
        ):
            if value < 0:
                found.append(f"{key}: got {value}, expected 0 or more")
        if self.watch.interval_seconds <= 0:
            found.append(f"watch.interval_seconds: got {self.watch.interval_seconds}, expected more than 0")
        if self.watch.window_seconds < self.watch.interval_seconds:
            found.append(f"watch.window_seconds: got {self.watch.window_seconds}, expected at least interval_seconds")
        if any(not pattern for pattern in self.watch.log_patterns):
            found.append("watch.log_patterns: got an empty text, which every line contains, expected texts to look for")
        found += self.judge.problems()
        found += [problem for trigger in self.trigger if (problem := trigger.problem())]
        found += self.verification.problems()
        found += [
            f"waiver {number}: got no {key}, expected one" for number, waiver in enumerate(self.waiver, start=1) for key in waiver.unnamed
        ]
        found += self.backup.problems()
        found += self.provenance.problems()
        found += self.image.problems()
        found += self.go.problems()
        found += self.alerts.problems()
        found += self.approval.problems()
        found += self.secret_age.problems(self.secrets)
        found += self.inspection.problems()
        if self.inspection.provoke and self.approval.policy != "automatic":
            found.append(
                "inspection.provoke: got true where people approve, expected it only where nobody does: users get no such requests"
            )
        for key in ("soak_seconds", "open_findings"):
            if getattr(self.go, key) and self.environment.after is None:
                found.append(f"go.{key}: got an environment that comes after none, expected environment.after")
        found += self.secret_age.problems(self.secrets)
        return tuple(found)

    def require_sound(self, *, file: str) -> "Environment":
        found = self.problems()
        if found:
            raise InvalidSettings("\n".join(f"{file} {line}" for line in found), next="correct the environment file.")
        return self


@dataclass(frozen=True)
class Standing:
    """What a target observes: who gets which share of requests (percent, by release id), whose replicas are up, the highest
    fencing token seen, and of whom anything is there at all, be it stopped.
    """

    weights: Mapping[str, int]
    running: frozenset[str]
    fence: int
    present: frozenset[str] = frozenset()

    @property
    def live(self) -> str | None:
        """The release that gets every request, if there is one."""
        return next((release for release, percent in self.weights.items() if percent == 100), None)
