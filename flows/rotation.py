"""A secret's rotation, step by step: where it stands, what comes next, and the rollout when it is due."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from prefect import flow

from delivery.environment import Environment
from delivery.errors import DeliveryError, InvalidSettings
from delivery.ports import LettingIn, Target
from delivery.release import Release
from delivery.rotation import Login, Rotation, RotationStep, SecretVersions, rotation_of
from flows.assembly import House, open_house
from flows.messages import in_one_message
from flows.parameters import EnvironmentName, SecretName
from flows.pipeline import start_promotion
from flows.telling import leave_artifact, this_run


@flow(name="rotation", flow_run_name="{secret} of {environment}", retries=0, persist_result=False)
@in_one_message
def rotation(environment: EnvironmentName, secret: SecretName) -> str:
    """Looks how far the rotation of a secret has come, and asks for the rollout when the new version is ready for it. Start it as often as
    you like: it goes on where the rotation stands, and tells what it waits for.

    Args:
        environment: The environment whose secret is renewed.
        secret: The secret variable, for instance DATABASE_URL.

    """
    with open_house() as house:
        found = look(house, environment, secret)
        if run_id := this_run():
            leave_artifact(run_id, f"rotation-{environment}", "table", json.dumps(rows(found)), found.sentence())
        if found.waits_for and found.waits_for.step is RotationStep.ROLL_OUT:
            return f"{found.sentence()} {roll_out(house, found, key=str(run_id))}"
        if found.waits_for and found.waits_for.step is RotationStep.VERIFY:
            raise DeliveryError(found.sentence(), next=found.waits_for.next)
        return f"{found.sentence()} Next: {found.next}"


def look(house: House, environment_name: str, name: str) -> Rotation:
    """Where the rotation stands, from the secrets, the environment's file, the journal, the target and the database. Changes nothing."""
    environment = house.environment(environment_name)
    names = house.secret_names(environment)
    if name not in names:
        raise InvalidSettings(
            f"{environment.title} has no secret {name[:100]!r}, expected one of: {', '.join(sorted(names)) or 'there is none'}.",
            next="correct the name, or add it to the environment-secrets block.",
        )
    named = environment.secret_versions.get(name)
    there = tuple(house.secret_versions(environment).get(name, (named or 1,)))
    target, live = house.target(environment), house.store.live(environment.name)
    return rotation_of(
        SecretVersions(
            environment=environment.name,
            name=name,
            there=there,
            named=named,
            live=_version_of(live, name, there) if live else None,
            warm=_still_with_an_older(house, environment, target, live, name, there) if live else (),
            logins=_logins(target, environment, live, name, there) if live else None,
        )
    )


def roll_out(house: House, found: Rotation, *, key: str) -> str:
    """Asks for the rollout, unless somebody has asked already; where people approve it, they do."""
    secret = found.secret
    for request in house.store.requests(environment=secret.environment, open_only=True):
        if request.plan.release.secrets.get(secret.name) == secret.newest:
            return f"Request {request.number} asks for it already: {house.run_link(request.key)}"
    live = house.store.live(secret.environment)
    if live is None:
        raise InvalidSettings(f"{secret.environment.capitalize()} runs nothing yet.", next="release something: it begins with the new one.")
    run = start_promotion(live.build, secret.environment, "config", key=f"rotate-{secret.environment}-{secret.name}-{secret.newest}-{key}")
    return f"The rollout of version {secret.newest} is asked for: {house.run_link(run)}"


def rows(found: Rotation) -> Sequence[Mapping[str, object]]:
    """As the table has them; what nobody can tell is null."""
    return [{"step": one.step.value, "done": one.done, "what": one.what, "next": one.next} for one in found.findings]


def _version_of(release: Release, name: str, there: Sequence[int]) -> int:
    """As the target chooses it (`EnvironmentSecrets.given`)."""
    wanted = release.secrets.get(name, there[0])
    return wanted if wanted in there else there[-1]


def _still_with_an_older(
    house: House, environment: Environment, target: Target, live: Release, name: str, there: Sequence[int]
) -> tuple[tuple[str, datetime | None], ...]:
    """Releases whose replicas are up beside the live one's, with an older version than the newest."""
    lived = {one.id: one for one in house.store.lived(environment.name, newest=100)}
    up = sorted(target.observe().running - {live.id})
    older = [id_ for id_ in up if _version_of(lived.get(id_, live), name, there) != there[-1] or id_ not in lived]
    promoted = next((one for one in house.store.rollouts(environment=environment.name) if one.promoted_at is not None), None)
    until = promoted.promoted_at + timedelta(seconds=environment.traffic.hold_seconds) if promoted and promoted.promoted_at else None
    return tuple((id_, until if promoted and promoted.blue == id_ else None) for id_ in older)


def _logins(target: Target, environment: Environment, live: Release, name: str, there: Sequence[int]) -> Mapping[int, Login | None] | None:
    """What the database says to the oldest and to the newest version; None for a secret that opens none."""
    settings = live.migrations
    if settings is None or settings.database != name or not isinstance(target, LettingIn):
        return None
    return {number: target.login_of(live.with_secret(name, number), variables=environment.variables) for number in (there[0], there[-1])}
