"""What an environment's routing should be, as values, and what may not be asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from delivery.application import STRICT
from delivery.errors import DeliveryError, InvalidSettings
from delivery.file_rules import NAME, ROUTE


@dataclass(frozen=True)
class ServiceRoute:
    """One web service of one release: where its replicas are, which path prefixes it serves, which path tells that it is well."""

    __pydantic_config__ = STRICT

    servers: tuple[str, ...]
    routes: tuple[str, ...]
    health: str


@dataclass(frozen=True)
class ReleaseRoute:
    """One release in the routing; `weight` is its share in percent, 0 when it only stands by."""

    __pydantic_config__ = STRICT

    weight: int
    services: Mapping[str, ServiceRoute]


@dataclass(frozen=True)
class RoutingState:
    """What the environment's routing should be. `live` is the release that was promoted last; `fence` never goes down."""

    __pydantic_config__ = STRICT

    fence: int = 0
    live: str | None = None
    releases: Mapping[str, ReleaseRoute] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, int]:
        return {release: route.weight for release, route in self.releases.items()}

    @property
    def shares(self) -> dict[str, int]:
        """The releases that have users, with their percent."""
        return {release: weight for release, weight in self.weights.items() if weight}


def require_name(what: str, name: str) -> str:
    """The name, if it may stand in names of containers, networks and Traefik services. Raises `InvalidSettings`."""
    if not NAME.fullmatch(name):
        raise InvalidSettings(
            f"{what}: got {name[:80]!r}, expected up to 40 lower-case letters, digits and dashes.", next="correct the name."
        )
    return name


def refuse_unserved(environment: str, state: RoutingState) -> None:
    """Raises `DeliveryError` unless every user of the environment has somebody who answers."""
    total = sum(state.shares.values())
    if total not in (0, 100) or any(weight < 0 for weight in state.weights.values()):
        raise DeliveryError(
            f"The shares of {environment} are {state.weights}, expected them to add up to 100.", next="shift all users to one release."
        )
    for release_id, release in state.releases.items():
        for name, service in release.services.items():
            require_name("service", name)
            for prefix in service.routes:
                if not ROUTE.fullmatch(prefix):
                    raise InvalidSettings(
                        f"service {name}.routes: got {prefix[:80]!r}, expected a path such as /api.", next="correct greenroom.toml."
                    )
            if release.weight and not service.servers:
                raise DeliveryError(
                    f"Service {name} of {release_id} has no replica that runs, and was to get {release.weight} % of {environment}'s users.",
                    next=f"launch {release_id} again, or keep the users where they are.",
                )
