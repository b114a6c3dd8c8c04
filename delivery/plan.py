"""A rollout as data: which steps, in which order, and which way back."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from delivery.application import STRICT
from delivery.downgrade import NEVER
from delivery.environment import Capability, Environment, Kind, Proving
from delivery.errors import InvalidSettings
from delivery.release import Release


class StepKind(StrEnum):
    """Forward: prepare … drain. Back: restore … downgrade."""

    PREPARE = "prepare"  # images are on the host, networks exist
    PROVE = "prove"  # on a copy of the database the migrations suit the versions that serve
    BACKUP = "backup"  # what the migrations would change is kept as it is
    MIGRATE = "migrate"  # the schema is at the release's heads
    LAUNCH = "launch"  # green is up, without users
    CHECK = "check"  # green is ready and answers with the version that was shipped
    SMOKE = "smoke"  # green answers the application's own smoke requests
    SHIFT = "shift"  # green gets `percent` of the requests
    WATCH = "watch"  # green is watched for `seconds` at its present share
    LOAD = "load"  # a short open-loop load, its metrics kept as the baseline
    INSPECT = "inspect"  # what users reach is looked at from outside: headers, TLS, pages that show too much
    PROMOTE = "promote"  # green is the live release: the point of no return
    ANNOUNCE = "announce"  # the application's hooks
    DRAIN = "drain"  # blue finishes what it has begun, and stays warm
    RESTORE = "restore"  # blue gets every request
    COLLECT = "collect"  # green's logs are kept for the post-mortem
    REMOVE = "remove"  # green is stopped, its containers kept for the post-mortem
    DOWNGRADE = "downgrade"  # the schema is where it was before, if every condition for that holds; else it stays


@dataclass(frozen=True)
class Step:
    """One act of a rollout. `name` is unique within the plan; `percent` is green's share; `seconds` is how long to watch;
    `deadline_seconds` bounds one attempt.
    """

    __pydantic_config__ = STRICT

    name: str
    kind: StepKind
    deadline_seconds: float
    percent: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Plan:
    """What a rollout does, decided before it begins and kept in its first journal entry: a resumed rollout goes on with the plan that
    was approved, not with today's settings. `blue` is None for the first release of an environment. `planned` and `remediates` (the rollout
    whose failure this one mends) are for the delivery metrics. `elsewhere` are versions that serve where the release goes next: its
    migrations are proven beside them as well.
    """

    __pydantic_config__ = STRICT

    environment: Environment
    release: Release
    blue: Release | None
    kind: Kind
    forward: tuple[Step, ...]
    back: tuple[Step, ...]
    request: int | None = None
    elsewhere: tuple[Release, ...] = ()
    planned: bool = True
    remediates: str | None = None

    @property
    def reviewed(self) -> Mapping[str, str] | None:
        """The revisions that may run, with the hashes of their files; None before the first version, when nobody could notice one."""
        if self.blue is None:
            return None
        return self.release.review.hashes() if self.release.review else {}

    def beside(self, elsewhere: Iterable[Release]) -> "Plan":
        """The same plan, with the versions that serve where the release goes next."""
        return replace(self, elsewhere=tuple(one for one in elsewhere if self.blue is None or one.build != self.blue.build))

    @property
    def brings_code(self) -> bool:
        """False for the live images under other settings: nothing of them can be pending."""
        return _brings_code(self.release, self.blue)

    @property
    def step_names(self) -> tuple[str, ...]:
        return tuple(step.name for step in self.forward)

    def sentence(self) -> str:
        came_from = f"from {self.blue.version.tag} " if self.blue else ""
        shares = [f"{step.percent} %" for step in self.forward if step.kind is StepKind.SHIFT]
        return f"{self.environment.title} {came_from}to {self.release.version.tag} by {', '.join(shares)}"


def plan_rollout(
    release: Release,
    environment: Environment,
    *,
    capabilities: Iterable[Capability],
    blue: Release | None,
    kind: Kind = "normal",
    request: int | None = None,
    planned: bool = True,
    remediates: str | None = None,
) -> Plan:
    """The plan that brings `environment` from `blue` to `release`.

    A rollback goes to a release that has already lived here: no migration (the schema stays, the old version is proven on it), no
    gradual shift, no load test; it runs with the secrets that it had here. Whatever goes forward runs with the versions of secrets that the
    environment's file names. The same images under other settings bring no migration. Raises `InvalidSettings` when the target cannot do
    what the environment asks for.
    """
    _refuse_what_cannot_be(environment, frozenset(capabilities), blue=blue, release=release)
    limits = environment.deadlines
    going_back = kind == "rollback"
    release = release if going_back else replace(release, secrets=environment.secret_versions)

    def step(kind: StepKind, *, name: str = "", percent: int | None = None, seconds: float | None = None, deadline: float = 0.0) -> Step:
        return Step(
            name=name or kind.value,
            kind=kind,
            deadline_seconds=deadline or limits.step_seconds,
            percent=percent,
            seconds=seconds,
        )

    forward = [step(StepKind.PREPARE, deadline=limits.prepare_seconds)]
    if release.migrations and _brings_code(release, blue) and not going_back:
        proof = [step(StepKind.PROVE, deadline=limits.prove_seconds)] if environment.prove.clone and blue is not None else []
        kept = [step(StepKind.BACKUP, deadline=limits.backup_seconds)] if _backs_up(environment, frozenset(capabilities)) else []
        forward += [*proof, *kept, step(StepKind.MIGRATE, deadline=limits.migrate_seconds)]
    forward += [step(StepKind.LAUNCH, deadline=limits.launch_seconds), step(StepKind.CHECK, deadline=limits.launch_seconds)]
    if environment.prove.smoke and release.reading_smoke:
        forward.append(step(StepKind.SMOKE))
    for percent in (100,) if going_back or blue is None else environment.traffic.steps:
        forward.append(step(StepKind.SHIFT, name=f"shift-{percent}", percent=percent))
        seconds = environment.traffic.bake_seconds if percent == 100 else environment.traffic.watch_seconds
        if seconds and blue is not None and not going_back:
            forward.append(
                step(
                    StepKind.WATCH,
                    name=f"watch-{percent}",
                    percent=percent,
                    seconds=seconds,
                    deadline=seconds + environment.watch.blind_seconds + limits.step_seconds,
                )
            )
    if not going_back:
        forward += [step(kind, deadline=seconds + limits.step_seconds) for kind, seconds in _last_proofs(environment.prove, release)]
    forward.append(step(StepKind.PROMOTE))
    if release.hooks:
        forward.append(step(StepKind.ANNOUNCE))
    if blue is not None:
        longest = max(service.drain_seconds for service in blue.services)
        forward.append(step(StepKind.DRAIN, deadline=longest + limits.step_seconds))

    longest = max(service.drain_seconds for service in release.services)
    back = [step(StepKind.RESTORE)]
    if blue is not None and blue.hooks:
        back.append(step(StepKind.ANNOUNCE, name="announce-rollback"))
    back += [step(StepKind.COLLECT), step(StepKind.REMOVE, deadline=longest + limits.step_seconds)]
    back += [step(StepKind.DOWNGRADE, deadline=limits.migrate_seconds)] if _may_take_schema_back(environment, forward, blue) else []
    return Plan(
        environment=environment,
        release=release,
        blue=blue,
        kind=kind,
        forward=tuple(forward),
        back=tuple(back),
        request=request,
        planned=planned,
        remediates=remediates,
    )


def _brings_code(release: Release, blue: Release | None) -> bool:
    return blue is None or blue.build != release.build


def _last_proofs(wanted: Proving, release: Release) -> Iterator[tuple[StepKind, float]]:
    """What is tried once the release has every user, with the seconds that it takes by itself."""
    if wanted.load and release.load:
        yield StepKind.LOAD, release.load.seconds
    if wanted.inspect:
        yield StepKind.INSPECT, 0.0


def _backs_up(environment: Environment, able: Collection[Capability]) -> bool:
    wanted, can = environment.backup.before_migrations, bool(environment.backup.hook) or Capability.BACK_UP in able
    return can and environment.environment.after is not None if wanted is None else wanted


def _may_take_schema_back(environment: Environment, forward: Iterable[Step], blue: Release | None) -> bool:
    """Whether it does is decided then (`delivery/downgrade.py`)."""
    migrates = any(step.kind is StepKind.MIGRATE for step in forward)
    return environment.downgrade.allow != NEVER and blue is not None and migrates


def _refuse_what_cannot_be(environment: Environment, able: Collection[Capability], *, blue: Release | None, release: Release) -> None:
    if blue is not None and blue.id == release.id:
        raise InvalidSettings(
            f"{environment.title} already runs {release.id}.",
            next="release another version, roll back to an earlier one, or bring it new settings: kind config.",
        )
    require_able(environment, able)
    if Capability.RUN_ONCE not in able and release.migrations:
        raise InvalidSettings(
            f"Release {release.id} carries migrations, and {environment.name}'s target cannot run one-off commands.",
            next="use a target that can, or move the migrations to the platform's own pre-deploy command.",
        )


def require_able(environment: Environment, able: Collection[Capability]) -> None:
    """Raises `InvalidSettings` with the alternative when the environment asks for what its target cannot do."""
    if Capability.SPLIT_TRAFFIC not in able and environment.traffic.steps != (100,):
        raise InvalidSettings(
            f"{environment.title} asks for traffic steps {list(environment.traffic.steps)}, and its target cannot split traffic.",
            next="set traffic.steps = [100], or use a target that splits traffic (docker, ecs, kubernetes).",
        )
    if environment.prove.clone and Capability.COPY_DATABASE not in able:
        raise InvalidSettings(
            f"{environment.title} asks for migrations to be proven on a copy of its database, and its target cannot make one.",
            next="give the docker-target block a postgresql_image, or set prove.clone = false.",
        )
    if environment.backup.before_migrations and not environment.backup.hook and Capability.BACK_UP not in able:
        raise InvalidSettings(
            f"{environment.title} asks for a backup of its database before migrations, and its target cannot take one.",
            next="give the docker-target block a postgresql_image, or name the platform's own snapshot as backup.hook.",
        )
