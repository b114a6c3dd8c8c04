"""What an environment gives to the services of a release, looked at before anything is begun. Values are read here, and names are told."""

import secrets
from collections.abc import Iterator

from blocks.settings import environment_names
from delivery.environment import Environment
from delivery.environment_rules import Known, Trouble, Values, look, troubles
from delivery.errors import DeliveryError, InvalidSettings
from delivery.plan import Plan
from delivery.release import Release
from flows.assembly import House

# Two values are the same when their fingerprints under this key are. It is made anew by each process and told to nobody.
_KEY = secrets.token_bytes(32)


def values_of(house: House, environment: Environment) -> Values:
    """What an environment has: the variables of its file, and the secrets of its target where the target has a block of them."""
    block, place = house.secrets(environment), str(getattr(house.target(environment), "network", environment.name))
    known: dict[str, Known] = {name: look(name, value, key=_KEY, place=place) for name, value in environment.variables.items()}
    for name, value in block.given(environment.secret_versions).items() if block is not None else ():
        known[name] = look(name, value.get_secret_value(), key=_KEY, place=place)
    return Values(environment.name, first=environment.environment.after is None, known=known, whole=block is not None)


def troubles_of(house: House, environment: Environment, release: Release | None = None) -> tuple[Trouble, ...]:
    """Everything that is wrong with what an environment gives to a release; without one, what is wrong whoever comes."""
    return troubles(
        values_of(house, environment),
        _others(house, environment.name),
        release.services if release else (),
        migrated=release.migrations.database if release and release.migrations else "",
        shared=environment.values.shared,
    )


def require_values(house: House, environment: Environment, release: Release | None = None) -> None:
    """Raises `InvalidSettings` with all that is certain to be wrong."""
    certain = [trouble for trouble in troubles_of(house, environment, release) if trouble.certain]
    if certain:
        raise InvalidSettings(
            f"{environment.title} is unchanged. " + "; ".join(trouble.what for trouble in certain) + ".",
            next=" ".join(dict.fromkeys(trouble.next for trouble in certain)),
        )


def require_values_for(house: House, plan: Plan) -> None:
    """As `require_values`, for what a plan brings. The way back asks nobody: it leads to what has run there."""
    if plan.kind == "rollback":
        return
    for name, there in house.secret_versions(plan.environment).items():
        wanted = plan.release.secrets.get(name, there[0])
        if wanted not in there:
            known = " and ".join(map(str, there))
            raise InvalidSettings(
                f"{plan.environment.title} is unchanged. It is to run with version {wanted} of {name}, and the secrets have {known}.",
                next=f"add {name}@{wanted} to the environment-secrets block, or correct version in [secrets.{name}].",
            )
    require_values(house, plan.environment, plan.release)


def _others(house: House, name: str) -> Iterator[Values]:
    """The other environments, as far as they can be seen: who looks at those is told why one cannot."""
    for other in environment_names(house.settings.environments_dir):
        if other != name:
            try:
                yield values_of(house, house.environment(other))
            except DeliveryError:
                continue
