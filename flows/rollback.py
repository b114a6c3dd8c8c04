"""Back to a release that has already lived here: no approval, no migration, one shift."""

from collections.abc import Callable

from prefect import flow

from delivery.errors import InvalidSettings
from delivery.plan import plan_rollout
from delivery.record import RolloutRecord
from delivery.redaction import redacted
from delivery.release import Release
from delivery.source import Semver
from flows.assembly import House, open_house
from flows.messages import in_one_message
from flows.parameters import EnvironmentName, PersonName, Reason, VersionText
from flows.rollout import Progress, result_of, rollout_of_this_run, run_rollout
from flows.telling import Telling
from tasks.scene import tell_nobody


@flow(name="rollback", flow_run_name="{environment} back", retries=0, persist_result=False)
@in_one_message
def rollback(
    environment: EnvironmentName, reason: Reason, version: VersionText | None = None, by: PersonName = "somebody in Prefect"
) -> str:
    """Brings the previous release back, at once and without asking anybody. The journal keeps who did it and why.

    Args:
        environment: The environment to bring back.
        reason: Why, in one sentence.
        version: The version to go back to, for instance v1.4.1; empty for the one that was live before.
        by: Your name.

    """
    with open_house() as house, Telling() as telling:
        return result_of(go_back(house, environment, version=version, reason=reason, by=by, telling=telling))


def go_back(
    house: House,
    environment_name: str,
    *,
    version: str | None,
    reason: str,
    by: str,
    telling: Telling,
    on_progress: Progress = tell_nobody,
    verify: Callable[[], object] = lambda: None,
) -> RolloutRecord:
    """The rollback itself, with Prefect or without. Raises `InvalidSettings` before anything is touched when there is nowhere to go, and
    what `verify` raises once nobody else can act.
    """
    environment, who = house.environment(environment_name), redacted(f"{by}: {reason}")
    if done := rollout_of_this_run(house, environment_name, kind="rollback", by=who):
        return done
    release = release_to_go_back_to(house, environment_name, version)
    plan = plan_rollout(
        release,
        environment,
        capabilities=house.target(environment).capabilities,
        blue=house.store.live(environment_name),
        kind="rollback",
    )
    return run_rollout(house, plan, by=who, telling=telling, verify=verify, on_progress=on_progress)


def release_to_go_back_to(house: House, environment: str, version: str | None) -> Release:
    """The release of `version`, which must have been live here, or else the one that was live before the present one."""
    brought = house.store.lived(environment, newest=100)
    before = brought[1:]
    if version is None:
        others = (one for one in before if one.build != brought[0].build or _has_its_secrets(house, environment, one))
        if (previous := next(others, None)) is None:
            raise InvalidSettings(
                f"{environment.capitalize()} is unchanged. No release was live there before the present one.",
                next="name a version, or release a mended one.",
            )
        return previous
    release = house.store.release_of(Semver.parse(version))
    if (with_its_secrets := next((one for one in before if one.build == release.build), None)) is not None:
        return with_its_secrets
    lived = {record.release for record in house.store.rollouts(environment=environment, limit=1000) if record.promoted_at}
    if release.id not in lived:
        raise InvalidSettings(
            f"{environment.capitalize()} is unchanged. {release.id} has never been live there, and going back asks nobody.",
            next=f"promote it instead: it needs an approval for {environment}.",
        )
    return release


def _has_its_secrets(house: House, environment: str, release: Release) -> bool:
    """Whether the versions that it ran with are still there: going back to the same images takes a renewed secret back, or does nothing."""
    there = house.secret_versions(house.environment(environment))
    return all(number in there[name] for name, number in release.secrets.items() if name in there)
